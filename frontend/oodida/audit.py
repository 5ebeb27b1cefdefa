"""The audit log, as it is asked for: page by page, with what is wanted of it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from oodida.connection import Connection
from protocol.audit import Entry
from protocol.errors import BadAuditLog, BadRequest
from protocol.messages import ListAudit
from protocol.topics import is_name

#: Who ships modules and refuses them.
OURS: Final = "orchestrator"


def lines(
    connection: Connection,
    user: str | None = None,
    action: str | None = None,
    since: dt.datetime | None = None,
) -> Iterator[str]:
    """Each entry as the line that it is in an export, oldest first.

    ``user`` is an analyst's name, ``role:name`` of anybody, or ``orchestrator``. Raises BadRequest
    for what is none.
    """
    wanted: dict[str, Any] = {"actor": _actor(user), "action": action or "", "since": _time(since)}
    after, more = 0, True
    while more:
        asked = ListAudit(user_id=connection.user, after=after, **wanted)
        reply = connection.ask(asked)
        told = reply.audit or []
        yield from told
        after = _number(told[-1], after) if told else after
        more = reply.more


def entry(line: str) -> Entry:
    """Read a line. Raises BadAuditLog if it is none."""
    try:
        return Entry.model_validate_json(line)
    except ValidationError:
        raise BadAuditLog from None


def _number(line: str, before: int) -> int:
    """The number of a page's last entry: it must have grown, or the pages would never end."""
    number = json.loads(line).get("number")
    if not isinstance(number, int) or number <= before:
        raise BadAuditLog(
            f"after entry {before} of the audit log comes one numbered {number!r:.40}"
        )
    return number


def _actor(user: str | None) -> str:
    if user is None:
        return ""
    if not all(is_name(part) for part in user.split(":", 1)):
        raise BadRequest(f"{user!r:.80} is neither an analyst's name nor ROLE:NAME")
    return user if ":" in user or user == OURS else f"analyst:{user}"


def _time(since: dt.datetime | None) -> str:
    """A time as entries have it; one without a zone is the local one, as clocks on walls are."""
    if since is None:
        return ""
    return since.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
