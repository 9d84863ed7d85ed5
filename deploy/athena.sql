-- The archive of an `s3` sink with format = "parquet" as a table of Athena, with partition projection: new objects are
-- seen at once, without a crawler and without ALTER TABLE.
--
-- Before you run it, replace
--   turnstiled-archive/events   by the sink's bucket and prefix (twice),
--   hq                          by your buildings, separated by commas; keep _server: events of no building,
--   2026-01-01                  by the first day of the archive.
--
-- A query that names building and dt reads only those objects:
--   SELECT time, gate, employee_id, reason FROM turnstiled_events
--   WHERE building = 'hq' AND dt = '2026-11-20' AND type = 'access.entry.denied' ORDER BY time;
-- What has no column is in the whole event:
--   SELECT json_extract_scalar(event, '$.data.note') FROM turnstiled_events WHERE ...
--
-- time and occurred_at are in UTC. `by` is a reserved word: write "by" in queries.

CREATE EXTERNAL TABLE IF NOT EXISTS turnstiled_events (
  `id` string COMMENT 'UUIDv7, by which repeats are known',
  `type` string COMMENT 'such as access.entry.denied',
  `source` string COMMENT 'gate, building or server',
  `subject` string COMMENT 'card/ID or employee/ID',
  `log` string COMMENT 'server id and epoch',
  `sequence` bigint COMMENT 'gapless in its log',
  `time` timestamp COMMENT 'when the server decided or recorded',
  `partitionkey` string COMMENT 'employee, else card, else building',
  `traceparent` string COMMENT 'W3C trace context of the request',
  `chainhash` string COMMENT 'SHA-256 of the record before it in the log',
  `gate` string,
  `card_id` string,
  `employee_id` string,
  `reason` string COMMENT 'why an entry was denied',
  `bacnet_code` bigint COMMENT 'the reason in BACnet terms',
  `violation` string COMMENT 'of an entry that was granted all the same',
  `anomaly` string COMMENT 'of an exit',
  `swipe_id` string,
  `occurred_at` timestamp COMMENT 'by the clock of the device',
  `by` string COMMENT 'who acted',
  `status` string COMMENT 'of a card',
  `version` bigint COMMENT 'of a card',
  `event` string COMMENT 'the whole event, byte for byte as every sink sent it'
)
PARTITIONED BY (
  `building` string,
  `dt` string,
  `hour` string
)
STORED AS PARQUET
LOCATION 's3://turnstiled-archive/events/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.building.type' = 'enum',
  'projection.building.values' = 'hq,_server',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2026-01-01,NOW',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'projection.hour.type' = 'integer',
  'projection.hour.range' = '0,23',
  'projection.hour.digits' = '2',
  'storage.location.template' = 's3://turnstiled-archive/events/building=${building}/dt=${dt}/hour=${hour}/'
);
