package geolane.router;

import geolane.router.PyText.Unprintable;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * One raw value, checked as `parse_event` in agents/core/lanes/records.py does it: an event, or the reason and detail of
 * a dead letter.
 */
final class Event {
  private static final byte[] ID = name("id");
  private static final byte[] TS_NAME = name("ts");
  private static final byte[] ORIGIN = name("origin");
  private static final byte[] LAT = name("lat");
  private static final byte[] LON = name("lon");
  private static final byte[] PLACE = name("place");

  /** Null for an event. */
  final String reason;

  final String detail;
  final byte[] id;
  final long tsMs;
  final boolean hasCoordinates;
  final double lat;
  final double lon;

  private Event(String reason, String detail, byte[] id, long tsMs, boolean hasCoordinates, double lat, double lon) {
    this.reason = reason;
    this.detail = detail;
    this.id = id;
    this.tsMs = tsMs;
    this.hasCoordinates = hasCoordinates;
    this.lat = lat;
    this.lon = lon;
  }

  static Event rejected(String reason, String detail) {
    return new Event(reason, detail, null, 0, false, 0, 0);
  }

  /** `appendMs`: when the broker appended it. */
  static Event parse(byte[] raw, long appendMs, int maxBytes, long futureLimitMs, Unprintable unprintable) {
    if (raw == null) return rejected(Rules.NOT_JSON, "no value (a tombstone)");
    if (raw.length > maxBytes) return rejected(Rules.TOO_LARGE, raw.length + " bytes, the limit is " + maxBytes);
    int begin;
    try {
      begin = Json.check(raw);
    } catch (Json.Invalid e) {
      return rejected(Rules.NOT_JSON, e.getMessage());
    }
    if (raw[begin] != '{') return rejected(Rules.NOT_OBJECT, "JSON " + typeName(raw[begin]));
    return new Reader(raw, unprintable).read(begin, appendMs, futureLimitMs);
  }

  private static String typeName(byte first) {
    return switch (first) {
      case '[' -> "array";
      case '"' -> "string";
      case 't', 'f' -> "boolean";
      case 'n' -> "null";
      default -> "number";
    };
  }

  private static byte[] name(String text) {
    return text.getBytes(StandardCharsets.US_ASCII);
  }

  /** Reads an object that is valid JSON. Positions are those of values; -1: there is none, or it is null. */
  private static final class Reader {
    private final byte[] b;
    private final Unprintable unprintable;

    Reader(byte[] b, Unprintable unprintable) {
      this.b = b;
      this.unprintable = unprintable;
    }

    Event read(int begin, long appendMs, long futureLimitMs) {
      int id = -1;
      int idEnd = -1;
      int ts = -1;
      int tsEnd = -1;
      int origin = -1;
      for (Json.Members members = new Json.Members(b, begin); members.next(); ) {
        int value = b[members.valueBegin] == 'n' ? -1 : members.valueBegin;
        if (members.isKey(ID)) {
          id = value;
          idEnd = members.valueEnd;
        } else if (members.isKey(TS_NAME)) {
          ts = value;
          tsEnd = members.valueEnd;
        } else if (members.isKey(ORIGIN)) {
          origin = value;
        }
      }
      if (id < 0 || b[id] != '"' || idEnd - id == 2) {
        return rejected(Rules.NO_ID, "`id` must be a string that is not empty, is " + quote(id));
      }
      if (ts < 0) return rejected(Rules.NO_TS, "`ts` is missing");
      long tsMs = timestamp(ts, tsEnd);
      if (tsMs == Timestamps.NONE) {
        return rejected(Rules.BAD_TS, "`ts` " + guessUnit(ts) + "must be RFC 3339 or epoch ms, is " + quote(ts));
      }
      if (tsMs > appendMs + futureLimitMs) {
        return rejected(Rules.FUTURE_TS, "`ts` is " + Math.floorDiv(tsMs - appendMs, 1000L) + " s after the append");
      }
      if (origin < 0) return rejected(Rules.NO_ORIGIN, "`origin` is missing");
      if (b[origin] != '{') return rejected(Rules.BAD_ORIGIN, "`origin` must be an object, is " + quote(origin));
      return readOrigin(text(id, idEnd), tsMs, origin);
    }

