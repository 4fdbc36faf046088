package geolane.router;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import geolane.router.Progress.Counts;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.test.TestRecord;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The topology, without a broker. tests/router has what needs one, and holds the sorter against the Python engine. */
class SortingTest {
  private static final String MAP =
      "{\"version\":7,\"resolution\":4,\"lanes\":1,\"cells\":{},\"rate_eps\":[1.0],\"centroid\":[[0.0,0.0]]}";
  private static final byte[] GOOD = bytes("{\"id\":\"e1\",\"ts\":978964500000,\"origin\":{\"lat\":41.9,\"lon\":-87.9}}");

  private final Map<String, Integer> batchBytes = new HashMap<>();

  @TempDir Path folder;

  @Test
  void aGoodEventGoesToItsLane() {
    try (TopologyTestDriver driver = driver(7)) {
      pipe(driver, null, GOOD, new RecordHeaders().add("mine", bytes("x")));
      TestRecord<byte[], byte[]> lane = read(driver, "lanes");
      assertArrayEquals(bytes("e1"), lane.key());
      assertArrayEquals(GOOD, lane.value());
      assertEquals(
          Map.of(
              "geolane-src", "raw/0/0", "geolane-raw-ms", "1700000000000", "geolane-cell", "8427593ffffffff", "geolane-ts",
              "978964500000", "geolane-map", "7", "mine", "x"),
          headers(lane));
    }
  }

  @Test
  void whatIsNoEventIsADeadLetterAsItCame() {
    try (TopologyTestDriver driver = driver(7)) {
      pipe(driver, bytes("k"), bytes("{"), new RecordHeaders());
      pipe(driver, bytes("k"), null, new RecordHeaders());
      TestRecord<byte[], byte[]> letter = read(driver, "dead");
      assertArrayEquals(bytes("{"), letter.value());
      assertEquals("not_json", headers(letter).get("geolane-reason"));
      assertEquals("unexpected end of data: line 1 column 2 (char 1)", headers(letter).get("geolane-detail"));
      assertNull(read(driver, "dead").value());
    }
  }

  @Test
  void anEventWithAPlaceWaits() {
    try (TopologyTestDriver driver = driver(7)) {
      pipe(driver, bytes("k"), bytes("{\"id\":\"e1\",\"ts\":5,\"origin\":{\"place\":\"Chicago\"}}"), new RecordHeaders());
      TestRecord<byte[], byte[]> waits = read(driver, "unplaced");
      assertArrayEquals(bytes("e1"), waits.key());
      assertEquals("k", headers(waits).get("geolane-raw-key"));
    }
  }

  @Test
  void aNameThatIsNotUtf8IsSeenAsItCame() {
    try (TopologyTestDriver driver = driver(7)) {
      RecordHeader odd = new RecordHeader(ByteBuffer.wrap(new byte[] {'g', (byte) 0xf6}), ByteBuffer.wrap(bytes("1")));
      pipe(driver, null, GOOD, new RecordHeaders(new RecordHeader[] {odd}));
      TestRecord<byte[], byte[]> letter = read(driver, "dead");
      assertEquals("bad_header", headers(letter).get("geolane-reason"));
      assertEquals("the name of a header is not UTF-8: 'g\\\\xf6'", headers(letter).get("geolane-detail"));
      assertEquals("1", headers(letter).get("g\\xf6"));
    }
  }

  @Test
  void withoutItsLaneMapItSortsNothing() {
    try (TopologyTestDriver driver = driver(8)) {
      assertThrows(RuntimeException.class, () -> pipe(driver, null, GOOD, new RecordHeaders()));
    }
  }

  @Test
  void theLeaseIsTheProducersIdAndEpoch() {
    Clients clients = new Clients(new Lease("tid", 77, (short) 3), "raw");
    Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", "127.0.0.1:1"));
    try (var producer = clients.getProducer(config)) {
      producer.initTransactions(); // asks no broker
      producer.beginTransaction();
      assertThrows(Lease.Lost.class, () -> clients.getProducer(config), "a lease is for one producer");
    }
  }

  @Test
  void runningCountsAreThoseOfTheOtherEngine() {
    Counts counts = Counts.decode("{\"in\":5,\"out\":3,\"filtered\":0,\"dead\":2}");
    assertEquals(new Counts(3, 2), counts);
    assertEquals("{\"in\":5,\"out\":3,\"filtered\":0,\"dead\":2}", counts.encode());
    assertEquals(Counts.NONE, Counts.decode("set by a tool"));
    assertTrue(Counts.decode("").equals(Counts.NONE));
  }

  private TopologyTestDriver driver(int version) {
    Config.Tuning tuning = new Config.Tuning(100, 5000);
    Config config = new Config(
        Map.of(), "group", new Lease("tid", 1, (short) 0), new Config.Topics("raw", "lanemap", "lanes", "unplaced", "dead"),
        "auto", version, 6000, 1 << 20, 300_000, 1, 1 << 20, 10_000, tuning, folder.toString(), new int[0]);
    Properties properties = new Properties();
    properties.put(StreamsConfig.APPLICATION_ID_CONFIG, "test");
    properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "nowhere:1");
    properties.put(StreamsConfig.STATE_DIR_CONFIG, folder.toString());
    TopologyTestDriver driver =
        new TopologyTestDriver(Sorting.topology(config, partition -> Counts.NONE, () -> tuning, this::batchBytes), properties);
    driver.createInputTopic("lanemap", new StringSerializer(), new ByteArraySerializer()).pipeInput("7", bytes(MAP));
    return driver;
  }

  private int batchBytes(String topic) {
    return batchBytes.getOrDefault(topic, TopicLimits.UNKNOWN);
  }

  private static void pipe(TopologyTestDriver driver, byte[] key, byte[] value, Headers headers) {
    driver.createInputTopic("raw", new ByteArraySerializer(), new ByteArraySerializer())
        .pipeInput(new TestRecord<>(key, value, headers, 1_700_000_000_000L));
  }

  private static TestRecord<byte[], byte[]> read(TopologyTestDriver driver, String topic) {
    return driver.createOutputTopic(topic, new ByteArrayDeserializer(), new ByteArrayDeserializer()).readRecord();
  }

  private static Map<String, String> headers(TestRecord<byte[], byte[]> record) {
    Map<String, String> found = new HashMap<>();
    record.headers().forEach(header -> found.put(header.key(), new String(header.value(), StandardCharsets.UTF_8)));
    return found;
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }
}
