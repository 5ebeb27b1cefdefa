"""What is asked of the store about environments, and about the wheels that are sent for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from orchestrator.store.tables import DeploymentRow, EnvironmentRow, WheelPartRow
from protocol.lifecycle import DeploymentState, EnvironmentState


def environment(session: Session, key: str) -> EnvironmentRow | None:
    """What became of a request, by its key."""
    return session.get(EnvironmentRow, key)


def built(session: Session, digest: str = "", limit: int = 200) -> Sequence[EnvironmentRow]:
    """The environments whose digest begins like this, newest first."""
    rows = select(EnvironmentRow).where(EnvironmentRow.state == EnvironmentState.BUILT)
    if digest:
        rows = rows.where(EnvironmentRow.digest.startswith(digest, autoescape=True))
    return session.scalars(rows.order_by(EnvironmentRow.built_at.desc()).limit(limit)).all()


def building(session: Session) -> Sequence[EnvironmentRow]:
    """The environments that are being made."""
    rows = select(EnvironmentRow).where(EnvironmentRow.state == EnvironmentState.BUILDING)
    return session.scalars(rows.order_by(EnvironmentRow.key)).all()


def waiting(session: Session, key: str) -> Sequence[DeploymentRow]:
    """The deployments that wait for an environment, in the order in which they were asked for."""
    return session.scalars(
        select(DeploymentRow)
        .where(
            DeploymentRow.environment == key,
            DeploymentRow.state == DeploymentState.BUILDING,
        )
        .order_by(DeploymentRow.number)
    ).all()


def add_part(session: Session, row: WheelPartRow) -> None:
    """Store a part; nothing changes if it is there already."""
    if session.get(WheelPartRow, (row.user_id, row.sha256, row.offset)) is None:
        session.add(row)
        session.flush()


def part(session: Session, user: str, sha256: str, offset: int) -> bytes | None:
    """The bytes of one part."""
    return session.scalar(
        select(WheelPartRow.data).where(
            WheelPartRow.user_id == user,
            WheelPartRow.sha256 == sha256,
            WheelPartRow.offset == offset,
        )
    )


def parts(session: Session, user: str, sha256: str, size: int) -> int:
    """How many parts there are of a wheel of this size in bytes."""
    count = session.scalar(
        select(func.count())
        .select_from(WheelPartRow)
        .where(
            WheelPartRow.user_id == user,
            WheelPartRow.sha256 == sha256,
            WheelPartRow.size == size,
        )
    )
    return count or 0


def stored(session: Session, user: str) -> int:
    """How many bytes of wheels a user has here."""
    total = select(func.sum(func.length(WheelPartRow.data))).where(WheelPartRow.user_id == user)
    return session.scalar(total) or 0


def forget_wheels(session: Session, user: str, wheels: Iterable[str]) -> None:
    """Remove all parts of these wheels."""
    session.execute(
        delete(WheelPartRow).where(
            WheelPartRow.user_id == user, WheelPartRow.sha256.in_(list(wheels))
        )
    )


def forget_other_sizes(session: Session, user: str, sha256: str, size: int) -> None:
    """Remove the parts of a wheel that was said to have another size."""
    session.execute(
        delete(WheelPartRow).where(
            WheelPartRow.user_id == user,
            WheelPartRow.sha256 == sha256,
            WheelPartRow.size != size,
        )
    )


def forget_old_parts(session: Session, before: float) -> None:
    """Remove the parts that were sent before a time."""
    session.execute(delete(WheelPartRow).where(WheelPartRow.sent_at < before))
