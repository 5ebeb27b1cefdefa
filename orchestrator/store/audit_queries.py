"""The audit log in the store: one chain, however many orchestrators add to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from orchestrator.store import bulk
from orchestrator.store.tables import AuditRow
from protocol import audit
from protocol.audit import Act, Head

#: The lock of whoever adds to the log of a PostgreSQL; any number that nobody else uses there.
ADDING: Final = 0x_00D1_DA01
_AUDIT: Any = AuditRow.__table__


def add(session: Session, acts: Sequence[Act], now: float, orchestrator: str) -> None:
    """Add acts at the end of the log, in their order.

    From here to its commit a transaction keeps others from adding: it is the last that it does. (On
    SQLite, where one transaction at a time is under way, that is so anyhow.)
    """
    if not acts:
        return
    session.flush()
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADDING})
    last, rows = head(session), []
    for act in acts:
        entry = audit.after(last, act, moment(now), orchestrator)
        last = Head(entry.number, entry.hash)
        details = json.dumps(entry.details, sort_keys=True)
        rows.append({**entry.model_dump(), "details": details})
    bulk.insert(session, _AUDIT, rows)


def moment(now: float) -> str:
    """A time as an entry has it: as text, they are in order of time."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def head(session: Session) -> Head:
    """Where the log ends."""
    rows = select(AuditRow.number, AuditRow.hash).order_by(AuditRow.number.desc()).limit(1)
    found = session.execute(rows).first()
    return Head(*found) if found else Head()


def page(
    session: Session, after: int, most: int, *, actor: str = "", action: str = "", since: str = ""
) -> list[str]:
    """The entries after a number, in their order, each as the line that it is in an export.

    Right or wrong: whoever verifies the log has to see what is there.
    """
    rows = select(_AUDIT).where(AuditRow.number > after).order_by(AuditRow.number).limit(most)
    if actor:
        rows = rows.where(AuditRow.actor == actor)
    if action:
        rows = rows.where(AuditRow.action == action)
    if since:
        rows = rows.where(AuditRow.at >= since)
    return [
        audit.canonical({**row, "details": _details(row["details"])})
        for row in session.execute(rows).mappings()
    ]


def _details(written: str) -> Any:
    try:
        return json.loads(written)
    except ValueError:
        return written
