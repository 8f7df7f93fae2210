"""The ledger of overrides: what people said about patterns and services, and how it ended."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE overrides (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    entry TEXT COLLATE "C" NOT NULL,
    ends BIGINT,
    team_id INTEGER NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C",
    template TEXT COLLATE "C",
    kind TEXT COLLATE "C" NOT NULL,
    rate DOUBLE PRECISION,
    until TIMESTAMP WITH TIME ZONE,
    actor TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT overrides_pkey PRIMARY KEY (id),
    CONSTRAINT overrides_ends_key UNIQUE (ends),
    CONSTRAINT overrides_ends_fkey FOREIGN KEY (ends) REFERENCES overrides (id),
    CONSTRAINT overrides_entry_check CHECK (entry IN ('added', 'removed', 'expired')),
    CONSTRAINT overrides_ending_check CHECK ((entry = 'added') = (ends IS NULL)),
    CONSTRAINT overrides_kind_check CHECK (kind IN ('never_sample', 'cap', 'lift_error_like'))
);

CREATE INDEX overrides_service_idx ON overrides (team_id, service, id);
"""


def upgrade() -> None:
    """Make the table."""
    for statement in TABLE.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drop it, with its history."""
    op.execute("DROP TABLE overrides")
