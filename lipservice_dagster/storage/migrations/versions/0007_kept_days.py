"""A day whose logs have left the log store keeps what is stored, and says so."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for it."""
    op.execute('ALTER TABLE materializations ADD COLUMN kept TEXT COLLATE "C"')


def downgrade() -> None:
    """Forget it."""
    op.execute("ALTER TABLE materializations DROP COLUMN kept")
