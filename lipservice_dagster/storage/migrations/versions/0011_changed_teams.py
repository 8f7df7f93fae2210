"""Which teams something was written of lately is read off an index: looking for what is stale costs what changed."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("materializations_written_at_idx", "materializations", ["written_at"])


def downgrade() -> None:
    """Without it."""
    op.drop_index("materializations_written_at_idx", "materializations")
