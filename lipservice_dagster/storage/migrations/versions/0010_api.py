"""Keys of the API, what samplers report, the runs that were asked for over it; changes of what is served are told."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE api_keys (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    team_id INTEGER NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    access TEXT COLLATE "C" NOT NULL,
    hash TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_hash_key UNIQUE (hash),
    CONSTRAINT api_keys_access_check CHECK (access IN ('read', 'report', 'write'))
);
CREATE INDEX api_keys_team_id_idx ON api_keys (team_id);

CREATE TABLE reported_batches (
    team_id INTEGER NOT NULL,
    batch_id UUID NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    policy_version TEXT COLLATE "C" NOT NULL,
    mode TEXT COLLATE "C" NOT NULL,
    sdk TEXT COLLATE "C" NOT NULL,
    starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT reported_batches_pkey PRIMARY KEY (team_id, batch_id)
);
CREATE INDEX reported_batches_received_at_idx ON reported_batches (received_at);

CREATE TABLE reported_patterns (
    team_id INTEGER NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    pattern TEXT COLLATE "C" NOT NULL,
    severity TEXT COLLATE "C" NOT NULL,
    policy_version TEXT COLLATE "C" NOT NULL,
    mode TEXT COLLATE "C" NOT NULL,
    signature TEXT COLLATE "C",
    message TEXT COLLATE "C",
    seen BIGINT NOT NULL,
    kept BIGINT NOT NULL,
    bytes_seen BIGINT NOT NULL,
    bytes_kept BIGINT NOT NULL,
    CONSTRAINT reported_patterns_pkey
        PRIMARY KEY (team_id, service, environment, hour, pattern, severity, policy_version, mode),
    CONSTRAINT reported_patterns_of_check CHECK ((signature IS NULL) <> (message IS NULL))
);
CREATE INDEX reported_patterns_hour_idx ON reported_patterns (hour);

CREATE TABLE asked_runs (
    run_id TEXT COLLATE "C" NOT NULL,
    backfill_id TEXT COLLATE "C" NOT NULL,
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    asked_by TEXT COLLATE "C" NOT NULL,
    asked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT asked_runs_pkey PRIMARY KEY (run_id),
    CONSTRAINT asked_runs_backfill_id_key UNIQUE (backfill_id)
);

-- A service may be registered before it logs.
ALTER TABLE services ALTER first_day DROP NOT NULL, ALTER last_day DROP NOT NULL;
"""

TOLD = ("releases", "overrides", "boosts", "api_keys")

# The payload is the team, so that a server forgets what it holds of that team and nothing else.
TELLING = """
CREATE FUNCTION lipservice_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('lipservice_changed', NEW.team_id::text);
    RETURN NULL;
END $$;
""" + "".join(
    f"CREATE TRIGGER {table}_tell AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION lipservice_tell();\n"
    for table in TOLD
)


def upgrade() -> None:
    """Make them."""
    op.execute(TABLES)
    op.execute(TELLING)


def downgrade() -> None:
    """Drop them; services that never logged are forgotten."""
    for table in TOLD:
        op.execute(f"DROP TRIGGER {table}_tell ON {table}")
    op.execute("DROP FUNCTION lipservice_tell(); DROP TABLE api_keys, reported_batches, reported_patterns, asked_runs")
    op.execute("DELETE FROM services WHERE first_day IS NULL")
    op.execute("ALTER TABLE services ALTER first_day SET NOT NULL, ALTER last_day SET NOT NULL")
