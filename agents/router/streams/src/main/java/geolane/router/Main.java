package geolane.router;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.MetricName;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.ThreadMetadata;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/**
 * The router's data plane on Kafka Streams, under the supervision of `geolane router` (docs/router-engines.md). Standard
 * input has the configuration in its first line, then commands, each a line of JSON; its end means that the supervisor is
 * gone, and this process leaves the group and ends within 3 s. Standard output has one line of JSON each second; the log is standard error.
 */
public final class Main {
  static final int FAILED = 1;
  /** The heap is full. */
  static final int FULL = 3;
  /** The lease is lost. */
  static final int LOST = 4;
  /** A topic does not take what it is sent. */
  static final int REFUSED = 5;
  private static final String CLASSIC = "classic";
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Duration CLOSE = Duration.ofSeconds(8);
  private static final Duration ALONE = Duration.ofSeconds(3);
  private static final long FEATURES_S = 30;
  private static final long LIMITS_S = 60;

  private final Config config;
  private final PrintStream out;
  private final CountDownLatch stopped = new CountDownLatch(1);
  private final Admin admin;
  private final Clients clients;
  private final TopicLimits limits;
  private final KafkaStreams streams;
  private final String protocol;
  private volatile Config.Tuning tuning;
  private volatile String failure = "";
  private volatile boolean lost;
  private volatile boolean full;
  private volatile boolean refused;
  private volatile boolean alone;

  private Main(Config config, PrintStream out) throws InterruptedException {
    this.config = config;
    this.out = out;
    tuning = config.tuning();
    admin = Admin.create(new HashMap<String, Object>(config.kafka()));
    protocol = chooseProtocol();
    clients = new Clients(config.lease(), config.topics().raw());
    CommittedCounts counts = new CommittedCounts(admin, config.group());
    limits = new TopicLimits(admin, config.topics().lanes(), config.topics().unplaced(), config.topics().dead());
    limits.read();
    streams = new KafkaStreams(Sorting.topology(config, counts::read, () -> tuning, limits), properties(), clients);
    streams.setUncaughtExceptionHandler(error -> {
      String refusal = Refused.find(error).isEmpty() ? clients.refusal() : Refused.find(error);
      refused = !refusal.isEmpty();
      failure = refused ? refusal : describe(error);
      lost = has(error, Lease.Lost.class);
      full = has(error, OutOfMemoryError.class);
      stopped.countDown();
      return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
    });
  }

  public static void main(String[] arguments) throws Exception {
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    System.setOut(System.err); // standard output is the supervisor's alone
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    String first = in.readLine();
    if (first == null) System.exit(FAILED);
    Main main = new Main(Config.parse(first), out);
    Thread commands = new Thread(() -> main.readCommands(in), "commands");
    commands.setDaemon(true);
    commands.start();
    System.exit(main.run());
  }

