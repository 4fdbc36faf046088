package geolane.router;

import java.util.List;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.Deserializer;

/** A raw record's value and headers as they came. */
record RawValue(byte[] bytes, List<Sorter.Header> headers) {

  /** Called before anybody else looks at the headers. */
  static Deserializer<RawValue> deserializer() {
    return new Deserializer<>() {
      @Override
      public RawValue deserialize(String topic, byte[] data) {
        return new RawValue(data, List.of());
      }

      @Override
      public RawValue deserialize(String topic, Headers headers, byte[] data) {
        return new RawValue(data, HeaderNames.read(headers));
      }
    };
  }
}
