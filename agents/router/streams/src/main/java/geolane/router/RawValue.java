package geolane.router;

import java.util.List;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.streams.processor.TimestampExtractor;

/** A raw record's value and headers as they came. */
final class RawValue {
  final byte[] bytes;
  final List<Sorter.Header> headers;
  /** Why nobody can read the record; else null. */
  final String unread;
  /** When the broker appended it; below 0 if a topic keeps the sender's times and a sender has set it so. */
  long ms;

  private RawValue(byte[] bytes, List<Sorter.Header> headers, String unread) {
    this.bytes = bytes;
    this.headers = headers;
    this.unread = unread;
  }

  /** Called before anybody else looks at the headers. */
  static Deserializer<RawValue> deserializer() {
    return new Deserializer<>() {
      @Override
      public RawValue deserialize(String topic, byte[] data) {
        return new RawValue(data, List.of(), null);
      }

      @Override
      public RawValue deserialize(String topic, Headers headers, byte[] data) {
        for (Header header : headers) if (header instanceof Unread.Mark mark) return new RawValue(data, List.of(), mark.why());
        return new RawValue(data, HeaderNames.read(headers), null);
      }
    };
  }

  /** Kafka Streams ends at a time below 0, or drops the record. */
  static TimestampExtractor timestamps() {
    return (record, highest) -> {
      ((RawValue) record.value()).ms = record.timestamp();
      return Math.max(0, record.timestamp());
    };
  }
}
