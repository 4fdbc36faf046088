-- The rises of docs/hotspots.md. Values: lanes, rises (topics), group, prefix (of transactional
-- ids), from_ms (append time of the first records to read), lateness_ms, lateness, idle_ms,
-- since_s, floor, threshold; context (topic); found (named or unnamed: whether that topic is read);
-- of each factor: factor, gain, cost. Fragment: kafka (how the brokers are reached).

CREATE TEMPORARY TABLE records (
  payload BYTES,
  headers MAP<STRING, BYTES> METADATA VIRTUAL,
  part INT METADATA FROM 'partition' VIRTUAL,
  appended TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  cell AS REGEXP_EXTRACT(CAST(headers['geolane-cell'] AS STRING), '^8[0-9a-f]{14}\z', 0),
  said_ms AS TRY_CAST(
    REGEXP_EXTRACT(CAST(headers['geolane-ts'] AS STRING), '^[0-9]{1,15}\z', 0) AS BIGINT),
  -- A record that is not an event has the time 0, which moves no watermark.
  ms AS LEAST(
    COALESCE(TRY_CAST(
      REGEXP_EXTRACT(CAST(headers['geolane-ts'] AS STRING), '^[0-9]{1,15}\z', 0) AS BIGINT), 0),
    EXTRACT(EPOCH FROM appended) * 1000 + EXTRACT(MILLISECOND FROM appended)),
  event_time AS TO_TIMESTAMP_LTZ(LEAST(
    COALESCE(TRY_CAST(
      REGEXP_EXTRACT(CAST(headers['geolane-ts'] AS STRING), '^[0-9]{1,15}\z', 0) AS BIGINT), 0),
    EXTRACT(EPOCH FROM appended) * 1000 + EXTRACT(MILLISECOND FROM appended)), 3),
  taken_at AS PROCTIME(),
  WATERMARK FOR event_time AS event_time - INTERVAL '${lateness}' DAY TO SECOND(3)
) WITH (
  'connector' = 'kafka', 'topic' = '${lanes}', 'format' = 'raw',
  'properties.group.id' = '${group}', 'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = '${from_ms}',
  'scan.watermark.idle-timeout' = '${idle_ms} ms',
  ${kafka}
);

-- Late is what its own partition's high mark says; so it does not depend on how fast others are.
CREATE TEMPORARY VIEW events AS
SELECT cell, ms / 1000 AS slot_s, event_time
FROM (
  SELECT *, MAX(ms) OVER (
    PARTITION BY part ORDER BY taken_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS high_ms
  FROM records
  WHERE cell IS NOT NULL AND said_ms IS NOT NULL
)
WHERE ms > high_ms - ${lateness_ms};

CREATE TEMPORARY VIEW events_and_areas AS
SELECT cell, slot_s, event_time FROM events
UNION ALL
SELECT CONCAT('83', SUBSTRING(cell, 3, 4), 'fffffffff'), slot_s, event_time FROM events
WHERE SUBSTRING(cell, 2, 1) > '3';

CREATE TEMPORARY VIEW slots AS
SELECT cell, slot_s, window_time AS closed_at, LEAST(COUNT(*), 10000000) AS n
FROM TABLE(TUMBLE(TABLE events_and_areas, DESCRIPTOR(event_time), INTERVAL '1' SECOND))
GROUP BY cell, slot_s, window_start, window_end, window_time;

-- The usual figures of a cell, as of its last active minute m: of minutes m-44 to m-5, and of m-64
-- to m-25.
CREATE TEMPORARY VIEW minutes AS
SELECT cell, MAX(slot_s) / 60 AS minute_no, window_time AS closed_at, SUM(n) AS n
FROM TABLE(TUMBLE(TABLE slots, DESCRIPTOR(closed_at), INTERVAL '1' MINUTE))
GROUP BY cell, window_start, window_end, window_time;

CREATE TEMPORARY VIEW sums_65 AS
SELECT cell, minute_no, closed_at, n, SUM(n) OVER (
  PARTITION BY cell ORDER BY closed_at
  RANGE BETWEEN INTERVAL '64' MINUTE PRECEDING AND CURRENT ROW) AS n_65
FROM minutes;

CREATE TEMPORARY VIEW sums_45 AS
SELECT cell, minute_no, closed_at, n, n_65, SUM(n) OVER (
  PARTITION BY cell ORDER BY closed_at
  RANGE BETWEEN INTERVAL '44' MINUTE PRECEDING AND CURRENT ROW) AS n_45
FROM sums_65;

CREATE TEMPORARY VIEW sums_25 AS
SELECT cell, minute_no, closed_at, n, n_45, n_65 - SUM(n) OVER (
  PARTITION BY cell ORDER BY closed_at
  RANGE BETWEEN INTERVAL '24' MINUTE PRECEDING AND CURRENT ROW) AS far
FROM sums_45;

CREATE TEMPORARY VIEW sums_5 AS
SELECT cell, minute_no, closed_at, far, n_45 - SUM(n) OVER (
  PARTITION BY cell ORDER BY closed_at
  RANGE BETWEEN INTERVAL '4' MINUTE PRECEDING AND CURRENT ROW) AS near
FROM sums_25;

CREATE TEMPORARY VIEW usual AS
SELECT cell, minute_no, near, far, closed_at FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY cell ORDER BY closed_at DESC) AS newest FROM sums_5
) WHERE newest = 1;

