"""the name of a state may have 32 characters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = {"deployments": ("state",), "transitions": ("old", "new")}


def upgrade() -> None:
    """Go to this schema."""
    _to(32)


def downgrade() -> None:
    """Go back to the schema before."""
    _to(16)


def _to(length: int) -> None:
    for table, columns in COLUMNS.items():
        with op.batch_alter_table(table) as changed:  # SQLite copies the table for it
            for column in columns:
                changed.alter_column(
                    column, type_=sa.String(length=length), existing_nullable=False
                )
