package geolane.router;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Strict JSON, as orjson reads it in the Python engine: the same documents are valid, and an invalid one has the same
 * message and place, since both are in dead letters. `check` validates a whole document without making objects; `Members`
 * and `value` then read parts of a document that is valid.
 */
final class Json {
  static final int MAX_DEPTH = 1024;
  private static final String END = "unexpected end of data";
  private static final String ESCAPE = "invalid escaped sequence in string";
  private static final byte[][] LITERALS = {bytes("true"), bytes("false"), bytes("null")};

  private final byte[] b;
  private final int end;
  private int at;

  private Json(byte[] b, int at, int end) {
    this.b = b;
    this.at = at;
    this.end = end;
  }

  /** A document that is not valid; the message has its line, column and character. */
  static final class Invalid extends Exception {
    private static final long serialVersionUID = 1;

    Invalid(String message) {
      super(message, null, false, false);
    }
  }

  /** Validates a document. Returns where its value begins. */
  static int check(byte[] b) throws Invalid {
    if (b.length == 0) throw new Invalid("Input is a zero-length, empty document: line 1 column 1 (char 0)");
    if (!isUtf8(b)) throw new Invalid("str is not valid UTF-8: surrogates not allowed: line 1 column 1 (char 0)");
    Json json = new Json(b, 0, b.length);
    json.skipSpaces();
    if (json.at == b.length) throw new Invalid("input data is empty: line 1 column 1 (char 0)");
    int begin = json.at;
    json.checkValue();
    json.skipSpaces();
    if (json.at < b.length) throw json.fail(json.at, "unexpected content after document");
    return begin;
  }

  /** One value, with all that it holds; containers are validated without recursion. */
  private void checkValue() throws Invalid {
    boolean[] isObject = null; // by depth
    int depth = 0;
    while (true) {
      // 1. A value, or the beginning of a container.
      byte c = at < end ? b[at] : 0;
      boolean opened = false;
      if (at >= end) {
        throw fail(at, END);
      } else if (c == '"') {
        checkString();
      } else if (c == '{' || c == '[') {
        at++;
        if (isObject == null) isObject = new boolean[MAX_DEPTH + 1];
        if (++depth > MAX_DEPTH) throw failAt(at, "depth limit exceeded");
        isObject[depth] = c == '{';
        opened = true;
      } else if (c == '-' || c == '+' || c == '.' || isDigit(c)) {
        checkNumber();
      } else if (c == 't') {
        checkLiteral(0);
      } else if (c == 'f') {
        checkLiteral(1);
      } else if (c == 'n') {
        checkLiteral(2);
      } else if (depth == 0 && at == 0 && startsWithMark()) {
        throw new Invalid("UTF-8 byte order mark (BOM) is not supported: line 1 column 1 (char 0)");
      } else {
        throw fail(at, "unexpected character, expected a JSON value");
      }
      // 2. What follows it, up to the next value.
      while (true) {
        if (depth == 0) return;
        boolean inObject = isObject[depth];
        skipSpaces();
        if (at >= end) throw fail(at, END);
        if (b[at] == (inObject ? '}' : ']')) {
          at++;
          depth--;
          opened = false;
          continue;
        }
        if (!opened) {
          if (b[at] != ',') {
            throw fail(at, inObject ? "unexpected character, expected ',' or '}'" : "unexpected character, expected ',' or ']'");
          }
          int comma = at++;
          skipSpaces();
          if (at >= end) throw fail(at, END);
          if (b[at] == (inObject ? '}' : ']')) throw fail(comma, "trailing comma is not allowed");
        }
        if (inObject) {
          if (b[at] != '"') throw fail(at, "unexpected character, expected a string key");
          checkString();
          skipSpaces();
          if (at >= end) throw fail(at, END);
          if (b[at] != ':') throw fail(at, "unexpected character, expected ':' after key");
          at++;
          skipSpaces();
        }
        break;
      }
    }
  }

  private void checkString() throws Invalid {
    at++;
    while (at < end) {
      byte c = b[at];
      if (c == '"') {
        at++;
        return;
      }
      if (c == '\\') {
        checkEscape();
      } else if (c >= 0 && c < 0x20) {
        throw fail(at, "unexpected control character in string");
      } else {
        at++;
      }
    }
    throw fail(at, END);
  }

  private void checkEscape() throws Invalid {
    if (at + 1 >= end) throw fail(end, END);
    switch (b[at + 1]) {
      case '"', '\\', '/', 'b', 'f', 'n', 'r', 't' -> at += 2;
      case 'u' -> {
        int unit = hexOrEnd(at + 2, at, ESCAPE);
        if ((unit & 0xF800) != 0xD800) {
          at += 6;
        } else if (unit >= 0xDC00) {
          throw fail(at, "invalid high surrogate in string");
        } else {
          checkLowSurrogate();
        }
      }
      default -> throw fail(at, ESCAPE);
    }
  }