  private int run() throws InterruptedException {
    streams.start();
    Thread reader = new Thread(this::readLimits, "limits");
    reader.setDaemon(true);
    reader.start();
    while (!stopped.await(1, TimeUnit.SECONDS)) {
      report();
      if (clients.hasProducerDied()) System.exit(FULL); // its thread ends by an error alone
    }
    streams.close(CloseOptions.timeout(CLOSE).withGroupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
    report();
    if (alone) deleteFolder();
    return failure.isEmpty() ? 0 : lost ? LOST : full ? FULL : refused ? REFUSED : FAILED;
  }

  private void readLimits() {
    try {
      while (!stopped.await(LIMITS_S, TimeUnit.SECONDS)) limits.read();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private void readCommands(BufferedReader in) {
    try {
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        JsonNode command = JSON.readTree(line);
        if (command.has("read")) Unread.answer(config.topics().raw(), command.get("read"));
        if (command.has("tuning")) tuning = JSON.treeToValue(command.get("tuning"), Config.Tuning.class);
        if (command.path("stop").asBoolean()) stopped.countDown();
      }
    } catch (IOException e) {
      System.err.println("commands: " + e);
    }
    // Nobody looks after us any more: leave the group, so that others need not wait for our session to end.
    alone = true;
    stopped.countDown();
    try {
      Thread.sleep(ALONE.toMillis());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    Runtime.getRuntime().halt(FAILED);
  }

  /** Kafka Streams' own group protocol (KIP-1071) where the brokers have it, otherwise that of consumers. */
  private String chooseProtocol() throws InterruptedException {
    if (config.protocol().equals(CLASSIC)) return CLASSIC;
    try {
      var features = admin.describeFeatures().featureMetadata().get(FEATURES_S, TimeUnit.SECONDS).finalizedFeatures();
      var version = features.get("streams.version");
      return version != null && version.maxVersionLevel() >= 1 ? "streams" : CLASSIC;
    } catch (ExecutionException | TimeoutException e) {
      // To guess wrong would end the members that are there.
      throw new IllegalStateException("the brokers' features are not known: " + e, e);
    }
  }

  private Properties properties() {
    Properties p = new Properties();
    p.putAll(config.kafka());
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, config.group());
    p.put(StreamsConfig.CLIENT_ID_CONFIG, config.lease().transactionalId());
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    p.put(StreamsConfig.GROUP_PROTOCOL_CONFIG, protocol);
    p.put(StreamsConfig.STATE_DIR_CONFIG, config.stateDir());
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    // The processor asks for commits; this only bounds how long a transaction is open if it does not.
    p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, config.transactionTimeoutMs() / 2);
    p.put(StreamsConfig.POLL_MS_CONFIG, SortProcessor.LOOK.toMillis());
    p.put(StreamsConfig.ENABLE_METRICS_PUSH_CONFIG, false);
    p.put(StreamsConfig.PROCESSING_EXCEPTION_HANDLER_GLOBAL_ENABLED_CONFIG, true);
    p.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 5000);
    p.put(StreamsConfig.InternalConfig.INTERNAL_CONSUMER_WRAPPER, PatientConsumer.class);
    if (protocol.equals(CLASSIC)) {
      p.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), config.sessionMs());
      p.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), config.sessionMs() / 3);
    }
    p.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
    p.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.FETCH_MAX_BYTES_CONFIG), config.maxRequestBytes());
    p.put(StreamsConfig.producerPrefix(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG), config.transactionTimeoutMs());
    p.put(StreamsConfig.producerPrefix(ProducerConfig.MAX_REQUEST_SIZE_CONFIG), config.maxRequestBytes());
    p.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), Math.min(256 << 10, limits.smallest()));
    // The thread works nothing else while it waits for a topic, and its transaction stays open.
    p.put(StreamsConfig.producerPrefix(ProducerConfig.MAX_BLOCK_MS_CONFIG), config.transactionTimeoutMs() / 2);
    p.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
    return p;
  }

  private void report() {
    ObjectNode report = JSON.createObjectNode();
    report.put("state", streams.state().name()).put("protocol", protocol).put("failure", failure);
    report.put("member", clients.member()).put("held", clients.held());
    ArrayNode threads = report.putArray("threads");
    for (ThreadMetadata thread : streams.metadataForLocalThreads()) {
      ObjectNode one = threads.addObject().put("name", thread.threadName()).put("state", thread.threadState());
      ArrayNode partitions = one.putArray("partitions");
      thread.activeTasks().forEach(task -> task.topicPartitions().forEach(p -> partitions.add(p.partition())));
    }
    ObjectNode lags = report.putObject("lags");
    for (Map.Entry<MetricName, ? extends Metric> entry : streams.metrics().entrySet()) {
      MetricName name = entry.getKey();
      if (!name.name().equals("records-lag") || !config.topics().raw().equals(name.tags().get("topic"))) continue;
      if (entry.getValue().metricValue() instanceof Double lag && !lag.isNaN()) {
        lags.put(name.tags().get("partition"), Math.max(0, lag.longValue()));
      }
    }
    Unread.report(report);
    Progress.report(report);
    out.println(report);
    out.flush();
  }

  /** Ours, which otherwise the supervisor removes. */
  private void deleteFolder() {
    try (Stream<Path> files = Files.walk(Path.of(config.stateDir()))) {
      files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
    } catch (IOException e) {
      System.err.println("folder: " + e);
    }
  }

  private static boolean has(Throwable error, Class<? extends Throwable> kind) {
    for (Throwable cause = error; cause != null; cause = cause.getCause()) if (kind.isInstance(cause)) return true;
    return false;
  }

  static String describe(Throwable error) {
    Throwable root = error;
    while (root.getCause() != null && root.getCause() != root) root = root.getCause();
    return error == root ? error.toString() : error + "; caused by " + root;
  }
}
