package geolane.router;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.util.Map;

/**
 * What the supervisor (agents/router/streams_config.py) hands over as the first line of standard input, secrets included:
 * they are in no argument, file or variable of the environment.
 *
 * @param kafka how the brokers are reached, in Kafka's own keys
 * @param group the consumer group, which is also the application's id
 * @param lease the producer's
 * @param protocol of the group: `classic`, or `auto` for Kafka Streams' own where the brokers have it
 * @param mapVersion the lane map to use; the topic `lanemap` has it
 * @param unprintable what Python's repr escapes, as ranges
 */
record Config(
    @JsonProperty(required = true) Map<String, String> kafka,
    @JsonProperty(required = true) String group,
    @JsonProperty(required = true) Lease lease,
    @JsonProperty(required = true) Topics topics,
    @JsonProperty(required = true) String protocol,
    @JsonProperty(required = true) int mapVersion,
    @JsonProperty(required = true) int sessionMs,
    @JsonProperty(required = true) int maxEventBytes,
    @JsonProperty(required = true) long futureLimitMs,
    @JsonProperty(required = true) int unplacedPartitions,
    @JsonProperty(required = true) int maxRequestBytes,
    @JsonProperty(required = true) int transactionTimeoutMs,
    @JsonProperty(required = true) Tuning tuning,
    @JsonProperty(required = true) String stateDir,
    @JsonProperty(required = true) int[] unprintable) {

  record Topics(String raw, String lanemap, String lanes, String unplaced, String dead) {}

  /** `commitGapMs`: least time between two commits. `batchRecords`: most records in one. Both may change at any time. */
  record Tuning(int commitGapMs, int batchRecords) {}

  static Config parse(String line) throws IOException {
    return new ObjectMapper().readValue(line, Config.class);
  }
}
