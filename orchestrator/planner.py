"""What to do next: (an assignment's situation) -> a step. No I/O, no clock.

It decides in two stages, since a fleet may be large: `decide` says from counts whether an iteration
goes on, and only where it ends, `close` says from every task who is in and who is out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from orchestrator.consistency import Made, choose
from protocol.assignment import CUSTOM, Assignment
from protocol.lifecycle import OPEN, TaskState
from protocol.outcome import Kind
from protocol.participation import Status

#: How long a vehicle that accepted its order and is lost is waited for, in seconds: a reboot.
REBOOT_S: Final = 15.0
#: The same before it has accepted it: its connection may be broken, or its broker restarting.
RECONNECT_S: Final = 6.0
#: What the others get at least, once the quorum is reached, in seconds.
QUORUM_REST_S: Final = 1.0
#: How often "newest" asks one vehicle in one iteration: it may say it ran what it did not run.
MAX_ATTEMPTS: Final = 20
#: The module's own fault: what a repair of it may mend.
MODULES_FAULT: Final = frozenset({Kind.MODULE_ERROR, Kind.CONTRACT_BROKEN, Kind.LIMIT_EXCEEDED})
_BLAME: Final[dict[Kind, Status]] = {
    Kind.MODULE_ERROR: "crashed",
    Kind.CONTRACT_BROKEN: "crashed",
    Kind.ENGINE_FAILURE: "crashed",
    Kind.LIMIT_EXCEEDED: "limit",
    Kind.REFUSED: "refused",
}


class Failure(NamedTuple):
    """Why a task has no value. ``budget``: it is the vehicle's budget that was used up.

    ``code`` is that of the error for which it was refused.
    """

    kind: Kind
    reason: str
    budget: bool = False
    code: str = ""


class TaskView(NamedTuple):
    """One vehicle's newest task of an iteration; ``failure`` if it was answered without a value."""

    vehicle: str
    state: TaskState
    digest: str | None = None
    generation: int = 0
    failure: Failure | None = None
    attempt: int = 1


class Fleet(NamedTuple):
    """Who is connected, and when those that are not were lost (None: long ago, or never seen).

    ``away``: it is we who are not, and nobody is lost for good meanwhile.
    """

    online: frozenset[str]
    gone: Mapping[str, float | None]
    away: bool = False

    def knows(self, vehicle: str) -> bool:
        """True if it was ever seen."""
        return vehicle in self.online or vehicle in self.gone


class Situation(NamedTuple):
    """What is known of an assignment's running iteration. Times are in seconds.

    ``current`` is the digest of the on-board module's newest generation, None for a built-in
    method; ``quorum_at`` when the quorum was reached.
    """

    assignment: Assignment
    iteration: int
    now: float
    began_at: float
    deadline_at: float
    quorum_at: float | None
    current: str | None
    pinned: str | None

    @property
    def overdue(self) -> bool:
        """True if the iteration's time is over."""
        return self.now >= self.deadline_at


class Count(NamedTuple):
    """How far an iteration is. ``asked`` were ordered something, ``awaited`` may still answer.

    ``usable`` is how many of its own results would be combined now, ``failed`` on how many vehicles
    the module crashed or hit a limit. ``changes_at`` is when the first of the awaited is given up.
    """

    asked: int
    awaited: int
    usable: int
    failed: int
    changes_at: float | None = None


class Wait(NamedTuple):
    """Vehicles are still expected to answer: look again at a time, which is later than now."""

    until: float
    quorum_at: float | None = None


class Close(NamedTuple):
    """Nobody is waited for any more: combine what is there."""


class Miss(NamedTuple):
    """The quorum is not reached, and cannot be any more."""

    message: str


class Halt(NamedTuple):
    """The module fails on too many vehicles."""

    share: float
    message: str


class Standing(NamedTuple):
    """Whether a vehicle is in the iteration's value, and why not."""

    status: Status
    reason: str = ""
    code: str = ""


class Closed(NamedTuple):
    """Whose results are combined, in this order, and how everyone asked for stands.

    ``late`` are those of ``kept`` whose result was made for the iteration before.
    """

    kept: tuple[str, ...]
    late: frozenset[str]
    ledger: dict[str, Standing]


Decision = Wait | Close | Miss | Halt


