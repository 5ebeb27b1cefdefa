"""Messages that committed changes cause, until the broker has them: each is claimed by one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from orchestrator.bundle import Bundle
from orchestrator.store.tables import OutboxRow
from protocol.link import Outgoing

#: Rows in one statement.
CHUNK: Final = 500
#: To how many vehicles one row's bundle goes: so many messages are sent again if its owner dies.
BUNDLE: Final = 500


def add(
    session: Session, messages: Sequence[Outgoing | Bundle], *, owner: str, until: float
) -> list[tuple[int, Outgoing | Bundle]]:
    """Put messages into the outbox, in order, claimed for `owner`; with their row numbers."""
    parts = [part for message in messages for part in _parts(message)]
    rows = [{"owner": owner, "claimed_until": until, **_columns(part)} for part in parts]
    if not rows:
        return []
    numbered = insert(OutboxRow).returning(OutboxRow.id, sort_by_parameter_order=True)
    return list(zip(session.scalars(numbered, rows), parts, strict=True))


def _parts(message: Outgoing | Bundle) -> Iterator[Outgoing | Bundle]:
    return message.parts(BUNDLE) if isinstance(message, Bundle) else iter((message,))


def _columns(message: Outgoing | Bundle) -> dict[str, Any]:
    if isinstance(message, Bundle):
        return {
            "topic": message.pattern, "payload": message.payload,
            "content_type": message.content_type, "retain": False, "expiry_s": message.expiry_s,
            "response_topic": None, "correlation": None,
            "bundle": json.dumps([message.mark, message.to]).encode(),
        }  # fmt: skip
    return {
        "topic": message.topic, "payload": message.payload, "content_type": message.content_type,
        "retain": message.retain, "expiry_s": message.expiry_s,
        "response_topic": message.response_topic, "correlation": message.correlation,
        "bundle": None,
    }  # fmt: skip


def read(row: OutboxRow) -> Outgoing | Bundle:
    """What a row holds."""
    if row.bundle is not None:
        mark, to = json.loads(row.bundle)
        listed = [(name, id_) for name, id_ in to]
        expiry_s = row.expiry_s or 0
        return Bundle(row.topic, row.payload, row.content_type, mark, listed, expiry_s)
    return Outgoing(
        row.topic, row.payload, row.content_type, row.retain, row.expiry_s, row.response_topic,
        row.correlation,
    )  # fmt: skip


def take(
    session: Session, *, owner: str, now: float, until: float, limit: int = CHUNK
) -> list[tuple[int, Outgoing | Bundle]]:
    """Claim messages whose claim is over, in order: whoever had them is gone."""
    rows = session.scalars(
        select(OutboxRow)
        .where(OutboxRow.claimed_until <= now)
        .order_by(OutboxRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    renew(session, [row.id for row in rows], owner=owner, until=until)
    return [(row.id, read(row)) for row in rows]


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
