-- One topic into another, each record exactly once; it's the tests' only job.
CREATE TEMPORARY TABLE source (n BIGINT) WITH (
  'connector' = 'kafka',
  'topic' = '${source}',
  ${kafka},
  'properties.group.id' = '${name}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);
CREATE TEMPORARY TABLE sink (n BIGINT) WITH (
  'connector' = 'kafka',
  'topic' = '${sink}',
  ${kafka},
  'format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = '${name}',
  'properties.transaction.timeout.ms' = '600000'
);
/* `BEGIN STATEMENT SET;` would stand here for more than one INSERT; */
INSERT INTO sink SELECT n FROM source;
