"""fewer indexes of tasks, which are written most; one of assignments by state, which are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OPEN = sa.text("state IN ('queued', 'delivered', 'collecting', 'running')")


def upgrade() -> None:
    """Go to this schema."""
    op.drop_index("ix_tasks_lease_until", table_name="tasks")
    op.drop_index("tasks_of_edge", table_name="tasks")
    op.create_index(
        "tasks_open_of_edge", "tasks", ["edge"], sqlite_where=OPEN, postgresql_where=OPEN
    )
    op.create_index("ix_assignments_state", "assignments", ["state"])


def downgrade() -> None:
    """Go back to the schema before."""
    op.drop_index("ix_assignments_state", table_name="assignments")
    op.drop_index("tasks_open_of_edge", table_name="tasks")
    op.create_index("tasks_of_edge", "tasks", ["edge", "state"])
    op.create_index("ix_tasks_lease_until", "tasks", ["lease_until"])
