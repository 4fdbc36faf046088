package geolane.router;

import geolane.router.PyText.Unprintable;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.ToIntFunction;
import java.util.regex.Pattern;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.internal.DefaultRecord;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;

/**
 * Sends each raw record to exactly one of its lane, the unplaced and the dead letters, byte for byte as `RouterStage` in
 * agents/router/stage.py does. Pure; not for several threads.
 */
final class Sorter {
  enum Target {
    LANES,
    UNPLACED,
    DEAD
  }

  /** A header; `shown`: a name that is not UTF-8, in a form that can be shown; else null. */
  record Header(String name, byte[] content, String shown) {
    Header(String name, byte[] content) {
      this(name, content, null);
    }

    Header(String name, String content) {
      this(name, content.getBytes(StandardCharsets.UTF_8), null);
    }

    /** As Kafka's client can write it. */
    RecordHeader sent() {
      return new RecordHeader(shown != null ? shown : name, content);
    }
  }

  /** `partition`: of the target's topic. */
  record Sorted(Target target, int partition, byte[] key, byte[] value, List<Header> headers) {}

  /** `unplacedPartitions`: of events.unplaced. `batchBytes`: the largest record batch that a topic takes. */
  record Limits(int maxBytes, long futureLimitMs, int unplacedPartitions, ToIntFunction<String> batchBytes) {}

  private static final Pattern SOURCE =
      Pattern.compile("[A-Za-z0-9._-]{1," + Rules.SOURCE_CHARACTERS + "}/[0-9]{1,9}/[0-9]{1,19}");
  private static final Pattern PLACED =
      Pattern.compile("[!-~]{1," + Rules.PLACED_CHARACTERS + "} (?:address|city|region|country)");
  private static final Pattern PYTHON_INT = Pattern.compile("[ \\t\\n\\x0B\\f\\r]*([+-]?[0-9](?:_?[0-9])*)[ \\t\\n\\x0B\\f\\r]*");

  private final LaneMap map;
  private final Limits limits;
  private final Config.Topics topics;
  private final Unprintable unprintable;
  private final byte[] version;

  Sorter(LaneMap map, Limits limits, Config.Topics topics, Unprintable unprintable) {
    this.map = map;
    this.limits = limits;
    this.topics = topics;
    this.unprintable = unprintable;
    version = Integer.toString(map.version).getBytes(StandardCharsets.US_ASCII);
  }

  Sorted sort(String topic, int partition, long offset, long rawMs, byte[] key, byte[] value, List<Header> headers) {
    Event event = findBadHeader(headers);
    if (event == null) event = Event.parse(value, rawMs, limits.maxBytes, limits.futureLimitMs, unprintable);
    Header src = new Header(Rules.SRC, source(topic, partition, offset, headers));
    List<Header> theirs = keptHeaders(headers);
    if (event.reason != null) return deadLetter(src, rawMs, key, value, theirs, event.reason, event.detail);
    if (key != null && key.length > 0 || !theirs.isEmpty()) {
      long size = recordSize(key, value, theirs);
      if (size > limits.maxBytes + Rules.HEADERS_BYTES) {
        String detail = size + " bytes with its key and headers, the limit is " + limits.maxBytes;
        return deadLetter(src, rawMs, key, value, theirs, Rules.TOO_LARGE, detail);
      }
    }
    Sorted sorted = place(event, src, rawMs, key, value, theirs);
    String refusal = explainRefusal(sorted.target == Target.LANES ? topics.lanes() : topics.unplaced(), sorted.key, value, sorted.headers);
    return refusal.isEmpty() ? sorted : deadLetter(src, rawMs, key, value, theirs, Rules.TOO_LARGE, refusal);
  }

  private Sorted place(Event event, Header src, long rawMs, byte[] key, byte[] value, List<Header> theirs) {
    List<Header> out = new ArrayList<>(5 + theirs.size());
    out.add(src);
    out.add(new Header(Rules.RAW_MS, Long.toString(rawMs)));
    if (!event.hasCoordinates) {
      int count = limits.unplacedPartitions;
      out.add(new Header(Rules.TS, Long.toString(event.tsMs)));
      out.addAll(theirs);
      if (key != null && !Arrays.equals(key, event.id)) out.add(new Header(Rules.RAW_KEY, key));
      return new Sorted(Target.UNPLACED, count > 1 ? LaneMap.hash(event.id) % count : 0, event.id, value, out);
    }
    byte[] laneKey = key == null ? event.id : key;
    LaneMap.Cell cell = map.locate(event.lat, event.lon);
    out.add(new Header(Rules.CELL, cell.name()));
    out.add(new Header(Rules.TS, Long.toString(event.tsMs)));
    out.add(new Header(Rules.MAP, version));
    out.addAll(theirs);
    return new Sorted(Target.LANES, cell.laneOf(laneKey), laneKey, value, out);
  }

  /** The dead letter of a record that nobody can read, and why. */
  Sorted rejectUnread(String topic, int partition, long offset, long rawMs, String why) {
    Header src = new Header(Rules.SRC, source(topic, partition, offset, List.of()));
    return deadLetter(src, rawMs, null, null, List.of(), Rules.UNREADABLE, why);
  }

