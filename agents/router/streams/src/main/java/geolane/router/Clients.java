package geolane.router;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaClientSupplier;

/**
 * Kafka's own clients, with four things more: the producer works under the coordinator's lease; committed offsets carry the
 * running counts of their partition, as the Python engine's do; the brokers' clock is learned; and what the consumer cannot
 * read is read by the supervisor.
 */
final class Clients implements KafkaClientSupplier {
  private static final String PRODUCER_THREAD = "kafka-producer-network-thread";

  private final Lease lease;
  private final String rawTopic;
  private final AtomicBoolean leased = new AtomicBoolean();
  private final AtomicLong aheadMs = new AtomicLong(); // the brokers' clock, of ours
  private boolean sends;
  private volatile String held = "";
  private volatile String member = "";
  private volatile String refusal = "";

  Clients(Lease lease, String rawTopic) {
    this.lease = lease;
    this.rawTopic = rawTopic;
  }

  /** The id of this process's member of the group; empty until its first commit. */
  String member() {
    return member;
  }

  /** Whether the thread that sends has ended without being told to. It logs why, and nobody else would notice. */
  boolean hasProducerDied() {
    Thread[] all = new Thread[2 * Thread.activeCount() + 10];
    boolean lives = Stream.of(all).limit(Thread.enumerate(all)).anyMatch(thread -> thread.getName().startsWith(PRODUCER_THREAD));
    boolean died = sends && !lives;
    sends = lives;
    return died;
  }

  /** Why nothing can be sent at present; empty if it can. */
  String held() {
    return held;
  }

  /** Why a topic has refused a record; empty if none has. */
  String refusal() {
    return refusal;
  }

  @Override
  public Producer<byte[], byte[]> getProducer(Map<String, Object> config) {
    // Kafka Streams asks for another one when the first was fenced, or this member expelled.
    if (leased.getAndSet(true)) throw new Lease.Lost();
    Map<String, Object> own = new HashMap<>(config);
    own.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, lease.transactionalId());
    return new CountingProducer(own);
  }

  @Override
  public Admin getAdmin(Map<String, Object> config) {
    return Admin.create(config);
  }

  /** Not used with Kafka Streams' own group protocol, see PatientConsumer. */
  @Override
  public Consumer<byte[], byte[]> getConsumer(Map<String, Object> config) {
    return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer()) {
      @Override
      public ConsumerRecords<byte[], byte[]> poll(Duration wait) {
        return Unread.poll(this, () -> super.poll(wait));
      }
    };
  }

  @Override
  public Consumer<byte[], byte[]> getRestoreConsumer(Map<String, Object> config) {
    return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  @Override
  public Consumer<byte[], byte[]> getGlobalConsumer(Map<String, Object> config) {
    return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  private final class CountingProducer extends KafkaProducer<byte[], byte[]> {
    CountingProducer(Map<String, Object> config) {
      super(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    @Override
    public void initTransactions() {
      lease.adopt(this);
    }

    @Override
    public Future<RecordMetadata> send(ProducerRecord<byte[], byte[]> record, Callback callback) {
      return super.send(record, (metadata, error) -> {
        if (error == null && metadata.hasTimestamp()) aheadMs.setPlain(metadata.timestamp() - System.currentTimeMillis());
        if (error != null && refusal.isEmpty()) refusal = Refused.explain(record.topic(), record.partition(), Errors.forException(error));
        if (callback != null) callback.onCompletion(metadata, error);
      });
    }

    @Override
    public void sendOffsetsToTransaction(Map<TopicPartition, OffsetAndMetadata> offsets, ConsumerGroupMetadata group) {
      Map<TopicPartition, OffsetAndMetadata> counted = new HashMap<>();
      offsets.forEach((p, at) -> counted.put(p, !p.topic().equals(rawTopic) ? at
          : new OffsetAndMetadata(at.offset(), at.leaderEpoch(), ThreadWork.mine().of(p.partition()).total().encode())));
      member = group.memberId();
      super.sendOffsetsToTransaction(counted, group);
    }

    @Override
    public List<PartitionInfo> partitionsFor(String topic) {
      return call("the partitions of " + topic + " are not known", () -> super.partitionsFor(topic));
    }

    /** Kafka Streams calls again after a time-out; people are told meanwhile. */
    private <T> T call(String trouble, Supplier<T> call) {
      try {
        T result = call.get();
        if (!held.isEmpty()) held = ""; // not written for each record
        return result;
      } catch (TimeoutException e) {
        held = trouble + ": " + e.getMessage();
        throw e;
      }
    }

    @Override
    public void commitTransaction() {
      long began = System.nanoTime();
      call("a transaction is not committed", () -> {
        super.commitTransaction();
        return null;
      });
      ThreadWork.mine().noteCommitted((System.nanoTime() - began) / 1e6, System.currentTimeMillis() + aheadMs.getPlain());
    }
  }
}
