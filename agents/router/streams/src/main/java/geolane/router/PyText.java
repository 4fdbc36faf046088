package geolane.router;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.List;
import java.util.Map;

/** Values of JSON as Python shows them (`repr`), since details of dead letters quote them. */
final class PyText {
  private PyText() {}

  /** The first `room` characters of Python's repr of a value; `unprintable` says what has to be escaped. */
  static String repr(Object value, int room, Unprintable unprintable) {
    StringBuilder out = new StringBuilder();
    write(value, out, room, unprintable);
    return firstCharacters(out.toString(), room);
  }

  /** Cuts between code points, as Python counts. */
  static String firstCharacters(String text, int most) {
    if (text.length() <= most || text.codePointCount(0, text.length()) <= most) return text;
    return text.substring(0, text.offsetByCodePoints(0, most));
  }

  /** Each step writes at least one character, so that what is deeper or later than `room` is not looked at. */
  private static void write(Object value, StringBuilder out, int room, Unprintable unprintable) {
    if (out.codePointCount(0, out.length()) >= room) return;
    if (value == null) {
      out.append("None");
    } else if (value instanceof Boolean bool) {
      out.append(bool ? "True" : "False");
    } else if (value instanceof Double number) {
      out.append(reprDouble(number));
    } else if (value instanceof String text) {
      writeString(text, out, room, unprintable);
    } else if (value instanceof List<?> list) {
      out.append('[');
      String separator = "";
      for (Object item : list) {
        if (out.length() >= 2 * room) return;
        out.append(separator);
        write(item, out, room, unprintable);
        separator = ", ";
      }
      out.append(']');
    } else if (value instanceof Map<?, ?> map) {
      out.append('{');
      String separator = "";
      for (Map.Entry<?, ?> entry : map.entrySet()) {
        if (out.length() >= 2 * room) return;
        out.append(separator);
        write(entry.getKey(), out, room, unprintable);
        out.append(": ");
        write(entry.getValue(), out, room, unprintable);
        separator = ", ";
      }
      out.append('}');
    } else {
      out.append(value); // Long, BigInteger
    }
  }

  private static void writeString(String text, StringBuilder out, int room, Unprintable unprintable) {
    char quote = text.indexOf('\'') >= 0 && text.indexOf('"') < 0 ? '"' : '\'';
    out.append(quote);
    int written = 0;
    for (int i = 0; i < text.length() && written < room; written++) {
      int c = text.codePointAt(i);
      i += Character.charCount(c);
      if (c == quote || c == '\\') {
        out.append('\\').append((char) c);
      } else if (c == '\n') {
        out.append("\\n");
      } else if (c == '\r') {
        out.append("\\r");
      } else if (c == '\t') {
        out.append("\\t");
      } else if (!unprintable.has(c)) {
        out.appendCodePoint(c);
      } else if (c <= 0xFF) {
        out.append(String.format("\\x%02x", c));
      } else if (c <= 0xFFFF) {
        out.append(String.format("\\u%04x", c));
      } else {
        out.append(String.format("\\U%08x", c));
      }
    }
    if (written < room) out.append(quote);
  }

  /** The shortest digits that give this double again; Java 17 often writes one digit more. */
  static String reprDouble(double x) {
    if (x == 0) return 1 / x < 0 ? "-0.0" : "0.0";
    BigDecimal exact = new BigDecimal(x);
    BigDecimal shortest = exact;
    for (int digits = 1; digits <= 17; digits++) {
      shortest = exact.round(new MathContext(digits));
      if (shortest.doubleValue() == x) break;
    }
    shortest = shortest.stripTrailingZeros();
    String digits = shortest.unscaledValue().abs().toString();
    int point = digits.length() - shortest.scale(); // where it is, counted from the first digit
    String sign = x < 0 ? "-" : "";
    if (point > 16 || point < -3) {
      int exponent = point - 1;
      String fraction = digits.length() > 1 ? "." + digits.substring(1) : "";
      return String.format("%s%s%se%s%02d", sign, digits.charAt(0), fraction, exponent < 0 ? "-" : "+", Math.abs(exponent));
    }
    if (point <= 0) return sign + "0." + "0".repeat(-point) + digits;
    if (point >= digits.length()) return sign + digits + "0".repeat(point - digits.length()) + ".0";
    return sign + digits.substring(0, point) + "." + digits.substring(point);
  }

  /** Whether `str.strip` would leave nothing. */
  static boolean isBlank(String text) {
    return text.codePoints().allMatch(PyText::isSpace);
  }

  private static boolean isSpace(int c) {
    return c >= 0x09 && c <= 0x0D || c >= 0x1C && c <= 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680
        || c >= 0x2000 && c <= 0x200A || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
  }

  /** The characters that repr escapes, by the Unicode of the Python that we are compared with, as ranges in order. */
  static final class Unprintable {
    private final int[] bounds; // first, last, first, last ...

    Unprintable(int[] bounds) {
      this.bounds = bounds;
    }

    boolean has(int c) {
      if (c >= 0x20 && c < 0x7F) return false;
      if (bounds.length == 0) return isUnprintableHere(c);
      int low = 0;
      int high = bounds.length / 2 - 1;
      while (low <= high) {
        int middle = (low + high) >>> 1;
        if (c < bounds[2 * middle]) high = middle - 1;
        else if (c > bounds[2 * middle + 1]) low = middle + 1;
        else return true;
      }
      return false;
    }

    /** By Java's own Unicode, where none was given. */
    private static boolean isUnprintableHere(int c) {
      return switch (Character.getType(c)) {
        case Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED,
            Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SPACE_SEPARATOR -> true;
        default -> false;
      };
    }
  }
}
