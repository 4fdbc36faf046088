package geolane.router;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.HashSet;
import java.util.Set;

/**
 * The names and limits that both engines share. They stand in rules.json; the test tests/router/test_rules.py holds them
 * against those of the Python engine.
 */
final class Rules {
  private static final JsonNode ALL = load();

  static final String SRC = header("SRC");
  static final String RAW_MS = header("RAW_MS");
  static final String CELL = header("CELL");
  static final String TS = header("TS");
  static final String MAP = header("MAP");
  static final String REASON = header("REASON");
  static final String DETAIL = header("DETAIL");
  static final String RAW_KEY = header("RAW_KEY");
  static final String PLACED = header("PLACED");
  static final String REPLAYS = header("REPLAYS");
  static final String DIED = header("DIED");
  static final Set<String> OURS = ours();
  static final Set<String> DROPPED = dropped();

  static final String UNREADABLE = reason("unreadable");
  static final String BAD_HEADER = reason("bad_header");
  static final String TOO_LARGE = reason("too_large");
  static final String NOT_JSON = reason("not_json");
  static final String NOT_OBJECT = reason("not_object");
  static final String NO_ID = reason("no_id");
  static final String NO_TS = reason("no_ts");
  static final String BAD_TS = reason("bad_ts");
  static final String FUTURE_TS = reason("future_ts");
  static final String NO_ORIGIN = reason("no_origin");
  static final String BAD_ORIGIN = reason("bad_origin");

  static final int DETAIL_CHARACTERS = (int) limit("detail_characters");
  static final int QUOTED_CHARACTERS = (int) limit("quoted_characters");
  static final int NAME_CHARACTERS = (int) limit("name_characters");
  static final int HEADERS_BYTES = (int) limit("headers_bytes");
  static final int RECORD_OVERHEAD = (int) limit("record_overhead_bytes");
  static final int HEADER_OVERHEAD = (int) limit("header_overhead_bytes");
  static final int DEAD_BYTES = (int) limit("dead_bytes");
  static final long MAX_REPLAYS = limit("replays");
  static final int SOURCE_CHARACTERS = (int) limit("source_characters");
  static final int PLACED_CHARACTERS = (int) limit("placed_characters");
  static final long MIN_MS = limit("min_ms");
  static final long MAX_MS = limit("max_ms");
  static final long SECONDS_FROM = limit("seconds_from");
  static final long SECONDS_TO = limit("seconds_to");

  private Rules() {}

  private static JsonNode load() {
    try (InputStream in = Rules.class.getResourceAsStream("rules.json")) {
      return new ObjectMapper().readTree(in);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static String header(String name) {
    return ALL.required("headers").required(name).asText();
  }

  private static Set<String> ours() {
    Set<String> names = new HashSet<>();
    ALL.required("headers").forEach(name -> names.add(name.asText()));
    return Set.copyOf(names);
  }

  private static Set<String> dropped() {
    Set<String> names = new HashSet<>(ours());
    ALL.required("kept").forEach(name -> names.remove(header(name.asText())));
    return Set.copyOf(names);
  }

  private static String reason(String name) {
    for (JsonNode reason : ALL.required("reasons")) if (reason.asText().equals(name)) return name;
    throw new IllegalStateException("rules.json has no reason " + name);
  }

  /** Why a topic refuses what it is sent, by Kafka's error code; null if the error is not a refusal. */
  static String refusal(short code) {
    return ALL.required("refusals").path(Short.toString(code)).textValue();
  }

  private static long limit(String name) {
    return ALL.required("limits").required(name).asLong();
  }
}
