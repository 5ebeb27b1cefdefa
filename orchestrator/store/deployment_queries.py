"""Questions about modules: their generations, their deployments, and who has them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from orchestrator.store.queries import MOST
from orchestrator.store.tables import DeploymentRow, ModuleRow, ModuleStateRow, TransitionRow
from protocol.lifecycle import DeploymentState
from protocol.module import Side


def current_module(session: Session, user: str, side: Side, name: str) -> ModuleRow | None:
    """The newest generation of a module."""
    return session.scalars(
        select(ModuleRow)
        .where(ModuleRow.user_id == user, ModuleRow.side == side, ModuleRow.name == name)
        .order_by(ModuleRow.generation.desc())
        .limit(1)
    ).first()


def module_by_digest(
    session: Session, user: str, side: Side, name: str, digest: str
) -> ModuleRow | None:
    """The newest generation that has this digest."""
    return session.scalars(
        select(ModuleRow)
        .where(
            ModuleRow.user_id == user,
            ModuleRow.side == side,
            ModuleRow.name == name,
            ModuleRow.digest == digest,
        )
        .order_by(ModuleRow.generation.desc())
        .limit(1)
    ).first()


def current_modules(
    session: Session, *, user: str | None = None, side: Side | None = None
) -> Sequence[ModuleRow]:
    """The newest generation of each module, of one user or of all."""
    key = (ModuleRow.user_id, ModuleRow.side, ModuleRow.name)
    newest = select(*key, func.max(ModuleRow.generation).label("top")).group_by(*key).subquery()
    query = select(ModuleRow).join(
        newest,
        and_(
            ModuleRow.user_id == newest.c.user_id,
            ModuleRow.side == newest.c.side,
            ModuleRow.name == newest.c.name,
            ModuleRow.generation == newest.c.top,
        ),
    )
    if user is not None:
        query = query.where(ModuleRow.user_id == user)
    if side is not None:
        query = query.where(ModuleRow.side == side)
    return session.scalars(query.order_by(*key)).all()


def module_generation(
    session: Session, user: str, side: Side, name: str, generation: int
) -> ModuleRow | None:
    """One generation of a module."""
    if generation > MOST:
        return None
    return session.get(ModuleRow, (user, side.value, name, generation))


def module_states(session: Session, deployment: str) -> Sequence[ModuleStateRow]:
    """What the vehicles or workers said of a deployment."""
    rows = select(ModuleStateRow).where(ModuleStateRow.deployment == deployment)
    return session.scalars(rows.order_by(ModuleStateRow.edge)).all()


def pending_modules(session: Session, edge: str, side: Side) -> Sequence[ModuleStateRow]:
    """The deployments to a side that a vehicle or worker has not answered yet."""
    return session.scalars(
        select(ModuleStateRow)
        .join(ModuleRow, ModuleRow.deployment == ModuleStateRow.deployment)
        .where(
            ModuleStateRow.edge == edge,
            ModuleStateRow.state == "pending",
            ModuleRow.side == side,
        )
    ).all()


def verifying(session: Session) -> Sequence[DeploymentRow]:
    """The deployments that wait for a worker's verdict."""
    rows = select(DeploymentRow).where(DeploymentRow.state == DeploymentState.VERIFYING)
    return session.scalars(rows).all()


def shipped_after(session: Session, row: DeploymentRow) -> bool:
    """True if a deployment of the same module that was requested later has shipped already."""
    later = select(DeploymentRow.id).where(
        DeploymentRow.user_id == row.user_id,
        DeploymentRow.side == row.side,
        DeploymentRow.name == row.name,
        DeploymentRow.number > row.number,
        DeploymentRow.state == DeploymentState.SHIPPED,
    )
    return session.scalars(later.limit(1)).first() is not None


def awaiting(session: Session) -> Sequence[DeploymentRow]:
    """The deployments that wait for approval, in the order in which they were asked for."""
    rows = select(DeploymentRow).where(DeploymentRow.state == DeploymentState.AWAITING_APPROVAL)
    return session.scalars(rows.order_by(DeploymentRow.number)).all()


def awaiting_before(session: Session, row: DeploymentRow) -> Sequence[DeploymentRow]:
    """Those of the same module that were asked for before this one."""
    return session.scalars(
        select(DeploymentRow)
        .where(
            DeploymentRow.user_id == row.user_id,
            DeploymentRow.side == row.side,
            DeploymentRow.name == row.name,
            DeploymentRow.number < row.number,
            DeploymentRow.state == DeploymentState.AWAITING_APPROVAL,
        )
        .order_by(DeploymentRow.number)
        .with_for_update()
    ).all()


def held(session: Session, user: str | None, limit: int) -> Sequence[tuple[DeploymentRow, float]]:
    """The deployments that had to wait for approval, and since when; the newest first.

    Those of one user, or of all.
    """
    rows = (
        select(DeploymentRow, TransitionRow.at)
        .join(TransitionRow, TransitionRow.subject == DeploymentRow.id)
        .where(*_deployments(), TransitionRow.new == DeploymentState.AWAITING_APPROVAL)
        .order_by(DeploymentRow.number.desc())
        .limit(limit)
    )
    if user is not None:
        rows = rows.where(DeploymentRow.user_id == user)
    return [(row, at) for row, at in session.execute(rows)]


def ended_waits(session: Session, deployments: Sequence[str]) -> dict[str, TransitionRow]:
    """How the wait of each of these deployments ended; one that waits still is not in it."""
    rows = select(TransitionRow).where(
        *_deployments(),
        TransitionRow.subject.in_(deployments),
        TransitionRow.old == DeploymentState.AWAITING_APPROVAL,
    )
    return {row.subject: row for row in session.scalars(rows)}


def _deployments() -> list[ColumnElement[bool]]:
    """The changes of deployments: they are no assignment's, which the index knows."""
    return [TransitionRow.assignment.is_(None), TransitionRow.kind == "deployment"]


def next_number(session: Session) -> int:
    """One more than any deployment's number."""
    return (session.scalar(select(func.max(DeploymentRow.number))) or 0) + 1


def deployment(session: Session, id_: str) -> DeploymentRow | None:
    """One deployment; nobody else changes it until this transaction ends."""
    session.flush()
    return session.get(DeploymentRow, id_, with_for_update=True, populate_existing=True)
