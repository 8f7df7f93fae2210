"""The ledger of notifications: what people are told by webhook, once each."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE notifications (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    details JSONB NOT NULL,
    added_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    tries BIGINT DEFAULT 0 NOT NULL,
    next_try_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    error TEXT COLLATE "C",
    sent_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT notifications_pkey PRIMARY KEY (id),
    CONSTRAINT notifications_kind_key UNIQUE (kind, key),
    CONSTRAINT notifications_kind_check CHECK (kind IN ('failed_run', 'failed_gate', 'high_anomaly'))
);

CREATE INDEX notifications_due_idx ON notifications (next_try_at) WHERE sent_at IS NULL;
"""


def upgrade() -> None:
    """Make the table."""
    for statement in TABLE.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drop it, with its history."""
    op.execute("DROP TABLE notifications")
