package geolane.router;

import geolane.router.Sorter.Header;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeader;

/**
 * The names of headers that are not UTF-8, which no broker checks. Kafka's client replaces what it cannot decode when the
 * name is asked for first; until then it has the bytes, in a private field, which a test pins.
 */
final class HeaderNames {
  private static final VarHandle BYTES = findBytes();

  private HeaderNames() {}

  private static VarHandle findBytes() {
    try {
      return MethodHandles.privateLookupIn(RecordHeader.class, MethodHandles.lookup())
          .findVarHandle(RecordHeader.class, "keyBuffer", ByteBuffer.class);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException("this Kafka client keeps the names of headers otherwise", e);
    }
  }

  /** As they came. Must be called before anybody asks for a name. */
  static List<Header> read(Headers headers) {
    if (!headers.iterator().hasNext()) return List.of();
    List<Header> found = new ArrayList<>();
    for (org.apache.kafka.common.header.Header header : headers) {
      ByteBuffer bytes = header instanceof RecordHeader ? (ByteBuffer) BYTES.get(header) : null;
      String shown = null;
      if (bytes != null) {
        byte[] name = new byte[bytes.remaining()];
        bytes.duplicate().get(name);
        shown = show(name);
      }
      found.add(new Header(header.key(), header.value(), shown));
    }
    return found;
  }

  /** Null if the name is UTF-8; otherwise with each byte that is not as `\xff`, as Python's backslashreplace. */
  static String show(byte[] name) {
    if (Json.isUtf8(name)) return null;
    StringBuilder out = new StringBuilder();
    for (int i = 0; i < name.length; ) {
      int length = characterLength(name, i);
      if (length == 0) {
        out.append(String.format("\\x%02x", name[i++] & 0xFF));
      } else {
        out.append(new String(name, i, length, StandardCharsets.UTF_8));
        i += length;
      }
    }
    return out.toString();
  }

  private static int characterLength(byte[] b, int from) {
    for (int length = 1; length <= 4 && from + length <= b.length; length++) {
      byte[] one = new byte[length];
      System.arraycopy(b, from, one, 0, length);
      if (Json.isUtf8(one)) return length;
    }
    return 0;
  }
}
