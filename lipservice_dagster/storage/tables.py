"""The tables in PostgreSQL.

Tables by team-day are range-partitioned by ``day`` (one child a day, made by the IO manager before it writes; dropped
by retention) and keyed by ``(team_id, day, …)``. The column orders are those of `core.frames`. What belongs to a run
and not to the content (run id, times, as-of bounds) stands in ``materializations``, so that a partition made again from
the same input is byte-equal. Ledgers (``services``, ``releases``, ``boosts``, ``overrides``, ``judgements``,
``model_calls``, ``analysis_runs``) are not partitioned, nor is what samplers report. Triggers of the migrations tell of
each entry in ``releases``, ``overrides``, ``boosts`` and ``api_keys`` (NOTIFY, channel lipservice_changed).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

VERSION_TABLE = "lipservice_version"
"""Alembic's own table; Dagster's storage has one by the usual name, and may share the database."""

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

# Text that is only compared and hashed sorts by bytes: the same order on every machine, and quicker than a locale's.
Text = sa.Text(collation="C")
Hours = pg.ARRAY(sa.Double, dimensions=1)
Severities = pg.ARRAY(sa.BigInteger, dimensions=1)
Instant = sa.DateTime(timezone=True)


def _column(
    name: str, kind: sa.types.TypeEngine, what: str | None = None, *, key: bool = False, null: bool = False
) -> sa.Column:
    """``what`` is shown beside the column in the UI."""
    return sa.Column(name, kind, primary_key=key, nullable=null, autoincrement=False, doc=what)


def _team_day_table(name: str, *columns: sa.Column) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        _column("team_id", sa.Integer(), "PostHog's number of the team", key=True),
        _column("day", sa.Date(), "UTC day, 00:00 to 24:00", key=True),
        *columns,
        postgresql_partition_by="RANGE (day)",
        info={"team_day": True},
    )


raw_logs = _team_day_table(
    "raw_logs",
    _column("service", Text, "the log's service.name; '' where it has none", key=True),
    _column("environment", Text, "deployment environment; '' where the log names none", key=True),
    _column("severity", Text, "trace, debug, info, warn, error or fatal", key=True),
    _column("message_id", Text, "16 hex digits, hash of the masked message", key=True),
    _column("message", Text, "the masked message: digits, ids, addresses and the like replaced"),
    _column("logs", sa.BigInteger(), "stored logs"),
    _column("bytes", sa.BigInteger(), "octets of body and attributes as stored"),
    _column("weighted_logs", sa.Double(), "logs before sampling, estimated: sum of 1/rate"),
    _column("weighted_bytes", sa.Double(), "bytes before sampling, estimated"),
    _column("hours", Hours, "weighted logs in each of the 24 UTC hours"),
    _column("first_seen", Instant, "earliest timestamp"),
    _column("last_seen", Instant, "latest timestamp"),
    _column("example", Text, "the least of the bodies, repaired and cut; never leaves the machine"),
)

signatures = _team_day_table(
    "signatures",
    _column("service", Text, "the log's service.name; '' where it has none", key=True),
    _column("environment", Text, "deployment environment; '' where the log names none", key=True),
    _column("signature", Text, "16 hex digits, hash of service and template", key=True),
    _column("template", Text, "the pattern, variables written <*>"),
    _column("logs", sa.BigInteger(), "stored logs"),
    _column("bytes", sa.BigInteger(), "octets of body and attributes as stored"),
    _column("weighted_logs", sa.Double(), "logs before sampling, estimated: sum of 1/rate"),
    _column("weighted_bytes", sa.Double(), "bytes before sampling, estimated"),
    _column("hours", Hours, "weighted logs in each of the 24 UTC hours"),
    _column("severities", Severities, "stored logs by severity: trace, debug, info, warn, error, fatal"),
    _column("messages", sa.BigInteger(), "distinct masked messages"),
    _column("first_seen", Instant, "earliest timestamp"),
    _column("last_seen", Instant, "latest timestamp"),
    _column("example", Text, "the least of the bodies, repaired and cut; never leaves the machine"),
)

signature_members = _team_day_table(
    "signature_members",
    _column("service", Text, "the log's service.name; '' where it has none", key=True),
    _column("message_id", Text, "16 hex digits, hash of the masked message", key=True),
    _column("signature", Text, "16 hex digits, hash of service and template"),
)

clusters = _team_day_table(
    "clusters",
    _column("cluster", Text, "16 hex digits; the family's name, which follows its members from day to day", key=True),
    _column("label", Text, "what to call the family"),
    _column("representative", Text, "signature of the member with the most logs"),
    _column("template", Text, "the representative's template"),
    _column("signatures", pg.ARRAY(sa.Text, dimensions=1), "the members' signatures, sorted"),
    _column("services", pg.ARRAY(sa.Text, dimensions=1), "the members' services, sorted"),
    _column("size", sa.BigInteger(), "how many members"),
    _column("logs", sa.BigInteger(), "the members' stored logs"),
    _column("bytes", sa.BigInteger(), "octets of body and attributes as stored"),
    _column("weighted_logs", sa.Double(), "logs before sampling, estimated: sum of 1/rate"),
    _column("severities", Severities, "stored logs by severity: trace, debug, info, warn, error, fatal"),
)

anomaly_reports = _team_day_table(
    "anomaly_reports",
    _column("hours", sa.BigInteger(), "whole hours of the day that were judged; fewer than 24 on an open day"),
    _column("window_days", sa.BigInteger(), "days of the window that had logs"),
    _column("window_fingerprint", Text, "hash of what the report read: its window, its day, its signatures"),
    _column("learning", sa.Boolean(), "true where there is too little history: nothing is judged"),
    _column("series", sa.BigInteger(), "series that were tested"),
    _column("anomalies", sa.BigInteger(), "how many were found"),
    _column("high", sa.BigInteger(), "how many of them are of high severity"),
)

anomalies = _team_day_table(
    "anomalies",
    _column("service", Text, "the log's service.name; '' where it has none", key=True),
    _column("environment", Text, "deployment environment; '' where the log names none", key=True),
    _column("scope", Text, "service, severity or pattern", key=True),
    _column("subject", Text, "'' for a service, error or warn for a severity, the signature of a pattern", key=True),
    _column("template", Text, "the pattern's template, else ''"),
    _column("kind", Text, "rate_spike, rate_drop, error_surge, new_pattern or vanished_pattern", key=True),
    _column("start_hour", sa.BigInteger(), "first UTC hour, 0 to 23", key=True),
    _column("end_hour", sa.BigInteger(), "hour after the last, 1 to 24"),
    _column("observed", sa.Double(), "weighted logs from start to end"),
    _column("expected", sa.Double(), "weighted logs that the window would have had there"),
    _column("ratio", sa.Double(), "observed / expected; NULL where nothing was expected", null=True),
    _column("z", sa.Double(), "how many standard deviations off", null=True),
    _column("p_value", sa.Double(), "chance of that in an ordinary day; NULL from a rule that knows none", null=True),
    _column("confidence", sa.Double(), "in [0, 1], from the share of false alarms in the whole report"),
    _column("severity", Text, "low, medium or high"),
    _column("explanation", Text, "the anomaly in a sentence"),
    _column("evidence_hours", pg.ARRAY(sa.BigInteger, dimensions=1), "the hours that deviate"),
)

policies = _team_day_table(
    "policies",
    _column("service", Text, "the log's service.name; '' where it has none", key=True),
    _column("environment", Text, "deployment environment; '' where the log names none", key=True),
    _column("version", Text, "hash of the document"),
    _column("document", pg.JSONB(), "the policy as JSON"),
    _column("logs", sa.Double(), "weighted logs of the day"),
    _column("bytes", sa.Double(), "weighted bytes of the day"),
    _column("kept_logs", sa.Double(), "logs that the policy is expected to keep"),
    _column("kept_bytes", sa.Double(), "bytes that it is expected to keep"),
    _column("generated_by", Text, "the advisor that judged the patterns, or keep-all"),
    _column("budget", Text, "the budget that was asked for of the team"),
    _column("goals_fingerprint", Text, "hash of the rates that worth and budget ask for without the ramp"),
    _column("window_fingerprint", Text, "hash of those of the days before that its ramp read"),
)

replays = _team_day_table(
    "replays",
    _column("service", Text, "the log's service.name; '' where it has none", key=True),
    _column("environment", Text, "deployment environment; '' where the log names none", key=True),
    _column("version", Text, "of the policy of the day before, which is replayed"),
    _column("logs", sa.Double(), "weighted logs"),
    _column("bytes", sa.Double(), "weighted bytes"),
    _column("kept_logs", sa.Double(), "logs expected to be kept"),
    _column("kept_bytes", sa.Double(), "bytes expected to be kept"),
    _column("budget_bytes", sa.Double(), "bytes that the budget in force allows"),
    _column("errors", sa.Double(), "weighted logs that are errors or read like one"),
    _column("kept_errors", sa.Double(), "of those, expected to be kept"),
    _column("patterns", sa.Double(), "patterns that logged"),
    _column("kept_patterns", sa.Double(), "expected number of patterns with at least one log kept"),
    _column("count_error", sa.Double(), "relative standard error of the service's rebuilt count"),
    _column("pattern_error", sa.Double(), "median relative standard error of the sampled patterns' rebuilt counts"),
    _column("pattern_error_most", sa.Double(), "the greatest of them"),
    _column("anomalies", sa.BigInteger(), "anomalies found in all logs"),
    _column("anomalies_found", sa.BigInteger(), "of those, found again in what was left"),
    _column("anomalies_added", sa.BigInteger(), "found in what was left only"),
)

backtests = _team_day_table(
    "backtests",
    _column("service", Text, "the log's service.name; '' where it has none", key=True),
    _column("environment", Text, "deployment environment; '' where the log names none", key=True),
    _column("version", Text, "of the day's policy, which may be released if its method passed"),
    _column("passed", sa.Boolean(), "whether the method passed"),
    _column("learning", sa.Boolean(), "true while too few days could be replayed"),
    _column("why", Text, "what failed and by how much, or why nothing is judged yet"),
    _column("days", sa.BigInteger(), "days that were replayed; the figures are summed over them"),
    _column("logs", sa.Double(), "weighted logs"),
    _column("bytes", sa.Double(), "weighted bytes"),
    _column("kept_logs", sa.Double(), "logs expected to be kept"),
    _column("kept_bytes", sa.Double(), "bytes expected to be kept"),
    _column("budget_bytes", sa.Double(), "bytes that the budget in force allows"),
    _column("errors", sa.Double(), "weighted logs that are errors or read like one"),
    _column("kept_errors", sa.Double(), "of those, expected to be kept"),
    _column("patterns", sa.Double(), "patterns that logged"),
    _column("kept_patterns", sa.Double(), "expected number of patterns with at least one log kept"),
    _column("count_error", sa.Double(), "relative standard error of the service's rebuilt count"),
    _column("pattern_error", sa.Double(), "median relative standard error of the sampled patterns' rebuilt counts"),
    _column("pattern_error_most", sa.Double(), "the greatest of them"),
    _column("anomalies", sa.BigInteger(), "anomalies found in all logs"),
    _column("anomalies_found", sa.BigInteger(), "of those, found again in what was left"),
    _column("anomalies_added", sa.BigInteger(), "found in what was left only"),
    _column("window_fingerprint", Text, "hash of the replays that were read"),
)

savings = _team_day_table(
    "savings",
    _column("service", Text, "the log's service.name; '' where it has none", key=True),
    _column("environment", Text, "deployment environment; '' where the log names none", key=True),
    _column("version", Text, "of the release in force at the end of the day"),
    _column("live_hours", sa.BigInteger(), "hours of the day in which a release dropped logs"),
    _column("logs", sa.Double(), "weighted logs"),
    _column("bytes", sa.Double(), "weighted bytes"),
    _column("kept_logs", sa.BigInteger(), "logs that are stored"),
    _column("kept_bytes", sa.BigInteger(), "bytes that are stored"),
    _column("expected_logs", sa.Double(), "logs that the releases in force should have kept"),
    _column("expected_bytes", sa.Double(), "bytes that they should have kept"),
)

materializations = sa.Table(
    "materializations",
    metadata,
    _column("asset", Text, key=True),
    _column("team_id", sa.Integer(), key=True),
    _column("day", sa.Date(), key=True),
    # What the tables hold. NULL rows and fingerprint: never written (the first attempt did not agree with its source).
    _column("rows", sa.BigInteger(), null=True),
    _column("logs", sa.BigInteger(), null=True),
    _column("fingerprint", Text, null=True),
    _column("as_of", Instant, null=True),
    _column("hours", sa.BigInteger(), null=True),
    _column("written_by", Text, null=True),
    _column("written_at", Instant, null=True),
    # What the last attempt found. A problem means: the content above is older than that attempt.
    _column("problem", Text, null=True),
    _column("checked_by", Text),
    _column("checked_at", Instant),
    # Why the last attempt left the content as it was though nothing is wrong: its source holds nothing of it any more.
    _column("kept", Text, null=True),
    sa.Index(None, "day", "asset"),
    sa.Index(None, "written_at"),
)
"""One row an asset and team-day: what is stored, by which run, and whether the last attempt agreed with its source."""

services = sa.Table(
    "services",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
    _column("team_id", sa.Integer()),
    _column("name", Text),
    _column("environment", Text),
    _column("first_day", sa.Date(), null=True),
    _column("last_day", sa.Date(), null=True),
    sa.UniqueConstraint("team_id", "name", "environment"),
)
"""Every service and environment that ever logged; one that stops stays, with its history.