def awaited(task: TaskView, fleet: Fleet, now: float) -> bool:
    """True if an answer to this task is still waited for."""
    if task.state not in OPEN:
        return False
    if task.vehicle in fleet.online:
        return True
    gone_at = fleet.gone.get(task.vehicle)
    return gone_at is not None and (fleet.away or now < gone_at + patience_s(task.state))


def patience_s(state: TaskState) -> float:
    """For how long a vehicle that is lost with a task in this state is waited for, in seconds."""
    return RECONNECT_S if state is TaskState.QUEUED else REBOOT_S


def stale(tasks: Iterable[TaskView], now: Situation, fleet: Fleet) -> tuple[str, ...]:
    """Under "newest": who answered with code that has been replaced since, and can try again."""
    if now.assignment.consistency != "newest" or now.current is None or now.overdue:
        return ()
    return tuple(
        t.vehicle
        for t in tasks
        if t.state in (TaskState.SUCCEEDED, TaskState.FAILED)
        and t.digest not in (None, now.current)
        and t.attempt < MAX_ATTEMPTS
        and t.vehicle in fleet.online
    )


def usable(groups: Mapping[str, int], now: Situation) -> int:
    """How many of the results, counted by digest, would be combined."""
    mode = now.assignment.consistency
    if mode == "any":
        return sum(groups.values())
    if mode == "pinned" and now.pinned is not None:
        return groups.get(now.pinned, 0)
    if mode == "newest" and now.current is not None:
        return groups.get(now.current, 0)
    return max(groups.values(), default=0)


def at_fault(task: TaskView) -> bool:
    """True if the module is what failed; not where only the vehicle's budget was used up."""
    failure = task.failure
    failed = task.state is TaskState.FAILED and failure is not None
    return failed and failure is not None and failure.kind in MODULES_FAULT and not failure.budget


def count(tasks: Iterable[TaskView], now: Situation, fleet: Fleet) -> Count:
    """How far an iteration is, from each of its tasks."""
    groups: Counter[str] = Counter()
    asked = waiting = failed = 0
    ends: list[float] = []
    for task in tasks:
        # What expires in a running iteration was never sent: its vehicle was not there.
        asked += task.state is not TaskState.EXPIRED
        failed += at_fault(task)
        if task.state is TaskState.SUCCEEDED and task.digest is not None:
            groups[task.digest] += 1
        if awaited(task, fleet, now.now):
            waiting += 1
            gone_at = fleet.gone.get(task.vehicle)
            if task.vehicle not in fleet.online and gone_at is not None:
                ends.append(gone_at + patience_s(task.state))
    return Count(asked, waiting, usable(groups, now), failed, min(ends, default=None))


def needed(quorum: float | None, asked: int) -> int:
    """How many usable results a quorum means: a number is itself, a share is of those asked."""
    if quorum is None:
        return 0
    if isinstance(quorum, int):
        return quorum
    return max(1, math.ceil(quorum * asked - 1e-9))  # 0.55 of 100 is 55, whatever floats say


def halts(now: Situation, so_far: Count) -> bool:
    """True if the module fails on more vehicles than the assignment allows.

    One vehicle alone proves nothing of the module, unless it worked in an earlier iteration and all
    fail now: then it is a replacement that broke it.
    """
    most, onboard = now.assignment.halt_on_failure, now.assignment.onboard
    if most is None or onboard.method != CUSTOM or not so_far.failed:
        return False
    if so_far.failed <= most * so_far.asked + 1e-9:
        return False
    return so_far.failed >= 2 or (so_far.failed == so_far.asked and now.iteration > 1)


def waits_for_all(asked: Assignment, failed: int) -> bool:
    """True if an iteration goes on, before its deadline, as long as anybody is awaited.

    No answer that is there can end it: it has no quorum, asks nobody twice, and cannot halt.
    ``failed`` is how many tasks have failed, whosever fault it was.
    """
    never_halts = asked.onboard.method != CUSTOM or asked.halt_on_failure is None or not failed
    return asked.quorum is None and asked.consistency != "newest" and never_halts


