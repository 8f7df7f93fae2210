"""Backtests with the replays they read, savings, boosts; a release can be pinned."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE backtests (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    passed BOOLEAN NOT NULL,
    learning BOOLEAN NOT NULL,
    why TEXT COLLATE "C" NOT NULL,
    days BIGINT NOT NULL,
    logs DOUBLE PRECISION NOT NULL,
    bytes DOUBLE PRECISION NOT NULL,
    kept_logs DOUBLE PRECISION NOT NULL,
    kept_bytes DOUBLE PRECISION NOT NULL,
    budget_bytes DOUBLE PRECISION NOT NULL,
    errors DOUBLE PRECISION NOT NULL,
    kept_errors DOUBLE PRECISION NOT NULL,
    patterns DOUBLE PRECISION NOT NULL,
    kept_patterns DOUBLE PRECISION NOT NULL,
    count_error DOUBLE PRECISION NOT NULL,
    pattern_error DOUBLE PRECISION NOT NULL,
    pattern_error_most DOUBLE PRECISION NOT NULL,
    anomalies BIGINT NOT NULL,
    anomalies_found BIGINT NOT NULL,
    anomalies_added BIGINT NOT NULL,
    window_fingerprint TEXT COLLATE "C" NOT NULL,
    CONSTRAINT backtests_pkey PRIMARY KEY (team_id, day, service, environment)
) PARTITION BY RANGE (day);

CREATE TABLE boosts (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    team_id INTEGER NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    signature TEXT COLLATE "C" NOT NULL,
    starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
    factor DOUBLE PRECISION NOT NULL,
    template TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    added_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT boosts_pkey PRIMARY KEY (id),
    CONSTRAINT boosts_bounds_check CHECK (factor >= 1 AND ends_at > starts_at)
);

CREATE INDEX boosts_end_idx ON boosts (team_id, ends_at);

CREATE UNIQUE INDEX boosts_key ON boosts (team_id, service, environment, signature, starts_at, ends_at);

CREATE TABLE replays (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    logs DOUBLE PRECISION NOT NULL,
    bytes DOUBLE PRECISION NOT NULL,
    kept_logs DOUBLE PRECISION NOT NULL,
    kept_bytes DOUBLE PRECISION NOT NULL,
    budget_bytes DOUBLE PRECISION NOT NULL,
    errors DOUBLE PRECISION NOT NULL,
    kept_errors DOUBLE PRECISION NOT NULL,
    patterns DOUBLE PRECISION NOT NULL,
    kept_patterns DOUBLE PRECISION NOT NULL,
    count_error DOUBLE PRECISION NOT NULL,
    pattern_error DOUBLE PRECISION NOT NULL,
    pattern_error_most DOUBLE PRECISION NOT NULL,
    anomalies BIGINT NOT NULL,
    anomalies_found BIGINT NOT NULL,
    anomalies_added BIGINT NOT NULL,
    CONSTRAINT replays_pkey PRIMARY KEY (team_id, day, service, environment)
) PARTITION BY RANGE (day);

CREATE TABLE savings (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    live_hours BIGINT NOT NULL,
    logs DOUBLE PRECISION NOT NULL,
    bytes DOUBLE PRECISION NOT NULL,
    kept_logs BIGINT NOT NULL,
    kept_bytes BIGINT NOT NULL,
    expected_logs DOUBLE PRECISION NOT NULL,
    expected_bytes DOUBLE PRECISION NOT NULL,
    CONSTRAINT savings_pkey PRIMARY KEY (team_id, day, service, environment)
) PARTITION BY RANGE (day);
"""

_STATE = (
    "ALTER TABLE releases DROP CONSTRAINT releases_state_check,"
    " ADD CONSTRAINT releases_state_check CHECK (state IN ({}))"
)


def upgrade() -> None:
    """Make the tables; children by day come with the first write of a day."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(_STATE.format("'shadow', 'live', 'pinned'"))


def downgrade() -> None:
    """Drop them, with all their days; what was pinned is live."""
    for table in ("backtests", "boosts", "replays", "savings"):
        op.execute(f"DROP TABLE {table} CASCADE")
    op.execute("UPDATE releases SET state = 'live' WHERE state = 'pinned'")
    op.execute(_STATE.format("'shadow', 'live'"))
