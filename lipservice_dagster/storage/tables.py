"""The tables in PostgreSQL.

Tables by team-day are range-partitioned by ``day`` (one child a day, made by the IO manager before it writes; dropped
by retention) and keyed by ``(team_id, day, …)``. The column orders are those of `core.frames`. What belongs to a run
and not to the content (run id, times, as-of bounds) stands in ``materializations``, so that a partition made again from
the same input is byte-equal. Ledgers (``services``, ``releases``, ``boosts``, ``analysis_runs``) are
not partitioned.
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


def _column(name: str, kind: sa.types.TypeEngine, *, key: bool = False, null: bool = False) -> sa.Column:
    return sa.Column(name, kind, primary_key=key, nullable=null, autoincrement=False)


def _team_day_table(name: str, *columns: sa.Column) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        _column("team_id", sa.Integer(), key=True),
        _column("day", sa.Date(), key=True),
        *columns,
        postgresql_partition_by="RANGE (day)",
        info={"team_day": True},
    )


raw_logs = _team_day_table(
    "raw_logs",
    _column("service", Text, key=True),
    _column("environment", Text, key=True),
    _column("severity", Text, key=True),
    _column("message_id", Text, key=True),
    _column("message", Text),
    _column("logs", sa.BigInteger()),
    _column("bytes", sa.BigInteger()),
    _column("weighted_logs", sa.Double()),
    _column("weighted_bytes", sa.Double()),
    _column("hours", Hours),
    _column("first_seen", Instant),
    _column("last_seen", Instant),
    _column("example", Text),
)

signatures = _team_day_table(
    "signatures",
    _column("service", Text, key=True),
    _column("environment", Text, key=True),
    _column("signature", Text, key=True),
    _column("template", Text),
    _column("logs", sa.BigInteger()),
    _column("bytes", sa.BigInteger()),
    _column("weighted_logs", sa.Double()),
    _column("weighted_bytes", sa.Double()),
    _column("hours", Hours),
    _column("severities", Severities),
    _column("messages", sa.BigInteger()),
    _column("first_seen", Instant),
    _column("last_seen", Instant),
    _column("example", Text),
)

signature_members = _team_day_table(
    "signature_members",
    _column("service", Text, key=True),
    _column("message_id", Text, key=True),
    _column("signature", Text),
)

clusters = _team_day_table(
    "clusters",
    _column("cluster", Text, key=True),
    _column("label", Text),
    _column("representative", Text),
    _column("template", Text),
    _column("signatures", pg.ARRAY(sa.Text, dimensions=1)),
    _column("services", pg.ARRAY(sa.Text, dimensions=1)),
    _column("size", sa.BigInteger()),
    _column("logs", sa.BigInteger()),
    _column("bytes", sa.BigInteger()),
    _column("weighted_logs", sa.Double()),
    _column("severities", Severities),
)

anomaly_reports = _team_day_table(
    "anomaly_reports",
    _column("hours", sa.BigInteger()),
    _column("window_days", sa.BigInteger()),
    _column("window_fingerprint", Text),
    _column("learning", sa.Boolean()),
    _column("series", sa.BigInteger()),
    _column("anomalies", sa.BigInteger()),
    _column("high", sa.BigInteger()),
)

anomalies = _team_day_table(
    "anomalies",
    _column("service", Text, key=True),
    _column("environment", Text, key=True),
    _column("scope", Text, key=True),
    _column("subject", Text, key=True),
    _column("template", Text),
    _column("kind", Text, key=True),
    _column("start_hour", sa.BigInteger(), key=True),
    _column("end_hour", sa.BigInteger()),
    _column("observed", sa.Double()),
    _column("expected", sa.Double()),
    _column("ratio", sa.Double(), null=True),
    _column("z", sa.Double(), null=True),
    _column("p_value", sa.Double()),
    _column("confidence", sa.Double()),
    _column("severity", Text),
    _column("explanation", Text),
    _column("evidence_hours", pg.ARRAY(sa.BigInteger, dimensions=1)),
)

policies = _team_day_table(
    "policies",
    _column("service", Text, key=True),
    _column("environment", Text, key=True),
    _column("version", Text),
    _column("document", pg.JSONB()),
    _column("logs", sa.Double()),
    _column("bytes", sa.Double()),
    _column("kept_logs", sa.Double()),
    _column("kept_bytes", sa.Double()),
    _column("generated_by", Text),
)

replays = _team_day_table(
    "replays",
    _column("service", Text, key=True),
    _column("environment", Text, key=True),
    _column("version", Text),
    _column("logs", sa.Double()),
    _column("bytes", sa.Double()),
    _column("kept_logs", sa.Double()),
    _column("kept_bytes", sa.Double()),
    _column("budget_bytes", sa.Double()),
    _column("errors", sa.Double()),
    _column("kept_errors", sa.Double()),
    _column("patterns", sa.Double()),
    _column("kept_patterns", sa.Double()),
    _column("count_error", sa.Double()),
    _column("pattern_error", sa.Double()),
    _column("pattern_error_most", sa.Double()),
    _column("anomalies", sa.BigInteger()),
    _column("anomalies_found", sa.BigInteger()),
    _column("anomalies_added", sa.BigInteger()),
)

backtests = _team_day_table(
    "backtests",
    _column("service", Text, key=True),
    _column("environment", Text, key=True),
    _column("version", Text),
    _column("passed", sa.Boolean()),
    _column("learning", sa.Boolean()),
    _column("why", Text),
    _column("days", sa.BigInteger()),
    _column("logs", sa.Double()),
    _column("bytes", sa.Double()),
    _column("kept_logs", sa.Double()),
    _column("kept_bytes", sa.Double()),
    _column("budget_bytes", sa.Double()),
    _column("errors", sa.Double()),
    _column("kept_errors", sa.Double()),
    _column("patterns", sa.Double()),
    _column("kept_patterns", sa.Double()),
    _column("count_error", sa.Double()),
    _column("pattern_error", sa.Double()),
    _column("pattern_error_most", sa.Double()),
    _column("anomalies", sa.BigInteger()),
    _column("anomalies_found", sa.BigInteger()),
    _column("anomalies_added", sa.BigInteger()),
    _column("window_fingerprint", Text),
)

savings = _team_day_table(
    "savings",
    _column("service", Text, key=True),
    _column("environment", Text, key=True),
    _column("version", Text),
    _column("live_hours", sa.BigInteger()),
    _column("logs", sa.Double()),
    _column("bytes", sa.Double()),
    _column("kept_logs", sa.BigInteger()),
    _column("kept_bytes", sa.BigInteger()),
    _column("expected_logs", sa.Double()),
    _column("expected_bytes", sa.Double()),
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
    sa.Index(None, "day", "asset"),
)
"""One row an asset and team-day: what is stored, by which run, and whether the last attempt agreed with its source."""

services = sa.Table(
    "services",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
    _column("team_id", sa.Integer()),
    _column("name", Text),
    _column("environment", Text),
    _column("first_day", sa.Date()),
    _column("last_day", sa.Date()),
    sa.UniqueConstraint("team_id", "name", "environment"),
)
"""Every service and environment that ever logged; one that stops stays, with its history."""

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
    _column("team_id", sa.Integer()),
    _column("service", Text),
    _column("environment", Text),
    _column("day", sa.Date()),
    _column("version", Text),
    _column("state", Text),
    _column("document", pg.JSONB()),
    _column("actor", Text),
    _column("reason", Text),
    _column("by_hand", sa.Boolean()),
    sa.Column("released_at", Instant, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("state IN ('shadow', 'live', 'pinned')", name="state"),
    sa.Index("releases_service_idx", "team_id", "service", "environment", "id"),
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

TEAM_DAY_TABLES = {t.name: t for t in metadata.tables.values() if t.info.get("team_day")}
