"""What there is of what in the store, for those who look after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Select, func, literal, select
from sqlalchemy.orm import Session

from orchestrator.metrics import EDGES, OPEN, OUTBOX
from orchestrator.store.database import Database
from orchestrator.store.tables import AssignmentRow, EdgeRow, OutboxRow
from protocol.lifecycle import ASSIGNMENT, AssignmentState, terminal
from protocol.metrics import Gauge, Reading

#: For how long the store's figures are told again before it is asked again, in seconds.
FRESH_S: Final = 5.0


@dataclass(frozen=True)
class Figures:
    """Edges that are online, by role; assignments that are open, by state; messages to publish."""

    online: dict[str, int]
    open: dict[str, int]
    outbox: int


def answers(database: Database) -> bool:
    """True if the store answers; raises what its driver raises if not."""
    with database.transaction() as session:
        return session.execute(select(literal(1))).scalar_one() == 1


def figures(session: Session) -> Figures:
    """Count, by indexes where there are many rows."""
    open_states = [state for state in AssignmentState if not terminal(ASSIGNMENT, state)]
    online = (
        select(EdgeRow.role, func.count()).where(EdgeRow.online.is_(True)).group_by(EdgeRow.role)
    )
    open_ = (
        select(AssignmentRow.state, func.count())
        .where(AssignmentRow.state.in_(open_states))
        .group_by(AssignmentRow.state)
    )
    return Figures(
        online={"vehicles": 0, "workers": 0} | _counts(session, online),
        open={state.value: 0 for state in open_states} | _counts(session, open_),
        outbox=session.scalar(select(func.count()).select_from(OutboxRow)) or 0,
    )


def _counts(session: Session, query: Select[str, int]) -> dict[str, int]:
    return {str(key): count for key, count in session.execute(query)}


def gauges(database: Database) -> dict[Gauge, Callable[[], Reading]]:
    """The gauges that are read from the store, all of them in one transaction."""
    found: Figures | None = None
    good_until = 0.0

    def now() -> Figures:
        nonlocal found, good_until
        if found is None or time.monotonic() > good_until:
            with database.transaction() as session:
                found = figures(session)
            good_until = time.monotonic() + FRESH_S
        return found

    return {
        EDGES: lambda: {(role,): count for role, count in now().online.items()},
        OPEN: lambda: {(state,): count for state, count in now().open.items()},
        OUTBOX: lambda: now().outbox,
    }
