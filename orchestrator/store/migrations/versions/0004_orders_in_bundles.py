"""orders to many vehicles in one row, and an index that counts an iteration's tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this schema."""
    op.add_column("outbox", sa.Column("bundle", sa.LargeBinary(), nullable=True))
    op.drop_index("tasks_of_iteration", table_name="tasks")
    op.create_index("tasks_of_iteration", "tasks", ["assignment", "iteration", "side", "state"])


def downgrade() -> None:
    """Go back to the schema before. Orders that are not sent yet in a bundle are lost."""
    op.drop_index("tasks_of_iteration", table_name="tasks")
    op.create_index("tasks_of_iteration", "tasks", ["assignment", "iteration"])
    op.execute("DELETE FROM outbox WHERE bundle IS NOT NULL")
    op.drop_column("outbox", "bundle")
