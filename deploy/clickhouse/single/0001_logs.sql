-- PostHog's table of logs (the columns that are asked for and those that it keeps beside them), on one server.
-- A team's day is one stretch of the sorting key: a query that names team, day and timestamps reads nothing else.
CREATE DATABASE IF NOT EXISTS posthog;

CREATE TABLE IF NOT EXISTS posthog.logs
(
    team_id Int32,
    time_bucket DateTime('UTC') MATERIALIZED toStartOfDay(timestamp, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    timestamp DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    observed_timestamp DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    original_expiry_timestamp DateTime64(6, 'UTC') DEFAULT observed_timestamp + INTERVAL 15 DAY CODEC(DoubleDelta, ZSTD(1)),
    created_at DateTime64(6, 'UTC') MATERIALIZED now64(6) CODEC(DoubleDelta, ZSTD(1)),
    uuid String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    trace_flags Int32 CODEC(ZSTD(1)),
    body String CODEC(ZSTD(2)),
    severity_text LowCardinality(String),
    severity_number Int32 CODEC(ZSTD(1)),
    service_name LowCardinality(String),
    resource_attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    resource_fingerprint UInt64 MATERIALIZED cityHash64(resource_attributes),
    attributes_map_str Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attributes Map(String, String) ALIAS mapApply((k, v) -> (replaceRegexpOne(k, '__str$', ''), v), attributes_map_str),
    instrumentation_scope String CODEC(ZSTD(1)),
    event_name String CODEC(ZSTD(1)),
    pattern String CODEC(ZSTD(1)),
    pattern_version UInt8,
    INDEX idx_severity severity_text TYPE set(10) GRANULARITY 1,
    INDEX idx_uuid uuid TYPE bloom_filter GRANULARITY 1,
    INDEX idx_timestamp timestamp TYPE minmax GRANULARITY 1,
    INDEX idx_observed observed_timestamp TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(original_expiry_timestamp)
ORDER BY (team_id, time_bucket, service_name, resource_fingerprint, severity_text, timestamp)
TTL toDateTime(original_expiry_timestamp)
SETTINGS ttl_only_drop_parts = 1;
