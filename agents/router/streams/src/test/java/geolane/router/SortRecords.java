package geolane.router;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import geolane.router.PyText.Unprintable;
import geolane.router.Sorter.Header;
import geolane.router.Sorter.Sorted;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Sorts records from standard input to standard output, without Kafka: tests/router/test_same_records.py compares them with
 * the Python engine's. First a line of JSON in a field, then records until the end.
 */
public final class SortRecords {
  private SortRecords() {}

  public static void main(String[] arguments) throws IOException {
    DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
    DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
    JsonNode config = new ObjectMapper().readTree(field(in));
    int[] unprintable = new int[config.get("unprintable").size()];
    for (int i = 0; i < unprintable.length; i++) unprintable[i] = config.get("unprintable").get(i).asInt();
    Sorter sorter = new Sorter(
        new LaneMap(config.get("map").asText().getBytes(StandardCharsets.UTF_8)),
        new Sorter.Limits(
            config.get("max_bytes").asInt(), config.get("future_limit_ms").asLong(), config.get("unplaced_partitions").asInt(),
            name -> TopicLimits.UNKNOWN),
        new Config.Topics("", "", "", "", config.get("dead").asText()),
        new Unprintable(unprintable));
    String topic = config.get("topic").asText();
    while (in.read() == 1) {
      int partition = in.readInt();
      long offset = in.readLong();
      long rawMs = in.readLong();
      byte[] key = field(in);
      byte[] value = field(in);
      List<Header> headers = new ArrayList<>();
      for (int count = in.readInt(); count > 0; count--) {
        byte[] name = field(in);
        headers.add(new Header(new String(name, StandardCharsets.UTF_8), field(in), HeaderNames.show(name)));
      }
      Sorted sorted = sorter.sort(topic, partition, offset, rawMs, key, value, headers);
      out.writeByte(sorted.target().ordinal());
      out.writeInt(sorted.partition());
      write(out, sorted.key());
      write(out, sorted.value());
      out.writeInt(sorted.headers().size());
      for (Header header : sorted.headers()) {
        write(out, (header.shown() != null ? header.shown() : header.name()).getBytes(StandardCharsets.UTF_8));
        write(out, header.content());
      }
    }
    out.flush();
  }

  private static byte[] field(DataInputStream in) throws IOException {
    int length = in.readInt();
    return length < 0 ? null : in.readNBytes(length);
  }

  private static void write(DataOutputStream out, byte[] field) throws IOException {
    out.writeInt(field == null ? -1 : field.length);
    if (field != null) out.write(field);
  }
}
