"""Policies say what they were made from: the budget, and the goals of the days before."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = ("budget", "goals_fingerprint", "window_fingerprint")


def upgrade() -> None:
    """Add the columns; policies of before are found stale by them and made again."""
    for column in _COLUMNS:
        op.execute(f"ALTER TABLE policies ADD COLUMN {column} TEXT COLLATE \"C\" NOT NULL DEFAULT ''")
        op.execute(f"ALTER TABLE policies ALTER COLUMN {column} DROP DEFAULT")


def downgrade() -> None:
    """Drop them."""
    for column in _COLUMNS:
        op.execute(f"ALTER TABLE policies DROP COLUMN {column}")
