"""changes of state, leases, several orchestrators, and when to look again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this schema."""
    op.create_table(
        "transitions",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("assignment", sa.String(length=64), nullable=True),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("edge", sa.String(length=64), nullable=False),
        sa.Column("old", sa.String(length=16), nullable=False),
        sa.Column("new", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("transitions_of_assignment", "transitions", ["assignment", "number"])
    op.add_column("edges", sa.Column("gone_at", sa.Float(), nullable=True))
    with op.batch_alter_table("assignments") as batch_op:
        for name in ("wake_at", "began_at", "quorum_at", "ended_at"):
            batch_op.add_column(sa.Column(name, sa.Float(), nullable=True))
        batch_op.drop_index("ix_assignments_deadline_at")
        batch_op.create_index("ix_assignments_wake_at", ["wake_at"])
        batch_op.create_index("ix_assignments_ended_at", ["ended_at"])
    op.execute("UPDATE assignments SET wake_at = deadline_at")
    op.execute(
        "UPDATE assignments SET ended_at = started_at "
        "WHERE state IN ('succeeded', 'failed', 'cancelled')"
    )
    with op.batch_alter_table("tasks") as batch_op:
        batch_op.add_column(sa.Column("account", sa.LargeBinary(), nullable=True))
        batch_op.add_column(sa.Column("lease_until", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("late_at", sa.Float(), nullable=True))
        batch_op.create_index("ix_tasks_lease_until", ["lease_until"])
    op.execute("UPDATE tasks SET state = 'expired' WHERE state = 'offline'")
    # A worker that was asked before the upgrade has its lease from now on: it ends at once, and the
    # task is asked for again.
    op.execute("UPDATE tasks SET lease_until = 0 WHERE side = 'offboard' AND state = 'queued'")
    with op.batch_alter_table("outbox") as batch_op:
        batch_op.add_column(
            sa.Column("owner", sa.String(length=64), nullable=False, server_default="")
        )
        batch_op.add_column(
            sa.Column("claimed_until", sa.Float(), nullable=False, server_default="0")
        )
        batch_op.create_index("ix_outbox_claimed_until", ["claimed_until"])


def downgrade() -> None:
    """Go back to the schema before."""
    with op.batch_alter_table("outbox") as batch_op:
        batch_op.drop_index("ix_outbox_claimed_until")
        batch_op.drop_column("claimed_until")
        batch_op.drop_column("owner")
    with op.batch_alter_table("tasks") as batch_op:
        batch_op.drop_index("ix_tasks_lease_until")
        for name in ("late_at", "lease_until", "account"):
            batch_op.drop_column(name)
    with op.batch_alter_table("assignments") as batch_op:
        batch_op.drop_index("ix_assignments_ended_at")
        batch_op.drop_index("ix_assignments_wake_at")
        batch_op.create_index("ix_assignments_deadline_at", ["deadline_at"])
        for name in ("ended_at", "quorum_at", "began_at", "wake_at"):
            batch_op.drop_column(name)
    op.drop_column("edges", "gone_at")
    op.drop_index("transitions_of_assignment", table_name="transitions")
    op.drop_table("transitions")