  private void checkLowSurrogate() throws Invalid {
    int second = at + 6;
    if (second >= end || (second + 1 >= end && b[second] == '\\')) throw fail(end, END);
    if (b[second] != '\\' || b[second + 1] != 'u') throw fail(at, "no low surrogate in string");
    if (isCutLow(second + 2)) throw fail(end, END);
    int low = hex(second + 2);
    if (low < 0) throw fail(at, "invalid escape in string");
    if ((low & 0xFC00) != 0xDC00) throw fail(at, "invalid low surrogate in string");
    at += 12;
  }

  /** Whether the document ends in the digits of a low surrogate, which could still have become one. */
  private boolean isCutLow(int from) {
    if (from + 4 <= end) return false;
    for (int i = from; i < end; i++) {
      int digit = Character.digit(b[i], 16);
      boolean fits = i == from ? digit == 13 : i == from + 1 ? digit >= 12 : digit >= 0;
      if (!fits) return false;
    }
    return true;
  }

  private int hexOrEnd(int from, int begin, String message) throws Invalid {
    for (int i = from; i < from + 4; i++) {
      if (i >= end) throw fail(end, END);
      if (Character.digit(b[i], 16) < 0) throw fail(begin, message);
    }
    return hex(from);
  }

  private int hex(int from) {
    int unit = 0;
    for (int i = from; i < from + 4; i++) {
      int digit = i < end ? Character.digit(b[i], 16) : -1;
      if (digit < 0) return -1;
      unit = unit << 4 | digit;
    }
    return unit;
  }

  private void checkLiteral(int which) throws Invalid {
    byte[] literal = LITERALS[which];
    for (int i = 0; i < literal.length; i++) {
      if (at + i >= end) throw fail(end, END);
      if (b[at + i] != literal[i]) throw fail(at, "invalid literal, expected '" + new String(literal, StandardCharsets.US_ASCII) + "'");
    }
    at += literal.length;
  }

  private void checkNumber() throws Invalid {
    int begin = at;
    if (b[at] == '-') at++;
    if (!isDigitAt(at)) throw fail(at, "no digit after sign");
    if (b[at] == '0') {
      at++;
      if (isDigitAt(at)) throw fail(at - 1, "number with leading zero is not allowed");
    } else {
      skipDigits();
    }
    int whole = at;
    if (at < end && b[at] == '.') {
      at++;
      if (!isDigitAt(at)) throw fail(at, "no digit after decimal point");
      skipDigits();
    }
    if (at < end && (b[at] == 'e' || b[at] == 'E')) {
      at++;
      if (at < end && (b[at] == '+' || b[at] == '-')) at++;
      if (!isDigitAt(at)) throw fail(at, "no digit after exponent sign");
      skipDigits();
    }
    // Only so many digits, or such an exponent, can be infinite.
    if ((whole - begin > 300 || at > whole) && Double.isInfinite(Double.parseDouble(text(begin, at)))) {
      throw fail(begin, "number is infinity when parsed as double");
    }
  }

  private void skipDigits() {
    while (at < end && isDigit(b[at])) at++;
  }

  private boolean isDigitAt(int i) {
    return i < end && isDigit(b[i]);
  }

  private void skipSpaces() {
    while (at < end && (b[at] == ' ' || b[at] == '\n' || b[at] == '\r' || b[at] == '\t')) at++;
  }

  private boolean startsWithMark() {
    return end >= 3 && (b[0] & 0xFF) == 0xEF && (b[1] & 0xFF) == 0xBB && (b[2] & 0xFF) == 0xBF;
  }

  /** At the end of the data, what is wrong is that it ends. */
  private Invalid fail(int position, String message) {
    return position >= end ? failAt(end, END) : failAt(position, message);
  }

  private Invalid failAt(int position, String message) {
    int line = 1;
    int column = 1;
    int characters = 0;
    for (int i = 0; i < position; i++) {
      if ((b[i] & 0xC0) == 0x80) continue; // not the first byte of a character
      characters++;
      column++;
      if (b[i] == '\n') {
        line++;
        column = 1;
      }
    }
    return new Invalid(message + ": line " + line + " column " + column + " (char " + characters + ")");
  }

  // What follows is for documents that are valid.

  /** The members of an object, one after the other. */
  static final class Members {
    private final Json json;
    int keyBegin;
    int keyEnd;
    int valueBegin;
    int valueEnd;

    /** `begin`: of the object. */
    Members(byte[] b, int begin) {
      json = new Json(b, begin + 1, b.length);
    }

    boolean next() {
      json.skipSpaces();
      if (json.b[json.at] == ',') {
        json.at++;
        json.skipSpaces();
      }
      if (json.b[json.at] == '}') return false;
      keyBegin = json.at;
      json.skipString();
      keyEnd = json.at;
      json.skipSpaces();
      json.at++; // the colon
      json.skipSpaces();
      valueBegin = json.at;
      json.skipValue();
      valueEnd = json.at;
      return true;
    }

