package geolane.router;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.InvalidOffsetException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthenticationException;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.record.TimestampType;

/**
 * What Kafka's Java client cannot read: a record batch that does not decompress or has a wrong checksum, an offset that is
 * not in the log. It would raise the same error for ever, and end this program. Here that partition alone is paused, and
 * the supervisor reads on from there with the reader of the Python engine. It answers with records, which are taken as if
 * they had been fetched, or with why the partition must stop.
 */
final class Unread {
  private static final int MOST_NAMELESS = 3;
  private static final Map<TopicPartition, Place> PLACES = new ConcurrentHashMap<>();
  private static int nameless; // errors in a row that did not say which partition

  private Unread() {}

  /** Where a partition waits. `answer`: null until it comes. */
  private static final class Place {
    final long offset;
    volatile JsonNode answer;

    Place(long offset) {
      this.offset = offset;
    }

    boolean isStopped() {
      return answer != null && !answer.path("stopped").asText().isEmpty();
    }
  }

  /** The only header of a record that nobody can read: it says why. No record can forge it, being of this class. */
  record Mark(String why) implements Header {
    @Override
    public String key() {
      return why;
    }

    @Override
    public byte[] value() {
      return null;
    }
  }

  /** `poll` of a consumer of raw partitions, without the errors that concern one of them. */
  static ConsumerRecords<byte[], byte[]> poll(
      Consumer<byte[], byte[]> consumer, Supplier<ConsumerRecords<byte[], byte[]>> poll) {
    Map<TopicPartition, Long> before = findPositions(consumer);
    if (!PLACES.isEmpty()) {
      // A partition that has left us and returned begins at its committed offset again, not where it waited.
      PLACES.entrySet().removeIf(e -> !Objects.equals(before.get(e.getKey()), e.getValue().offset));
      ConsumerRecords<byte[], byte[]> answered = takeAnswers(consumer);
      if (!answered.nextOffsets().isEmpty()) return answered;
      consumer.pause(PLACES.keySet()); // Kafka Streams resumes what it has paused, too
    }
    try {
      return poll.get();
    } catch (OffsetOutOfRangeException e) {
      e.offsetOutOfRangePartitions().forEach((partition, offset) -> PLACES.put(partition, new Place(offset)));
    } catch (InvalidOffsetException | AuthenticationException | AuthorizationException e) {
      throw e;
    } catch (KafkaException e) { // raised only if the client has taken no records in this call
      TopicPartition partition = findPartition(e, consumer.assignment());
      if (partition == null) throw e;
      PLACES.put(partition, new Place(consumer.position(partition)));
      nameless = 0;
      System.err.println("Kafka's Java client cannot read on: " + Main.describe(e));
    } catch (IllegalArgumentException | Error e) {
      // An unknown compression, a block or a record larger than the heap: the next call names the partition.
      System.err.println("Kafka's Java client cannot read on: " + e);
      if (++nameless > MOST_NAMELESS) throw e;
      takeAgain(consumer, before);
    }
    return ConsumerRecords.empty();
  }

  /** Of the assigned partitions, without those that have none yet. */
  private static Map<TopicPartition, Long> findPositions(Consumer<byte[], byte[]> consumer) {
    Map<TopicPartition, Long> found = new HashMap<>();
    for (TopicPartition partition : consumer.assignment()) {
      try {
        found.put(partition, consumer.position(partition, Duration.ZERO));
      } catch (TimeoutException | InvalidOffsetException e) {
        continue; // `poll` finds it
      }
    }
    return found;
  }

  /** Go back to before a call that has failed in the middle, since what it had taken is lost. */
  private static void takeAgain(Consumer<byte[], byte[]> consumer, Map<TopicPartition, Long> before) {
    for (TopicPartition partition : consumer.assignment()) {
      Long at = before.get(partition);
      if (at == null) { // assigned in that call
        OffsetAndMetadata committed = consumer.committed(Set.of(partition)).get(partition);
        at = committed == null ? null : (Long) committed.offset();
      }
      if (at == null) consumer.seekToBeginning(Set.of(partition));
      else if (consumer.position(partition) > at) consumer.seek(partition, at);
    }
  }

  private static TopicPartition findPartition(KafkaException error, Set<TopicPartition> assigned) {
    String said = error + " " + error.getCause();
    for (TopicPartition partition : assigned) {
      if (Pattern.compile("(?<![\\w.-])" + Pattern.quote(partition.toString()) + "(?!\\w)").matcher(said).find()) return partition;
    }
    return null;
  }

  private static ConsumerRecords<byte[], byte[]> takeAnswers(Consumer<byte[], byte[]> consumer) {
    Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> records = new HashMap<>();
    Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
    PLACES.forEach((partition, place) -> {
      if (place.answer == null || place.isStopped()) return;
      PLACES.remove(partition);
      long behind = place.answer.required("next").asLong();
      consumer.seek(partition, behind);
      consumer.resume(Set.of(partition));
      records.put(partition, parseRecords(partition, place.answer.required("records")));
      next.put(partition, new OffsetAndMetadata(behind));
    });
    return new ConsumerRecords<>(records, next);
  }

  private static List<ConsumerRecord<byte[], byte[]>> parseRecords(TopicPartition partition, JsonNode from) {
    List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>(from.size());
    for (JsonNode r : from) {
      RecordHeaders headers = new RecordHeaders();
      if (r.hasNonNull("why")) headers.add(new Mark(r.get("why").asText()));
      for (JsonNode header : r.required("headers")) {
        byte[] content = bytes(header.get(1));
        headers.add(new RecordHeader(ByteBuffer.wrap(bytes(header.get(0))), content == null ? null : ByteBuffer.wrap(content)));
      }
      found.add(new ConsumerRecord<>(
          partition.topic(), partition.partition(), r.required("offset").asLong(), r.required("ms").asLong(),
          TimestampType.LOG_APPEND_TIME, ConsumerRecord.NULL_SIZE, ConsumerRecord.NULL_SIZE, bytes(r.get("key")),
          bytes(r.get("value")), headers, Optional.empty()));
    }
    return found;
  }

  private static byte[] bytes(JsonNode base64) {
    try {
      return base64 == null || base64.isNull() ? null : base64.binaryValue();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The supervisor has read. An answer for another offset than the one that was asked for is dropped. */
  static void answer(String topic, JsonNode read) {
    Place place = PLACES.get(new TopicPartition(topic, read.required("partition").asInt()));
    if (place != null && place.offset == read.required("offset").asLong()) place.answer = read;
  }

  /** Adds to `report`: `unread`, the offsets to read from, and `stopped`, why; both by partition. */
  static void report(ObjectNode report) {
    ObjectNode unread = report.putObject("unread");
    ObjectNode stopped = report.putObject("stopped");
    PLACES.forEach((partition, place) -> {
      String n = Integer.toString(partition.partition());
      if (place.answer == null) unread.put(n, place.offset);
      else if (place.isStopped()) stopped.put(n, place.answer.get("stopped").asText());
    });
  }
}