One that was registered and has not logged yet has no days.
"""

releases = sa.Table(
    "releases",
    metadata,
    sa.Column(
        "id", sa.BigInteger(), sa.Identity(always=True), primary_key=True, doc="rises with time: the newest is in force"
    ),
    _column("team_id", sa.Integer(), "PostHog's number of the team"),
    _column("service", Text, "the log's service.name"),
    _column("environment", Text, "deployment environment"),
    _column("day", sa.Date(), "UTC day that the policy was made from"),
    _column("version", Text, "hash of the policy's document"),
    _column("state", Text, "shadow (decides and reports, drops nothing), live, or pinned (live until it is unpinned)"),
    _column("document", pg.JSONB(), "the policy as JSON"),
    _column("actor", Text, "who released it: a person, or the graph"),
    _column("reason", Text, "why, in their words"),
    _column("by_hand", sa.Boolean(), "true where a person did it"),
    sa.Column("released_at", Instant, nullable=False, server_default=sa.func.now(), doc="when"),
    sa.CheckConstraint("state IN ('shadow', 'live', 'pinned')", name="state"),
    sa.Index("releases_service_idx", "team_id", "service", "environment", "id"),
    sa.Index("releases_day_idx", "day", "id"),
    # The graph's entries are idempotent by their natural key; people may release the same version twice.
    sa.Index(
        "releases_graph_key",
        "team_id",
        "service",
        "environment",
        "day",
        unique=True,
        postgresql_where=sa.text("NOT by_hand"),
    ),
)
"""The ledger of policy releases: append-only; the newest row of a service and environment is in force."""

overrides = sa.Table(
    "overrides",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
    _column("entry", Text),
    _column("ends", sa.BigInteger(), null=True),  # the id of the override whose end this entry is
    _column("team_id", sa.Integer()),
    _column("service", Text),
    _column("environment", Text, null=True),  # NULL: every environment
    _column("template", Text, null=True),  # NULL: the whole service
    _column("kind", Text),
    _column("rate", sa.Double(), null=True),
    _column("until", Instant, null=True),
    _column("actor", Text),
    _column("reason", Text),
    _column("at", Instant),
    sa.UniqueConstraint("ends"),
    sa.ForeignKeyConstraint(["ends"], ["overrides.id"], name="overrides_ends_fkey"),
    sa.CheckConstraint("entry IN ('added', 'removed', 'expired')", name="entry"),
    sa.CheckConstraint("(entry = 'added') = (ends IS NULL)", name="ending"),
    sa.CheckConstraint("kind IN ('never_sample', 'cap', 'lift_error_like')", name="kind"),
    sa.Index("overrides_service_idx", "team_id", "service", "id"),
)
"""The ledger of overrides: append-only; one is in force from its entry until it is removed or its time is over."""
judgements = sa.Table(
    "judgements",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
    _column("team_id", sa.Integer()),
    _column("signature", Text),
    _column("model", Text),
    _column("prompt_version", Text),
    _column("day", sa.Date()),  # that it was asked for
    _column("worth", sa.Double()),
    _column("category", Text),
    _column("reason", Text),
    _column("of_family", sa.Boolean()),
    sa.Column("created_at", Instant, nullable=False, server_default=sa.func.now()),
    sa.UniqueConstraint("team_id", "signature", "model", "prompt_version", "day"),
)
"""What models said of patterns: append-only, one row a pattern, model, prompt and day it was asked for."""

model_calls = sa.Table(
    "model_calls",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
    _column("run_id", Text),
    _column("team_id", sa.Integer()),
    _column("day", sa.Date()),
    _column("model", Text),
    _column("prompt_version", Text),
    _column("patterns", sa.BigInteger()),
    _column("judged", sa.BigInteger()),
    _column("input_tokens", sa.BigInteger()),
    _column("output_tokens", sa.BigInteger()),
    _column("cached_tokens", sa.BigInteger()),
    _column("cache_write_tokens", sa.BigInteger()),
    _column("cost", sa.Double()),
    _column("problem", Text, null=True),
    sa.Column("called_at", Instant, nullable=False, server_default=sa.func.now()),
    sa.Index(None, "called_at"),
)
"""Every request to a model, answered or not, with its tokens and its cost: append-only."""
boosts = sa.Table(
    "boosts",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
    _column("team_id", sa.Integer()),
    _column("service", Text),
    _column("environment", Text),
    _column("signature", Text),
    _column("starts_at", Instant),
    _column("ends_at", Instant),
    _column("factor", sa.Double()),
    _column("template", Text),
    _column("reason", Text),
    sa.Column("added_at", Instant, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("factor >= 1 AND ends_at > starts_at", name="bounds"),
    # The end is part of the key: an anomaly that goes on adds a later end and changes no entry.
    sa.Index("boosts_key", "team_id", "service", "environment", "signature", "starts_at", "ends_at", unique=True),
    sa.Index("boosts_end_idx", "team_id", "ends_at"),
)
"""The ledger of boosts: append-only; what has not ended is in force, the greatest factor where several are."""

analysis_runs = sa.Table(
    "analysis_runs",
    metadata,
    _column("run_id", Text, key=True),
    _column("asset", Text, key=True),
    _column("team_id", sa.Integer(), key=True),
    _column("day", sa.Date(), key=True),
    _column("status", Text),
    _column("counts", pg.JSONB()),
    _column("error", Text, null=True),
    sa.Column("started_at", Instant, nullable=False, server_default=sa.func.now()),
    sa.Column("finished_at", Instant, nullable=True),
    sa.CheckConstraint("status IN ('running', 'succeeded', 'failed')", name="status"),
    sa.Index(None, "team_id", "day"),
)
"""What each run did to each team-day, asset by asset."""

mart_days = sa.Table(
    "mart_days",
    metadata,
    _column("day", sa.Date(), key=True),
    _column("fingerprint", Text),
    _column("run_id", Text),
    sa.Column("made_at", Instant, nullable=False, server_default=sa.func.now()),
)
"""What the marts of each day were made of; the marts themselves are dbt's, in a schema of their own."""

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
    _column("kind", Text),
    _column("key", Text),  # names what happened among its kind: it is told once
    _column("topic", Text),  # what is told in one message
    _column("details", pg.JSONB()),
    sa.Column("added_at", Instant, nullable=False, server_default=sa.func.now()),
    sa.Column("tries", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    sa.Column("next_try_at", Instant, nullable=False, server_default=sa.func.now()),
    _column("error", Text, null=True),
    _column("sent_at", Instant, null=True),
    sa.UniqueConstraint("kind", "key"),
    sa.CheckConstraint("kind IN ('failed_run', 'failed_gate', 'high_anomaly')", name="kind"),
    sa.Index("notifications_due_idx", "next_try_at", postgresql_where=sa.text("sent_at IS NULL")),
)
"""What people are told by webhook, once each, and how sending it went."""

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
    _column("team_id", sa.Integer()),
    _column("name", Text),
    _column("access", Text),
    _column("hash", Text),
    sa.Column("created_at", Instant, nullable=False, server_default=sa.func.now()),
    _column("revoked_at", Instant, null=True),
    sa.UniqueConstraint("hash"),
    sa.CheckConstraint("access IN ('read', 'report', 'write')", name="access"),
    sa.Index(None, "team_id"),
)
"""Keys of the HTTP API, as hashes."""