def decide(now: Situation, so_far: Count) -> Decision:
    """Whether an iteration's on-board side goes on. Its deadline is never waited past."""
    if halts(now, so_far):
        share = so_far.failed / so_far.asked
        return Halt(
            share,
            f"the module crashed or hit a limit on {so_far.failed} of {so_far.asked} vehicles, "
            f"more than the share of {now.assignment.halt_on_failure:g} that is allowed",
        )
    quorum = now.assignment.quorum
    want = needed(quorum, so_far.asked)
    reached = quorum is not None and so_far.usable >= want
    if quorum is not None and not reached:
        possible = 0 if now.overdue else so_far.awaited
        if so_far.usable + possible < want:
            return Miss(_missed(now, so_far, want))
    if now.overdue or not so_far.awaited:
        return Close()
    ends = [now.deadline_at]
    quorum_at = None
    if reached:
        quorum_at = now.now if now.quorum_at is None else now.quorum_at
        ends.append(quorum_at + max(QUORUM_REST_S, quorum_at - now.began_at))
    until = min(ends)
    if until <= now.now:
        return Close()
    if so_far.changes_at is not None:
        until = min(until, so_far.changes_at)
    return Wait(until, quorum_at)


def _missed(now: Situation, so_far: Count, want: int) -> str:
    quorum = now.assignment.quorum
    share = f" (a share of {quorum:g})" if isinstance(quorum, float) else ""
    when = "at the deadline" if now.overdue else "and no more can come"
    return (
        f"the quorum is missed: {so_far.usable} usable results of {want} that are needed{share}, "
        f"from {so_far.asked} vehicles asked, {when}"
    )


def close(
    tasks: Iterable[TaskView],
    now: Situation,
    fleet: Fleet,
    late: Iterable[Made] = (),
    *,
    ended: str = "",
) -> Closed:
    """Say of every task how its vehicle stands, and whose results are combined.

    ``late`` are usable answers to the iteration before that came after its end: one is taken where
    its vehicle has not answered this time. ``ended`` is why nothing is combined at all, if so.
    """
    listed = sorted(tasks, key=lambda task: task.vehicle)
    mute = {t.vehicle for t in listed if t.failure is None and t.state is not TaskState.SUCCEEDED}
    old = {m.vehicle: m for m in late if m.vehicle in mute and not ended}
    made = [
        Made(t.vehicle, t.digest, t.generation)
        for t in listed
        if t.state is TaskState.SUCCEEDED and t.digest is not None
    ]
    choice = choose(
        now.assignment.consistency, made, current=now.current, pinned=now.pinned, late=old.values()
    )
    kept = frozenset(choice.kept)
    ledger = {}
    for task in listed:
        if task.vehicle in kept and ended:
            reason = f"its result was not combined: {ended}"
            ledger[task.vehicle] = Standing("cancelled", reason[:4000])
        elif task.vehicle in kept:
            came = f"its answer to iteration {now.iteration - 1} came late, and is in this one"
            ledger[task.vehicle] = Standing("included", came if task.vehicle in old else "")
        elif task.vehicle in choice.left_out:
            ledger[task.vehicle] = Standing("wrong_code", choice.left_out[task.vehicle])
        else:
            ledger[task.vehicle] = _why_not(task, now, fleet, ended)
    return Closed(() if ended else choice.kept, kept & old.keys(), ledger)


def _why_not(task: TaskView, now: Situation, fleet: Fleet, ended: str) -> Standing:
    failure = task.failure
    if task.state is TaskState.CANCELLED:
        reason = failure.reason if failure is not None else ""
        return Standing("cancelled", reason or "the task was cancelled")
    if failure is not None:
        refused = task.state is TaskState.REJECTED
        status = "refused" if refused else _BLAME[failure.kind]
        return Standing(status, failure.reason[:4000], failure.code)
    if not fleet.knows(task.vehicle):
        return Standing("unknown", "no vehicle of this name was ever seen")
    if task.state is TaskState.EXPIRED and task.vehicle in fleet.online:
        return Standing("offline", "not connected when the iteration began; asked in the next one")
    if task.vehicle not in fleet.online:
        return Standing("offline", "not connected, or lost while it worked")
    if now.overdue:
        return Standing("late", f"no answer within {now.assignment.deadline_s:g} s")
    if ended:
        return Standing("cancelled", f"it had not answered yet: {ended}"[:4000])
    return Standing("late", "no answer in the time that was left after the quorum was reached")


def nobody(ledger: Mapping[str, Standing]) -> str:
    """One sentence on why an iteration has no result."""
    if not ledger:
        return "no vehicle was selected"
    words = ", ".join(
        f"{vehicle} is {s.status.replace('_', ' ')}" + (f" ({s.reason})" if s.reason else "")
        for vehicle, s in list(ledger.items())[:3]
    )
    more = f" and {len(ledger) - 3} more" if len(ledger) > 3 else ""
    return f"not one usable result came: {words}{more}"
