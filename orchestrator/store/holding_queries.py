"""How much of the store is whose."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from orchestrator.store.tables import (
    AssignmentRow,
    DeploymentRow,
    IterationRow,
    ModuleRow,
    WheelPartRow,
)
from protocol.lifecycle import ASSIGNMENT, AssignmentState, terminal


def open_assignments(session: Session, user: str, most: int) -> int:
    """How many assignments of a user have not ended; counted no further than this."""
    states = [state for state in AssignmentState if not terminal(ASSIGNMENT, state)]
    rows = (
        select(AssignmentRow.id)
        .where(AssignmentRow.user_id == user, AssignmentRow.state.in_(states))
        .limit(most)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(rows)) or 0


def stored_bytes(session: Session, user: str) -> int:
    """Bytes of a user's modules, deployments, wheels, and the values of his assignments."""
    sums = (
        select(func.sum(func.length(ModuleRow.source))).where(ModuleRow.user_id == user),
        select(func.sum(func.length(DeploymentRow.request))).where(DeploymentRow.user_id == user),
        select(func.sum(func.length(WheelPartRow.data))).where(WheelPartRow.user_id == user),
        select(func.sum(func.length(IterationRow.value)))
        .join(AssignmentRow, AssignmentRow.id == IterationRow.assignment)
        .where(AssignmentRow.user_id == user),
    )
    return sum(int(session.scalar(one) or 0) for one in sums)
