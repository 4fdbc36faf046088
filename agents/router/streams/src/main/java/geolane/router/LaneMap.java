package geolane.router;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.uber.h3core.H3Core;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import org.apache.kafka.common.utils.Utils;

/** From coordinates to cell and lane, as `LaneMap` in agents/core/lanes/lane_map.py. Not for several threads. */
final class LaneMap {
  private static final int MOST_CACHED = 50_000;

  final int version;
  final int lanes;
  private final int resolution;
  private final Map<String, int[]> cellLanes = new HashMap<>();
  private final Map<Long, Cell> seen = new HashMap<>();
  private final H3Core h3;

  /** `name`: in hex. */
  record Cell(byte[] name, int[] lanes) {
    int laneOf(byte[] key) {
      return lanes.length == 1 ? lanes[0] : lanes[hash(key) % lanes.length];
    }
  }

  /** `json`: a value of the topic `lanemap`, which the supervisor has checked. */
  LaneMap(byte[] json) {
    try {
      JsonNode map = new ObjectMapper().readTree(json);
      version = map.required("version").asInt();
      lanes = map.required("lanes").asInt();
      resolution = map.required("resolution").asInt();
      for (Iterator<Map.Entry<String, JsonNode>> i = map.required("cells").fields(); i.hasNext(); ) {
        Map.Entry<String, JsonNode> entry = i.next();
        int[] of = new int[entry.getValue().size()];
        for (int n = 0; n < of.length; n++) of[n] = entry.getValue().get(n).asInt();
        cellLanes.put(entry.getKey(), of);
      }
      h3 = H3Core.newInstance();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  Cell locate(double lat, double lon) {
    long index = h3.latLngToCell(lat, lon, resolution);
    Cell cell = seen.get(index);
    if (cell == null) {
      String name = Long.toHexString(index);
      byte[] bytes = name.getBytes(StandardCharsets.US_ASCII);
      int[] of = cellLanes.get(name);
      cell = new Cell(bytes, of != null ? of : new int[] {hash(bytes) % lanes});
      if (seen.size() >= MOST_CACHED) seen.clear();
      seen.put(index, cell);
    }
    return cell;
  }

  /** Kafka's murmur2, made positive as its partitioner does. */
  static int hash(byte[] key) {
    return Utils.toPositive(Utils.murmur2(key));
  }
}
