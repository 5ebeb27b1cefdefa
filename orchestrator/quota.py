"""The daily budget of a user: how many tasks of custom code are ordered in a day of UTC.

What is ordered is counted for everybody, in the store, and so over all orchestrators. Each task of
custom code is one container that starts somewhere; so is the trial of a deployment.
"""

from __future__ import annotations

from typing import Final

from orchestrator.authority import WHO
from orchestrator.store import usage
from orchestrator.turn import Turn
from protocol.errors import Forbidden, OverQuota

DAY_S: Final = 86_400.0


def day_of(now: float) -> int:
    """The number of a day of UTC."""
    return int(now // DAY_S)


def used(turn: Turn, user: str) -> int:
    """How many tasks a user has had today, with those of this turn."""
    stored = usage.tasks(turn.session, user, day_of(turn.now))
    return stored + turn.spent[user]


def require(turn: Turn, user: str, tasks: int) -> None:
    """Raise OverQuota if a user may not have so many more today."""
    try:
        most = turn.authority.grant(user).daily_tasks
    except Forbidden:  # who has lost his role since: what runs, runs to its end
        return
    if most is None:
        return
    before = used(turn, user)
    if before + tasks > most:
        raise OverQuota(
            f"{user} may have {most} tasks of custom code a day; {before} are used, and this needs "
            f"{tasks} more. The day ends at 0:00 UTC; {WHO}",
            user=user, most=most, used=before, needed=tasks,
        )  # fmt: skip


def spend(turn: Turn, user: str, tasks: int) -> None:
    """Count tasks that are ordered; they are stored at the end of the turn."""
    if tasks:
        turn.spent[user] += tasks


def store(turn: Turn) -> None:
    """Store what was counted. Last of all in a turn, so that nobody waits for it for long."""
    usage.add(turn.session, day_of(turn.now), turn.spent)
