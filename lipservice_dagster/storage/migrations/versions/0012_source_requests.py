"""Requests that were made of a log store with a limit an hour, so that all runs together keep to it."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.execute(
        """
CREATE TABLE source_requests (
    store TEXT COLLATE "C" NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL
);
CREATE INDEX source_requests_store_idx ON source_requests (store, made_at);
"""
    )


def downgrade() -> None:
    """Without it."""
    op.execute("DROP TABLE source_requests")