    /** Whether the key is this name, which is ASCII; it may be written with escapes. */
    boolean isKey(byte[] name) {
      byte[] b = json.b;
      int length = keyEnd - keyBegin - 2;
      if (length == name.length) {
        for (int i = 0; i < length; i++) if (b[keyBegin + 1 + i] != name[i]) return false;
        return true;
      }
      return length > name.length && hasEscape(b, keyBegin, keyEnd)
          && ((String) value(b, keyBegin)).equals(new String(name, StandardCharsets.US_ASCII));
    }
  }

  static boolean hasEscape(byte[] b, int begin, int end) {
    for (int i = begin; i < end; i++) if (b[i] == '\\') return true;
    return false;
  }

  private void skipString() {
    at++;
    while (b[at] != '"') at += b[at] == '\\' ? 2 : 1;
    at++;
  }

  private void skipValue() {
    int depth = 0;
    do {
      switch (b[at]) {
        case '"' -> skipString();
        case '{', '[' -> {
          depth++;
          at++;
        }
        case '}', ']' -> {
          depth--;
          at++;
        }
        case ',', ':', ' ', '\n', '\r', '\t' -> at++;
        default -> skipScalar();
      }
    } while (depth > 0);
  }

  private void skipScalar() {
    while (at < end && ",:]} \n\r\t".indexOf(b[at]) < 0) at++;
  }

  /** The value at `begin`: null, Boolean, Long, BigInteger, Double, String, List or Map. */
  static Object value(byte[] b, int begin) {
    return new Json(b, begin, b.length).read();
  }

  private Object read() {
    byte c = b[at];
    switch (c) {
      case '"':
        return readString();
      case 't':
        at += 4;
        return true;
      case 'f':
        at += 5;
        return false;
      case 'n':
        at += 4;
        return null;
      case '[':
        List<Object> list = new ArrayList<>();
        at++;
        for (skipSeparators(); b[at] != ']'; skipSeparators()) list.add(read());
        at++;
        return list;
      case '{':
        Map<String, Object> map = new LinkedHashMap<>();
        at++;
        for (skipSeparators(); b[at] != '}'; skipSeparators()) {
          String key = readString();
          skipSeparators();
          map.put(key, read());
        }
        at++;
        return map;
      default:
        int begin = at;
        skipScalar();
        return number(text(begin, at));
    }
  }

  private void skipSeparators() {
    while (b[at] == ',' || b[at] == ':' || b[at] == ' ' || b[at] == '\n' || b[at] == '\r' || b[at] == '\t') at++;
  }

  private String readString() {
    int begin = at;
    skipString();
    if (!hasEscape(b, begin, at)) return new String(b, begin + 1, at - begin - 2, StandardCharsets.UTF_8);
    String raw = new String(b, begin + 1, at - begin - 2, StandardCharsets.UTF_8);
    StringBuilder out = new StringBuilder(raw.length());
    for (int i = 0; i < raw.length(); i++) {
      char c = raw.charAt(i);
      if (c != '\\') {
        out.append(c);
        continue;
      }
      c = raw.charAt(++i);
      switch (c) {
        case 'b' -> out.append('\b');
        case 'f' -> out.append('\f');
        case 'n' -> out.append('\n');
        case 'r' -> out.append('\r');
        case 't' -> out.append('\t');
        case 'u' -> {
          out.append((char) Integer.parseInt(raw, i + 1, i + 5, 16));
          i += 4;
        }
        default -> out.append(c);
      }
    }
    return out.toString();
  }

  /** An integer if it is one of 64 bits, signed or not, as orjson has it; otherwise a double. */
  private static Object number(String text) {
    boolean integer = text.indexOf('.') < 0 && text.indexOf('e') < 0 && text.indexOf('E') < 0;
    if (integer && text.length() <= 20) {
      BigInteger whole = new BigInteger(text);
      if (whole.bitLength() <= 63) return whole.longValue();
      if (whole.signum() > 0 && whole.bitLength() <= 64) return whole;
    }
    return Double.parseDouble(text);
  }

  private String text(int from, int to) {
    return new String(b, from, to - from, StandardCharsets.ISO_8859_1);
  }

  private static boolean isDigit(byte c) {
    return c >= '0' && c <= '9';
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.US_ASCII);
  }

  static boolean isUtf8(byte[] b) {
    int i = 0;
    while (i < b.length && b[i] >= 0) i++;
    while (i < b.length) {
      int c = b[i++] & 0xFF;
      if (c < 0x80) continue;
      int more = c < 0xC2 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : c < 0xF5 ? 3 : 0;
      if (more == 0 || i + more > b.length) return false;
      int second = b[i] & 0xFF;
      if (second < (c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80)) return false;
      if (second > (c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF)) return false;
      for (int j = 1; j < more; j++) if ((b[i + j] & 0xC0) != 0x80) return false;
      i += more;
    }
    return true;
  }
}
