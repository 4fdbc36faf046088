package geolane.router;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * What was done: each thread counts what it has not committed yet in its `Staged`, and adds it here with the commit.
 * `report` tells what is new since it was asked last.
 */
final class Progress {
  private static final int SAMPLES = 32; // of one partition's records in a commit
  private static final int MOST_SAMPLES = 256; // of a partition between two reports
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Map<Integer, Part> PARTS = new TreeMap<>();
  private static final List<Double> COMMIT_MS = new ArrayList<>();

  private Progress() {}

  /** A partition's running counts since its first record, as in the metadata of committed offsets (PROTOCOL 1). */
  record Counts(long out, long dead) {
    static final Counts NONE = new Counts(0, 0);

    String encode() {
      return "{\"in\":" + (out + dead) + ",\"out\":" + out + ",\"filtered\":0,\"dead\":" + dead + "}";
    }

    /** Zeros if another program set the offset. */
    static Counts decode(String metadata) {
      try {
        JsonNode counts = JSON.readTree(metadata);
        return counts == null || !counts.isObject() ? NONE : new Counts(counts.path("out").asLong(), counts.path("dead").asLong());
      } catch (IOException e) {
        return NONE;
      }
    }
  }

  /** One partition's part of the transaction that is open. */
  static final class Staged {
    Counts base = Counts.NONE; // what is committed
    long out;
    long dead;
    private int seen;
    final long[] sampleMs = new long[SAMPLES];
    final Map<Integer, Integer> arrivals = new HashMap<>();

    void count(Sorter.Sorted sorted, long rawMs) {
      if (sorted.target() == Sorter.Target.DEAD) dead++;
      else out++;
      if (sorted.target() == Sorter.Target.LANES) arrivals.merge(sorted.partition(), 1, Integer::sum);
      sampleMs[seen < SAMPLES ? seen : (int) (Math.random() * (seen + 1)) % SAMPLES] = rawMs;
      seen++;
    }

    Counts total() {
      return new Counts(base.out + out, base.dead + dead);
    }

    void clear() {
      out = dead = seen = 0;
      arrivals.clear();
    }
  }

  private static final class Part {
    long out;
    long dead;
    long oldestMs = Long.MAX_VALUE;
    long newestMs = Long.MIN_VALUE;
    final List<Long> tookMs = new ArrayList<>();
    final Map<Integer, Integer> arrivals = new TreeMap<>();
  }

  /** A transaction is committed. `nowMs`: by the brokers' clock. */
  static synchronized void add(Map<Integer, Staged> staged, double commitMs, long nowMs) {
    if (COMMIT_MS.size() < MOST_SAMPLES) COMMIT_MS.add(commitMs);
    staged.forEach((n, part) -> {
      Part to = PARTS.computeIfAbsent(n, key -> new Part());
      to.out += part.out;
      to.dead += part.dead;
      for (int i = 0; i < Math.min(part.seen, SAMPLES); i++) {
        to.oldestMs = Math.min(to.oldestMs, part.sampleMs[i]);
        to.newestMs = Math.max(to.newestMs, part.sampleMs[i]);
        if (to.tookMs.size() < MOST_SAMPLES) to.tookMs.add(Math.max(0, nowMs - part.sampleMs[i]));
      }
      part.arrivals.forEach((lane, count) -> to.arrivals.merge(lane, count, Integer::sum));
      part.base = part.total();
      part.clear();
    });
  }

  /** Adds to `report`: `parts` by partition, each with what is new; `commitMs`. */
  static synchronized void report(ObjectNode report) {
    ObjectNode parts = report.putObject("parts");
    PARTS.forEach((n, part) -> {
      if (part.out + part.dead == 0) return;
      ObjectNode to = parts.putObject(n.toString());
      to.put("out", part.out).put("dead", part.dead).put("oldest_ms", part.oldestMs).put("newest_ms", part.newestMs);
      ArrayNode took = to.putArray("took_ms");
      part.tookMs.forEach(took::add);
      ObjectNode arrivals = to.putObject("arrivals");
      part.arrivals.forEach((lane, count) -> arrivals.put(lane.toString(), count));
    });
    PARTS.clear();
    ArrayNode commits = report.putArray("commit_ms");
    COMMIT_MS.forEach(commits::add);
    COMMIT_MS.clear();
  }
}