  private Event findBadHeader(List<Header> headers) {
    for (Header header : headers) {
      if (header.shown != null) {
        String name = PyText.repr(PyText.firstCharacters(header.shown, Rules.NAME_CHARACTERS), Integer.MAX_VALUE / 2, unprintable);
        return Event.rejected(Rules.BAD_HEADER, "the name of a header is not UTF-8: " + name);
      }
    }
    return null;
  }

  /** A replayed record keeps its source, if it is a valid one. */
  private static String source(String topic, int partition, long offset, List<Header> headers) {
    for (Header header : headers) {
      if (header.name.equals(Rules.SRC) && header.shown == null && header.content != null) {
        String text = new String(header.content, StandardCharsets.ISO_8859_1);
        if (SOURCE.matcher(text).matches()) return text;
      }
    }
    return topic + "/" + partition + "/" + offset;
  }

  /** The headers that are not ours, the history of a dead letter, and who placed it. */
  private static List<Header> keptHeaders(List<Header> headers) {
    if (headers.isEmpty()) return List.of();
    List<Header> kept = new ArrayList<>(headers.size());
    for (Header header : headers) {
      if (!Rules.DROPPED.contains(header.name) && isKept(header)) kept.add(header);
    }
    return kept;
  }

  private static boolean isKept(Header header) {
    if (header.shown != null) return true;
    if (header.name.equals(Rules.REPLAYS)) return isReplays(header.content);
    if (header.name.equals(Rules.PLACED)) {
      return header.content != null && PLACED.matcher(new String(header.content, StandardCharsets.ISO_8859_1)).matches();
    }
    return !header.name.equals(Rules.DIED) || header.content != null;
  }

  /** A whole number as Python reads it from bytes, from 1 on. */
  private static boolean isReplays(byte[] content) {
    if (content == null || content.length < 1 || content.length > 20) return false;
    var found = PYTHON_INT.matcher(new String(content, StandardCharsets.ISO_8859_1));
    if (!found.matches()) return false;
    var number = new BigInteger(found.group(1).replace("_", "").replace("+", ""));
    return number.signum() > 0 && number.bitLength() <= 63 && number.longValue() <= Rules.MAX_REPLAYS;
  }

  /** The record unchanged, with its headers and the reason; without value and headers if the topic would refuse it. */
  private Sorted deadLetter(
      Header src, long rawMs, byte[] key, byte[] value, List<Header> theirs, String reason, String detail) {
    List<Header> kept = new ArrayList<>(theirs.size() + 4);
    kept.add(src);
    kept.add(new Header(Rules.RAW_MS, Long.toString(rawMs)));
    kept.addAll(theirs);
    long large = recordSize(key, value, kept);
    kept.removeIf(header -> header.shown == null && (header.name.equals(Rules.REASON) || header.name.equals(Rules.DETAIL)));
    if (large > Rules.DEAD_BYTES || !explainRefusal(topics.dead(), key, value, withReason(kept, reason, detail)).isEmpty()) {
      detail = "left out here, " + thousands(large) + " bytes being more than " + topics.dead() + " takes: " + detail;
      if (key != null && key.length > Rules.DETAIL_CHARACTERS) key = null;
      if (key != null && key.length == 0) key = null;
      value = null;
      kept.removeIf(header -> header.shown != null || !Rules.OURS.contains(header.name) || header.name.equals(Rules.DIED));
    }
    return new Sorted(Target.DEAD, 0, key, value, withReason(kept, reason, detail));
  }

  private static List<Header> withReason(List<Header> kept, String reason, String detail) {
    List<Header> headers = new ArrayList<>(kept);
    headers.add(new Header(Rules.REASON, reason));
    headers.add(new Header(Rules.DETAIL, PyText.firstCharacters(detail, Rules.DETAIL_CHARACTERS)));
    return headers;
  }

  /** Why the topic would refuse this record; empty if it takes it, or if that is not known. */
  private String explainRefusal(String topic, byte[] key, byte[] value, List<Header> headers) {
    int limit = limits.batchBytes.applyAsInt(topic);
    if (recordSize(key, value, headers) <= limit) return "";
    int size = DefaultRecordBatch.RECORD_BATCH_OVERHEAD
        + DefaultRecord.sizeInBytes(
            0, 0, key == null ? -1 : key.length, value == null ? -1 : value.length,
            headers.stream().map(Header::sent).toArray(org.apache.kafka.common.header.Header[]::new));
    if (size <= limit) return "";
    return thousands(size) + " bytes for " + topic + ", which takes " + thousands(limit) + " (max.message.bytes)";
  }

  private static String thousands(long number) {
    return String.format(Locale.ROOT, "%,d", number);
  }

  /** An upper bound of a record's size, as `record_size` in agents/worker/stage.py. */
  private static long recordSize(byte[] key, byte[] value, List<Header> headers) {
    long size = Rules.RECORD_OVERHEAD + (key == null ? 0 : key.length) + (value == null ? 0 : value.length);
    for (Header header : headers) {
      String name = header.shown != null ? header.shown : header.name;
      size += name.codePointCount(0, name.length()) + (header.content == null ? 0 : header.content.length) + Rules.HEADER_OVERHEAD;
    }
    return size;
  }
}
