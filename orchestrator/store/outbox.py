"""Messages that committed changes cause, until the broker has them: each is claimed by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from orchestrator.store.tables import OutboxRow
from protocol.link import Outgoing

#: Rows in one statement.
CHUNK: Final = 500


def add(
    session: Session, messages: Sequence[Outgoing], *, owner: str, until: float
) -> list[tuple[int, Outgoing]]:
    """Put messages into the outbox, in order, claimed for `owner`; with their row numbers."""
    rows = [
        {
            "owner": owner, "claimed_until": until, "topic": m.topic, "payload": m.payload,
            "content_type": m.content_type, "retain": m.retain, "expiry_s": m.expiry_s,
            "response_topic": m.response_topic, "correlation": m.correlation,
        }
        for m in messages
    ]  # fmt: skip
    if not rows:
        return []
    numbered = insert(OutboxRow).returning(OutboxRow.id, sort_by_parameter_order=True)
    return list(zip(session.scalars(numbered, rows), messages, strict=True))


def take(
    session: Session, *, owner: str, now: float, until: float, limit: int = CHUNK
) -> list[tuple[int, Outgoing]]:
    """Claim messages whose claim is over, in order: whoever had them is gone."""
    rows = session.scalars(
        select(OutboxRow)
        .where(OutboxRow.claimed_until <= now)
        .order_by(OutboxRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    renew(session, [row.id for row in rows], owner=owner, until=until)
    return [
        (
            row.id,
            Outgoing(
                row.topic, row.payload, row.content_type, row.retain, row.expiry_s,
                row.response_topic, row.correlation,
            ),
        )
        for row in rows
    ]  # fmt: skip


def renew(session: Session, ids: Sequence[int], *, owner: str, until: float) -> None:
    """Claim these messages for longer; with a time that is over, give them up."""
    for chunk in _chunks(ids):
        session.execute(
            update(OutboxRow)
            .where(OutboxRow.id.in_(chunk))
            .values(owner=owner, claimed_until=until)
            .execution_options(synchronize_session=False)
        )


def forget(session: Session, ids: Sequence[int]) -> None:
    """Take messages that the broker has out of the outbox."""
    for chunk in _chunks(ids):
        session.execute(
            delete(OutboxRow)
            .where(OutboxRow.id.in_(chunk))
            .execution_options(synchronize_session=False)
        )


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    ordered = sorted(ids)
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
