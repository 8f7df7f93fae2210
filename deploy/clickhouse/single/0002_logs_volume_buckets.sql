-- Logs in five-minute buckets, kept up by each insert: what spikes and baselines are read from, without the logs.
CREATE TABLE IF NOT EXISTS posthog.logs_volume_buckets
(
    team_id Int32,
    time_bucket DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    service_name LowCardinality(String),
    namespace LowCardinality(String),
    environment LowCardinality(String),
    severity_text LowCardinality(String),
    log_count SimpleAggregateFunction(sum, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(time_bucket)
ORDER BY (team_id, time_bucket, service_name, namespace, environment, severity_text)
TTL time_bucket + INTERVAL 42 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS posthog.logs_volume_buckets_of_inserts TO posthog.logs_volume_buckets AS
SELECT
    team_id,
    toStartOfInterval(toDateTime(timestamp, 'UTC'), INTERVAL 5 MINUTE) AS time_bucket,
    service_name,
    resource_attributes['service.namespace'] AS namespace,
    multiIf(
        mapContains(resource_attributes, 'deployment.environment.name'), resource_attributes['deployment.environment.name'],
        mapContains(resource_attributes, 'deployment.environment'), resource_attributes['deployment.environment'],
        resource_attributes['environment']
    ) AS environment,
    lower(severity_text) AS severity_text,
    count() AS log_count
FROM posthog.logs
GROUP BY team_id, time_bucket, service_name, namespace, environment, severity_text;
