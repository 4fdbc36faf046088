package geolane.router;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.ToIntFunction;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.config.ConfigResource;

/**
 * The largest record batch that each output topic takes, as far as this account may read it. A record that would be refused
 * becomes a dead letter; it is not sent, since a refusal ends the program. Read again at times: an administrator may change it.
 */
final class TopicLimits implements ToIntFunction<String> {
  static final int UNKNOWN = Integer.MAX_VALUE;
  private static final List<String> KEYS = List.of("max.message.bytes", "segment.bytes");
  private static final long BOUND_S = 10;

  private final Admin admin;
  private final List<ConfigResource> topics = new ArrayList<>();
  private final Map<String, Integer> known = new ConcurrentHashMap<>();
  private final Set<String> said = new HashSet<>();

  TopicLimits(Admin admin, String... topics) {
    this.admin = admin;
    for (String topic : topics) this.topics.add(new ConfigResource(ConfigResource.Type.TOPIC, topic));
  }

  @Override
  public int applyAsInt(String topic) {
    return known.getOrDefault(topic, UNKNOWN);
  }

  int smallest() {
    return known.values().stream().min(Integer::compare).orElse(UNKNOWN);
  }

  /** Ask the brokers, and wait up to 10 s for their answers. What they do not tell stays as it was. */
  void read() throws InterruptedException {
    long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(BOUND_S);
    for (Map.Entry<ConfigResource, KafkaFuture<Config>> answer : admin.describeConfigs(topics).values().entrySet()) {
      try {
        Config found = answer.getValue().get(until - System.nanoTime(), TimeUnit.NANOSECONDS);
        int limit = UNKNOWN;
        for (String key : KEYS) limit = Math.min(limit, Integer.parseInt(found.get(key).value()));
        known.put(answer.getKey().name(), limit);
      } catch (ExecutionException | TimeoutException e) {
        String topic = answer.getKey().name();
        if (said.add(topic)) System.err.println("the limits of " + topic + " are not known: " + Main.describe(e));
      }
    }
  }
}