CREATE TEMPORARY VIEW gaps AS
SELECT cell, slot_s, closed_at, n, CASE
  WHEN LAG(slot_s) OVER (PARTITION BY cell ORDER BY closed_at) IS NULL THEN 1
  ELSE LEAST(slot_s - LAG(slot_s) OVER (PARTITION BY cell ORDER BY closed_at), 3600)
END AS gap_s
FROM slots;

CREATE TEMPORARY VIEW compared AS
SELECT g.cell, g.slot_s, g.closed_at, g.n, g.gap_s, g.slot_s / 60 - ${since_s} / 60 AS age_min,
  CASE WHEN u.near IS NULL OR g.slot_s - (u.minute_no + 1) * 60 > 86400 THEN 0 ELSE u.near
  END AS near,
  CASE WHEN u.far IS NULL OR g.slot_s - (u.minute_no + 1) * 60 > 86400 THEN 0 ELSE u.far
  END AS far
FROM gaps AS g
LEFT JOIN usual FOR SYSTEM_TIME AS OF g.closed_at AS u ON g.cell = u.cell;

CREATE TEMPORARY VIEW baselines AS
SELECT cell, slot_s, closed_at, n, gap_s,
  CASE WHEN near < 160 AND age_min >= 65 THEN far ELSE near END AS usual,
  CASE WHEN near < 160 AND age_min >= 65 THEN 40 ELSE LEAST(40, age_min - 5) END * 60 AS usual_s
FROM compared WHERE age_min >= 15;

CREATE TEMPORARY VIEW expected_events AS
SELECT cell, slot_s, closed_at, n, gap_s, usual, usual_s,
  LEAST(usual, 400000000) + CAST(FLOOR(SQRT(CAST(LEAST(usual, 400000000) AS DOUBLE))) AS BIGINT)
    + ${floor} AS expected
FROM baselines;

CREATE TEMPORARY VIEW expectations AS
SELECT *, ${threshold} + 500000 * (CHAR_LENGTH(BIN(expected * 3600 / usual_s)) - 12) AS threshold
FROM expected_events;

-- Each row once for each factor.
CREATE TEMPORARY VIEW tested AS
SELECT cell, CAST(${factor_a} AS DOUBLE) AS factor, slot_s, closed_at, n, usual, usual_s,
  threshold, expected * ${cost_a} * (gap_s - 1) / usual_s AS idle,
  n * ${gain_a} - expected * ${cost_a} / usual_s AS work
FROM expectations
UNION ALL
SELECT cell, CAST(${factor_b} AS DOUBLE) AS factor, slot_s, closed_at, n, usual, usual_s,
  threshold, expected * ${cost_b} * (gap_s - 1) / usual_s AS idle,
  n * ${gain_b} - expected * ${cost_b} / usual_s AS work
FROM expectations;

