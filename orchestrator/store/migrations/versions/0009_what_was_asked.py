"""an assignment as its analyst asked for it and signed it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this schema."""
    op.add_column("assignments", sa.Column("asked", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Go back to the schema before."""
    with op.batch_alter_table("assignments") as changed:
        changed.drop_column("asked")
