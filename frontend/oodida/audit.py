"""The audit log, as it is asked for: page by page, with what is wanted of it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import ValidationError

from oodida.connection import Connection
from protocol import identity
from protocol.audit import Entry
from protocol.errors import BadAuditLog, BadRequest
from protocol.messages import ListAudit, Request
from protocol.topics import is_name

_REQUESTS: Final = get_args(get_args(Request)[0])
#: What entries tell of: requests by their mode, and what else there is (docs/reference/audit.md).
ACTIONS: Final = frozenset(
    {
        *(m for one in _REQUESTS for m in get_args(one.model_fields["mode"].annotation)),
        "requests", "hold_module", "ship_module", "refuse_module", "module", "reports", "presence",
        "flood", "refusals",
    }
)  # fmt: skip
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
    wanted: dict[str, Any] = {
        "actor": _actor(user), "action": _action(action), "since": _time(since),
    }  # fmt: skip
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
    if ":" in user:
        return str(identity.parse(user))  # raises BadRequest for a role that is none
    return user if user == OURS else f"analyst:{user}"


def _action(action: str | None) -> str:
    if action is None:
        return ""
    if action not in ACTIONS:
        known = ", ".join(sorted(ACTIONS))
        raise BadRequest(f"there is no action {action!r:.80}; there are {known}")
    return action


def _time(since: dt.datetime | None) -> str:
    """A time as entries have it; one without a zone is the local one, as clocks on walls are."""
    if since is None:
        return ""
    return since.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
