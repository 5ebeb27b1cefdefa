"""environments of the analysts' own, and what is asked for with a module."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this schema."""
    op.create_table(
        "environments",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("builder", sa.String(length=64), nullable=False),
        sa.Column("builders", sa.Integer(), nullable=False),
        sa.Column("deadline_at", sa.Float(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("lock", sa.Text(), nullable=False),
        sa.Column("image", sa.String(length=400), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("built_at", sa.Float(), nullable=True),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    with op.batch_alter_table("environments", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_environments_deadline_at"), ["deadline_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_environments_digest"), ["digest"], unique=False)

    op.create_table(
        "wheel_parts",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "sha256", "offset"),
    )
    with op.batch_alter_table("modules", schema=None) as batch_op:
        batch_op.add_column(sa.Column("asked", sa.LargeBinary(), nullable=True))
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.add_column(sa.Column("environment", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("error", sa.LargeBinary(), nullable=True))
        batch_op.create_index(
            batch_op.f("ix_deployments_environment"), ["environment"], unique=False
        )


def downgrade() -> None:
    """Go back to the schema before."""
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_deployments_environment"))
        batch_op.drop_column("error")
        batch_op.drop_column("environment")
    with op.batch_alter_table("modules", schema=None) as batch_op:
        batch_op.drop_column("asked")
    op.drop_table("wheel_parts")
    with op.batch_alter_table("environments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_environments_digest"))
        batch_op.drop_index(batch_op.f("ix_environments_deadline_at"))
    op.drop_table("environments")
