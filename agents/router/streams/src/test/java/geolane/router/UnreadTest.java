package geolane.router;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.MockConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What happens between an error and its answer. tests/router/test_streams_engine.py has the real thing. */
class UnreadTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final TopicPartition BAD = new TopicPartition("events.raw", 1);
  private static final TopicPartition GOOD = new TopicPartition("events.raw", 10);
  private static final String ANSWER = "{\"partition\":1,\"offset\":7,\"next\":9,\"records\":["
      + "{\"offset\":7,\"ms\":5,\"key\":null,\"value\":\"e30=\",\"headers\":[[\"bmFtZQ==\",null]]},"
      + "{\"offset\":8,\"ms\":5,\"headers\":[],\"why\":\"rubbish\"}]}";

  private final MockConsumer<byte[], byte[]> consumer = new MockConsumer<>("none");

  @BeforeEach
  void assign() {
    consumer.assign(List.of(BAD, GOOD));
    consumer.seek(BAD, 7);
    consumer.seek(GOOD, 70);
  }

  @AfterEach
  void forget() {
    consumer.assign(List.of());
    poll();
  }

  private ConsumerRecords<byte[], byte[]> poll() {
    return Unread.poll(consumer, () -> consumer.poll(Duration.ZERO));
  }

  private void fail() {
    consumer.setPollException(new KafkaException("Received exception when fetching the next record from events.raw-1. If needed"));
    assertTrue(poll().isEmpty());
    consumer.resume(List.of(BAD)); // as Kafka Streams may
  }

  private static ObjectNode report() {
    ObjectNode report = JSON.createObjectNode();
    Unread.report(report);
    return report;
  }

  private static void answer(String json) throws IOException {
    Unread.answer("events.raw", JSON.readTree(json));
  }

  @Test
  void thePartitionWaitsAloneUntilTheAnswer() throws IOException {
    fail();
    assertEquals("{\"unread\":{\"1\":7},\"stopped\":{}}", report().toString());
    poll();
    assertEquals(Set.of(BAD), consumer.paused());
    answer(ANSWER);
    ConsumerRecords<byte[], byte[]> found = poll();
    assertEquals(2, found.count());
    assertEquals(9, found.nextOffsets().get(BAD).offset());
    assertEquals("name", found.records(BAD).get(0).headers().iterator().next().key());
    assertEquals("rubbish", RawValue.deserializer().deserialize("", found.records(BAD).get(1).headers(), (byte[]) null).unread);
    assertEquals(9, consumer.position(BAD));
    assertTrue(consumer.paused().isEmpty());
    assertEquals("{\"unread\":{},\"stopped\":{}}", report().toString());
  }

  @Test
  void aStoppedPartitionStaysPaused() throws IOException {
    fail();
    answer("{\"partition\":1,\"offset\":7,\"stopped\":\"a wrong checksum\"}");
    poll();
    poll();
    assertEquals("{\"unread\":{},\"stopped\":{\"1\":\"a wrong checksum\"}}", report().toString());
    assertEquals(Set.of(BAD), consumer.paused());
  }

  @Test
  void anAnswerForAnEarlierTenureIsDropped() throws IOException {
    fail();
    answer(ANSWER);
    consumer.seek(BAD, 3); // it has left and returned, and begins at what is committed
    assertTrue(poll().isEmpty());
    assertEquals(3, consumer.position(BAD));
    answer(ANSWER);
    assertTrue(poll().isEmpty());
  }

  @Test
  void otherErrorsAreNotForUs() {
    KafkaException other = new KafkaException("Received exception when fetching the next record from events.raw-100.");
    consumer.setPollException(other);
    assertEquals(other, assertThrows(KafkaException.class, this::poll));
    assertFalse(report().get("unread").elements().hasNext());
  }
}
