"""An anomaly that a rule found which knows no chances has no p-value."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Allow none."""
    op.execute("ALTER TABLE anomalies ALTER COLUMN p_value DROP NOT NULL")


def downgrade() -> None:
    """Give those that have none the p-value of what is no anomaly."""
    op.execute("UPDATE anomalies SET p_value = 1 WHERE p_value IS NULL")
    op.execute("ALTER TABLE anomalies ALTER COLUMN p_value SET NOT NULL")