reported_batches = sa.Table(
    "reported_batches",
    metadata,
    _column("team_id", sa.Integer(), key=True),
    _column("batch_id", sa.Uuid(), key=True),
    _column("service", Text),
    _column("environment", Text),
    _column("policy_version", Text),
    _column("mode", Text),
    _column("sdk", Text),
    _column("starts_at", Instant),
    _column("ends_at", Instant),
    sa.Column("received_at", Instant, nullable=False, server_default=sa.func.now()),
    sa.Index(None, "received_at"),
)
"""The reports of samplers that were counted: each once, however often it is sent."""

reported_patterns = sa.Table(
    "reported_patterns",
    metadata,
    _column("team_id", sa.Integer(), key=True),
    _column("service", Text, key=True),
    _column("environment", Text, key=True),
    _column("hour", Instant, key=True),
    _column("pattern", Text, key=True),  # the signature, or a hash of the message
    _column("severity", Text, key=True),
    _column("policy_version", Text, key=True),
    _column("mode", Text, key=True),
    _column("signature", Text, null=True),
    _column("message", Text, null=True),  # masked; of logs that no pattern of the policy matches
    _column("seen", sa.BigInteger()),
    _column("kept", sa.BigInteger()),
    _column("bytes_seen", sa.BigInteger()),
    _column("bytes_kept", sa.BigInteger()),
    sa.CheckConstraint("(signature IS NULL) <> (message IS NULL)", name="of"),
    sa.Index(None, "hour"),
)
"""What samplers saw and kept, summed by pattern, severity and hour under each version and mode of a policy."""

asked_runs = sa.Table(
    "asked_runs",
    metadata,
    _column("run_id", Text, key=True),
    _column("backfill_id", Text),
    _column("team_id", sa.Integer()),
    _column("day", sa.Date()),
    _column("asked_by", Text),
    sa.Column("asked_at", Instant, nullable=False, server_default=sa.func.now()),
    sa.UniqueConstraint("backfill_id"),
)
"""Runs that were asked for over the HTTP API; Dagster may not have begun them yet."""

source_requests = sa.Table(
    "source_requests",
    metadata,
    _column("store", Text),
    sa.Column("made_at", Instant, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Index("source_requests_store_idx", "store", "made_at"),
)
"""Requests that were made in the last hour of a log store that limits them."""

TEAM_DAY_TABLES = {t.name: t for t in metadata.tables.values() if t.info.get("team_day")}
