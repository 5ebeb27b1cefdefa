"""How many tasks of custom code were ordered for whom on which day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from orchestrator.store.tables import UsageRow

#: For how many days it is kept.
KEPT_DAYS: Final = 90


def tasks(session: Session, user: str, day: int) -> int:
    """How many it were."""
    row = session.get(UsageRow, (user, day), populate_existing=True)
    return row.tasks if row is not None else 0


def add(session: Session, day: int, more: Mapping[str, int]) -> None:
    """Count more of them; several orchestrators may do so at once."""
    postgresql = session.get_bind().dialect.name == "postgresql"
    insert = postgresql_insert if postgresql else sqlite_insert
    for user in sorted(more):  # all in one order: none waits for who waits for it
        if more[user]:
            new = insert(UsageRow).values(user_id=user, day=day, tasks=more[user])
            session.execute(
                new.on_conflict_do_update(
                    index_elements=["user_id", "day"],
                    set_={"tasks": UsageRow.tasks + new.excluded.tasks},
                )
            )


def forget(session: Session, today: int) -> None:
    """Forget what is long ago."""
    session.execute(delete(UsageRow).where(UsageRow.day < today - KEPT_DAYS))
