"""What the marts of each day were made of; the ledger of releases by day."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE mart_days (
    day DATE NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT mart_days_pkey PRIMARY KEY (day)
);

CREATE INDEX releases_day_idx ON releases (day, id);
"""


def upgrade() -> None:
    """Make them."""
    op.execute(TABLES)


def downgrade() -> None:
    """Drop them; the marts are made again after the next upgrade."""
    op.execute("DROP INDEX releases_day_idx; DROP TABLE mart_days")