-- A run is R R R ... H: its sum is above 0 before and after each row, and H exceeds the threshold.
CREATE TEMPORARY VIEW found AS
SELECT at_s, cell, factor, started_s, events, usual, usual_s, closed_at
FROM tested MATCH_RECOGNIZE (
  PARTITION BY cell, factor ORDER BY closed_at
  MEASURES MATCH_ROWTIME(closed_at) AS closed_at, H.slot_s AS at_s,
    COALESCE(FIRST(R.slot_s), H.slot_s) AS started_s,
    COALESCE(SUM(R.n), 0) + H.n AS events, H.usual AS usual, H.usual_s AS usual_s
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (R*? H)
  DEFINE
    R AS SUM(R.work) - SUM(R.idle) + FIRST(R.idle) > 0
      AND SUM(R.work) - SUM(R.idle) + FIRST(R.idle) <= R.threshold
      AND (FIRST(R.slot_s) = R.slot_s OR (R.slot_s - LAST(R.slot_s, 1) < 3600
        AND SUM(R.work) - R.work - SUM(R.idle) + FIRST(R.idle) > 0)),
    H AS (FIRST(R.slot_s) IS NULL AND H.work > H.threshold)
      OR (FIRST(R.slot_s) IS NOT NULL AND H.slot_s - LAST(R.slot_s) < 3600
        AND SUM(R.work) - SUM(R.idle) + FIRST(R.idle) - H.idle > 0
        AND SUM(R.work) - SUM(R.idle) + FIRST(R.idle) - H.idle + H.work > H.threshold)
);

-- Names of cells that do not expire. All have the same time, and none holds a watermark back: for a
-- row of any event time, the newest name counts.
CREATE TEMPORARY TABLE names (
  kind STRING, cell STRING, name STRING, provider STRING, fetched_at DOUBLE, expires_at DOUBLE,
  known_at AS TO_TIMESTAMP_LTZ(0, 3),
  WATERMARK FOR known_at AS TO_TIMESTAMP_LTZ(253402300799000, 3)
) WITH (
  'connector' = 'kafka', 'topic' = '${context}', 'format' = 'json',
  'json.ignore-parse-errors' = 'true',
  'properties.group.id' = '${group}', 'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset', 'scan.watermark.idle-timeout' = '1 s',
  ${kafka}
);

CREATE TEMPORARY VIEW newest_names AS
SELECT cell, name, provider, expires_at, known_at FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY cell ORDER BY known_at DESC) AS newest FROM names
  WHERE kind = 'name' AND cell IS NOT NULL AND expires_at - fetched_at >= 86399
) WHERE newest = 1;

CREATE TEMPORARY VIEW named AS
SELECT f.at_s, f.cell, f.factor, f.started_s, f.events, f.usual, f.usual_s, f.closed_at,
  CASE WHEN n.expires_at > UNIX_TIMESTAMP() THEN SUBSTRING(n.name, 1, 120) ELSE '' END AS name,
  CASE WHEN n.expires_at > UNIX_TIMESTAMP() THEN SUBSTRING(n.provider, 1, 60) ELSE '' END
    AS named_by
FROM found AS f
LEFT JOIN newest_names FOR SYSTEM_TIME AS OF f.closed_at AS n ON f.cell = n.cell;

CREATE TEMPORARY VIEW unnamed AS SELECT *, '' AS name, '' AS named_by FROM found;

-- How far event time has come: a row without a cell for every 10 s in which there were events.
CREATE TEMPORARY VIEW ticks AS
SELECT EXTRACT(EPOCH FROM window_time) AS at_s, COUNT(*) AS events, window_time AS closed_at
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(event_time), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, window_time;

CREATE TEMPORARY VIEW found_and_ticks AS
SELECT at_s, cell, factor, started_s, events, usual, usual_s, name, named_by, closed_at,
  0 AS is_tick FROM ${found}
UNION ALL
SELECT at_s, '', CAST(0 AS DOUBLE), CAST(0 AS BIGINT), events, CAST(0 AS BIGINT),
  CAST(1 AS BIGINT), '', '', closed_at, 1 FROM ticks;

CREATE TEMPORARY TABLE rises (
  at_s BIGINT, cell STRING, factor DOUBLE, started_s BIGINT, events BIGINT, usual BIGINT,
  usual_s BIGINT, name STRING, named_by STRING
) WITH (
  'connector' = 'kafka', 'topic' = '${rises}', 'format' = 'json',
  'sink.parallelism' = '1', -- keeps their order
  'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '${prefix}',
  'properties.transaction.timeout.ms' = '600000',
  ${kafka}
);

INSERT INTO rises
SELECT at_s, cell, factor, started_s, events, usual, usual_s, name, named_by FROM found_and_ticks
ORDER BY closed_at, is_tick, cell, factor;
