"""The first tables: team-days (range-partitioned by day), services, releases, runs."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE analysis_runs (
    run_id TEXT COLLATE "C" NOT NULL,
    asset TEXT COLLATE "C" NOT NULL,
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    counts JSONB NOT NULL,
    error TEXT COLLATE "C",
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT analysis_runs_pkey PRIMARY KEY (run_id, asset, team_id, day),
    CONSTRAINT analysis_runs_status_check CHECK (status IN ('running', 'succeeded', 'failed'))
);

CREATE INDEX analysis_runs_team_id_idx ON analysis_runs (team_id, day);

CREATE TABLE anomalies (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    template TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    start_hour BIGINT NOT NULL,
    end_hour BIGINT NOT NULL,
    observed DOUBLE PRECISION NOT NULL,
    expected DOUBLE PRECISION NOT NULL,
    ratio DOUBLE PRECISION,
    z DOUBLE PRECISION,
    p_value DOUBLE PRECISION NOT NULL,
    confidence DOUBLE PRECISION NOT NULL,
    severity TEXT COLLATE "C" NOT NULL,
    explanation TEXT COLLATE "C" NOT NULL,
    evidence_hours BIGINT[] NOT NULL,
    CONSTRAINT anomalies_pkey PRIMARY KEY (team_id, day, service, environment, scope, subject, kind, start_hour)
) PARTITION BY RANGE (day);

CREATE TABLE anomaly_reports (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    hours BIGINT NOT NULL,
    window_days BIGINT NOT NULL,
    window_fingerprint TEXT COLLATE "C" NOT NULL,
    learning BOOLEAN NOT NULL,
    series BIGINT NOT NULL,
    anomalies BIGINT NOT NULL,
    high BIGINT NOT NULL,
    CONSTRAINT anomaly_reports_pkey PRIMARY KEY (team_id, day)
) PARTITION BY RANGE (day);

CREATE TABLE clusters (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    cluster TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    representative TEXT COLLATE "C" NOT NULL,
    template TEXT COLLATE "C" NOT NULL,
    signatures TEXT[] NOT NULL,
    services TEXT[] NOT NULL,
    size BIGINT NOT NULL,
    logs BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    weighted_logs DOUBLE PRECISION NOT NULL,
    severities BIGINT[] NOT NULL,
    CONSTRAINT clusters_pkey PRIMARY KEY (team_id, day, cluster)
) PARTITION BY RANGE (day);

CREATE TABLE materializations (
    asset TEXT COLLATE "C" NOT NULL,
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    rows BIGINT,
    logs BIGINT,
    fingerprint TEXT COLLATE "C",
    as_of TIMESTAMP WITH TIME ZONE,
    hours BIGINT,
    written_by TEXT COLLATE "C",
    written_at TIMESTAMP WITH TIME ZONE,
    problem TEXT COLLATE "C",
    checked_by TEXT COLLATE "C" NOT NULL,
    checked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT materializations_pkey PRIMARY KEY (asset, team_id, day)
);

CREATE INDEX materializations_day_idx ON materializations (day, asset);

CREATE TABLE policies (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    document JSONB NOT NULL,
    logs DOUBLE PRECISION NOT NULL,
    bytes DOUBLE PRECISION NOT NULL,
    kept_logs DOUBLE PRECISION NOT NULL,
    kept_bytes DOUBLE PRECISION NOT NULL,
    generated_by TEXT COLLATE "C" NOT NULL,
    CONSTRAINT policies_pkey PRIMARY KEY (team_id, day, service, environment)
) PARTITION BY RANGE (day);

CREATE TABLE raw_logs (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    severity TEXT COLLATE "C" NOT NULL,
    message_id TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    logs BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    weighted_logs DOUBLE PRECISION NOT NULL,
    weighted_bytes DOUBLE PRECISION NOT NULL,
    hours DOUBLE PRECISION[] NOT NULL,
    first_seen TIMESTAMP WITH TIME ZONE NOT NULL,
    last_seen TIMESTAMP WITH TIME ZONE NOT NULL,
    example TEXT COLLATE "C" NOT NULL,
    CONSTRAINT raw_logs_pkey PRIMARY KEY (team_id, day, service, environment, severity, message_id)
) PARTITION BY RANGE (day);

CREATE TABLE releases (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    team_id INTEGER NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    day DATE NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    document JSONB NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    by_hand BOOLEAN NOT NULL,
    released_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT releases_pkey PRIMARY KEY (id),
    CONSTRAINT releases_state_check CHECK (state IN ('shadow', 'live'))
);

CREATE UNIQUE INDEX releases_graph_key ON releases (team_id, service, environment, day) WHERE NOT by_hand;

CREATE INDEX releases_service_idx ON releases (team_id, service, environment, id);

CREATE TABLE services (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    team_id INTEGER NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    first_day DATE NOT NULL,
    last_day DATE NOT NULL,
    CONSTRAINT services_pkey PRIMARY KEY (id),
    CONSTRAINT services_team_id_key UNIQUE (team_id, name, environment)
);

CREATE TABLE signature_members (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    message_id TEXT COLLATE "C" NOT NULL,
    signature TEXT COLLATE "C" NOT NULL,
    CONSTRAINT signature_members_pkey PRIMARY KEY (team_id, day, service, message_id)
) PARTITION BY RANGE (day);

CREATE TABLE signatures (
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    signature TEXT COLLATE "C" NOT NULL,
    template TEXT COLLATE "C" NOT NULL,
    logs BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    weighted_logs DOUBLE PRECISION NOT NULL,
    weighted_bytes DOUBLE PRECISION NOT NULL,
    hours DOUBLE PRECISION[] NOT NULL,
    severities BIGINT[] NOT NULL,
    messages BIGINT NOT NULL,
    first_seen TIMESTAMP WITH TIME ZONE NOT NULL,
    last_seen TIMESTAMP WITH TIME ZONE NOT NULL,
    example TEXT COLLATE "C" NOT NULL,
    CONSTRAINT signatures_pkey PRIMARY KEY (team_id, day, service, environment, signature)
) PARTITION BY RANGE (day);
"""


def upgrade() -> None:
    """Make the tables; children by day come with the first write of a day."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drop them, with all their days."""
    for table in (
        "analysis_runs",
        "anomalies",
        "anomaly_reports",
        "clusters",
        "materializations",
        "policies",
        "raw_logs",
        "releases",
        "services",
        "signature_members",
        "signatures",
    ):
        op.execute(f"DROP TABLE {table} CASCADE")
