-- On a cluster: run the files of `single` on every shard, then this one on every node that is asked. The name of the
-- cluster, here `logs`, is the one in the servers' remote_servers. Point LIPSERVICE_LOGS_DSN at these two:
--   clickhouse://reader:…@any-node:8123/posthog?table=logs_distributed&volumes_table=logs_volume_buckets_distributed
-- Sharded by team: a team's logs lie on one shard, so its groups are made there and little travels. With
-- optimize_skip_unused_shards, and the key below, a query for one team asks its shard alone.
CREATE TABLE IF NOT EXISTS posthog.logs_distributed
(
    team_id Int32,
    time_bucket DateTime('UTC'),
    timestamp DateTime64(6, 'UTC'),
    observed_timestamp DateTime64(6, 'UTC'),
    uuid String,
    trace_id String,
    span_id String,
    body String,
    severity_text LowCardinality(String),
    severity_number Int32,
    service_name LowCardinality(String),
    resource_attributes Map(LowCardinality(String), String),
    attributes Map(String, String),
    instrumentation_scope String,
    event_name String
)
ENGINE = Distributed('logs', 'posthog', 'logs', cityHash64(team_id));

CREATE TABLE IF NOT EXISTS posthog.logs_volume_buckets_distributed AS posthog.logs_volume_buckets
ENGINE = Distributed('logs', 'posthog', 'logs_volume_buckets', cityHash64(team_id));
