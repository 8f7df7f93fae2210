"""Judgements of models, and the requests that they came from."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE judgements (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    team_id INTEGER NOT NULL,
    signature TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    prompt_version TEXT COLLATE "C" NOT NULL,
    day DATE NOT NULL,
    worth DOUBLE PRECISION NOT NULL,
    category TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    of_family BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT judgements_pkey PRIMARY KEY (id),
    CONSTRAINT judgements_team_id_key UNIQUE (team_id, signature, model, prompt_version, day)
);

CREATE TABLE model_calls (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    run_id TEXT COLLATE "C" NOT NULL,
    team_id INTEGER NOT NULL,
    day DATE NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    prompt_version TEXT COLLATE "C" NOT NULL,
    patterns BIGINT NOT NULL,
    judged BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    cost DOUBLE PRECISION NOT NULL,
    problem TEXT COLLATE "C",
    called_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT model_calls_pkey PRIMARY KEY (id)
);

CREATE INDEX model_calls_called_at_idx ON model_calls (called_at);
"""


def upgrade() -> None:
    """Make the tables."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drop them, with what was paid for."""
    for table in ("judgements", "model_calls"):
        op.execute(f"DROP TABLE {table}")
