package geolane.router;

import java.time.LocalDate;

/** Event times: RFC 3339 or epoch ms, as `parse_timestamp` in agents/core/lanes/records.py. */
final class Timestamps {
  /** Not a valid time. */
  static final long NONE = Long.MIN_VALUE;

  static final long MIN_MS = Rules.MIN_MS;
  static final long MAX_MS = Rules.MAX_MS;
  static final long SECONDS_FROM = Rules.SECONDS_FROM;
  static final long SECONDS_TO = Rules.SECONDS_TO;
  private static final long DAY_S = 86_400;

  private Timestamps() {}

  static long ofInteger(long ts) {
    long size = Math.abs(ts);
    return ts >= MIN_MS && ts <= MAX_MS && !(size >= SECONDS_FROM && size < SECONDS_TO) ? ts : NONE;
  }

  /** The string in b[from, to); it must not have escapes. */
  static long ofText(byte[] b, int from, int to) {
    int length = to - from;
    if (length < 20) return NONE;
    int year = digits(b, from, 4);
    int month = digits(b, from + 5, 2);
    int day = digits(b, from + 8, 2);
    int hour = digits(b, from + 11, 2);
    int minute = digits(b, from + 14, 2);
    int second = digits(b, from + 17, 2);
    byte separator = b[from + 10];
    if (b[from + 4] != '-' || b[from + 7] != '-' || b[from + 13] != ':' || b[from + 16] != ':') return NONE;
    if (separator != 'T' && separator != 't' && separator != ' ') return NONE;
    if (year < 1 || month < 1 || month > 12 || day < 1 || hour < 0 || minute < 0 || second < 0) return NONE;
    if (day > lengthOfMonth(year, month) || hour > 23 || minute > 59 || second > 60) return NONE;

    int at = from + 19;
    int micros = 0;
    if (b[at] == '.') {
      int begin = ++at;
      for (; at < to && b[at] >= '0' && b[at] <= '9'; at++) {
        if (at - begin < 6) micros = 10 * micros + b[at] - '0';
      }
      if (at == begin) return NONE;
      for (int i = at - begin; i < 6; i++) micros *= 10;
    }
    int offset = offsetSeconds(b, at, to);
    if (offset == Integer.MAX_VALUE) return NONE;

    boolean leap = second == 60;
    long seconds = LocalDate.of(year, month, day).toEpochDay() * DAY_S + hour * 3600L + minute * 60L + second;
    // A leap second is taken for the one after it; that may not be in the year 10000, as written.
    if (leap && seconds * 1000 > MAX_MS) return NONE;
    long since = seconds - offset;
    if (leap) {
      if (Math.floorMod(since, DAY_S) != 0) return NONE;
      long epochDay = Math.floorDiv(since, DAY_S);
      if (epochDay < LocalDate.of(1, 1, 1).toEpochDay() || epochDay > LocalDate.of(9999, 12, 31).toEpochDay()) return NONE;
      if (LocalDate.ofEpochDay(epochDay).getDayOfMonth() != 1) return NONE;
    }
    return since * 1000 + micros / 1000;
  }

  private static int lengthOfMonth(int year, int month) {
    return switch (month) {
      case 2 -> year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
      case 4, 6, 9, 11 -> 30;
      default -> 31;
    };
  }

  /** `Z` or `+HH:MM`, up to the end; MAX_VALUE if it is neither, or not within a day. */
  private static int offsetSeconds(byte[] b, int at, int to) {
    if (to - at == 1 && (b[at] == 'Z' || b[at] == 'z')) return 0;
    if (to - at != 6 || b[at] != '+' && b[at] != '-' || b[at + 3] != ':') return Integer.MAX_VALUE;
    int hours = digits(b, at + 1, 2);
    int minutes = digits(b, at + 4, 2);
    if (hours < 0 || minutes < 0) return Integer.MAX_VALUE;
    int seconds = hours * 3600 + minutes * 60;
    if (seconds >= DAY_S) return Integer.MAX_VALUE;
    return b[at] == '-' ? -seconds : seconds;
  }

  private static int digits(byte[] b, int from, int count) {
    int value = 0;
    for (int i = from; i < from + count; i++) {
      if (b[i] < '0' || b[i] > '9') return -1;
      value = 10 * value + b[i] - '0';
    }
    return value;
  }
}