    private Event readOrigin(byte[] id, long tsMs, int origin) {
      int lat = -1;
      int lon = -1;
      int place = -1;
      for (Json.Members members = new Json.Members(b, origin); members.next(); ) {
        int value = b[members.valueBegin] == 'n' ? -1 : members.valueBegin;
        if (members.isKey(LAT)) lat = value;
        else if (members.isKey(LON)) lon = value;
        else if (members.isKey(PLACE)) place = value;
      }
      if (lat < 0 && lon < 0) {
        if (place < 0) return rejected(Rules.NO_ORIGIN, "`origin` has neither lat and lon nor place");
        if (b[place] != '"' || PyText.isBlank((String) Json.value(b, place))) {
          return rejected(Rules.BAD_ORIGIN, "`place` must be a string that is not empty, is " + quote(place));
        }
        return new Event(null, null, id, tsMs, false, 0, 0);
      }
      if (lat < 0 || lon < 0 || !isNumber(lat) || !isNumber(lon)) {
        return rejected(Rules.BAD_ORIGIN, "lat and lon must be numbers, are " + quote(lat) + ", " + quote(lon));
      }
      double latitude = ((Number) Json.value(b, lat)).doubleValue();
      double longitude = ((Number) Json.value(b, lon)).doubleValue();
      if (latitude >= -90 && latitude <= 90 && longitude >= -180 && longitude <= 180) {
        return new Event(null, null, id, tsMs, true, latitude, longitude);
      }
      return rejected(Rules.BAD_ORIGIN, "outside lat -90..90, lon -180..180: " + quote(lat) + ", " + quote(lon));
    }

    private long timestamp(int ts, int tsEnd) {
      if (b[ts] == '"') {
        byte[] text = text(ts, tsEnd);
        return Timestamps.ofText(text, 0, text.length);
      }
      return isNumber(ts) && Json.value(b, ts) instanceof Long ms ? Timestamps.ofInteger(ms) : Timestamps.NONE;
    }

    /** The unit that a number seems to have if it is not epoch ms. */
    private String guessUnit(int ts) {
      if (!isNumber(ts)) return "";
      Object value = Json.value(b, ts);
      BigDecimal size = (value instanceof Double x ? new BigDecimal(x) : new BigDecimal(value.toString())).abs();
      BigDecimal from = BigDecimal.valueOf(Timestamps.SECONDS_FROM);
      BigDecimal to = BigDecimal.valueOf(Timestamps.SECONDS_TO);
      List<String> units = List.of("seconds", "microseconds", "nanoseconds");
      BigInteger factor = BigInteger.ONE;
      for (int i = 0; i < units.size(); i++) {
        BigDecimal by = new BigDecimal(factor);
        if (size.compareTo(from.multiply(by)) >= 0 && size.compareTo(to.multiply(by)) < 0) {
          return "looks like " + units.get(i) + "; it ";
        }
        factor = BigInteger.TEN.pow(i == 0 ? 6 : 9);
      }
      return "";
    }

    private boolean isNumber(int at) {
      return b[at] == '-' || b[at] >= '0' && b[at] <= '9';
    }

    /** The content of the string in b[begin, end), as UTF-8. */
    private byte[] text(int begin, int end) {
      if (Json.hasEscape(b, begin, end)) return ((String) Json.value(b, begin)).getBytes(StandardCharsets.UTF_8);
      byte[] content = new byte[end - begin - 2];
      System.arraycopy(b, begin + 1, content, 0, content.length);
      return content;
    }

    private String quote(int at) {
      return at < 0 ? "missing" : PyText.repr(Json.value(b, at), Rules.QUOTED_CHARACTERS, unprintable);
    }
  }
}
