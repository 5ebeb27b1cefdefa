"""What to do next: (an assignment's situation) -> a step. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.consistency import Made, choose
from protocol.assignment import Assignment
from protocol.lifecycle import OPEN, TaskState
from protocol.outcome import Kind, Outcome
from protocol.participation import Participation, Status


@dataclass(frozen=True)
class TaskView:
    """One vehicle's newest task of the iteration. ``outcome`` is None while it is open."""

    vehicle: str
    state: TaskState
    digest: str | None = None
    generation: int = 0
    outcome: Outcome | None = None
    attempt: int = 1


@dataclass(frozen=True)
class Situation:
    """What is known of an assignment's running iteration.

    ``online`` are the vehicles that can still answer, ``known`` those ever seen. ``current`` is the
    digest of the on-board module's newest generation, None for a built-in method.
    """

    assignment: Assignment
    tasks: tuple[TaskView, ...]
    online: frozenset[str]
    known: frozenset[str]
    overdue: bool
    current: str | None
    pinned: str | None


@dataclass(frozen=True)
class Wait:
    """Vehicles are still expected to answer."""


@dataclass(frozen=True)
class AskAgain:
    """Order the task again from these vehicles, for the generation that is current now."""

    vehicles: tuple[str, ...]


@dataclass(frozen=True)
class Combine:
    """The on-board side is closed: combine the results of ``kept``, in this order."""

    kept: tuple[str, ...]
    participation: dict[str, Participation]


@dataclass(frozen=True)
class GiveUp:
    """Not one usable result came."""

    message: str
    participation: dict[str, Participation]


Step = Wait | AskAgain | Combine | GiveUp

#: How often "newest" asks one vehicle in one iteration: it may say it ran what it did not run.
MAX_ATTEMPTS: Final = 20
_BLAME: Final[dict[Kind, Status]] = {
    Kind.MODULE_ERROR: "crashed",
    Kind.CONTRACT_BROKEN: "crashed",
    Kind.ENGINE_FAILURE: "crashed",
    Kind.LIMIT_EXCEEDED: "limit",
    Kind.REFUSED: "refused",
}


def next_step(now: Situation) -> Step:
    """Decide what an iteration's on-board side needs next."""
    if not now.overdue:
        stale = _stale(now)
        if stale:
            return AskAgain(stale)
        if any(t.state in OPEN and t.vehicle in now.online for t in now.tasks):
            return Wait()
    return close(now)


def _stale(now: Situation) -> tuple[str, ...]:
    """Under "newest": who answered with code that has been replaced since, and can try again."""
    if now.assignment.consistency != "newest" or now.current is None:
        return ()
    return tuple(
        t.vehicle
        for t in now.tasks
        if t.state in (TaskState.SUCCEEDED, TaskState.FAILED)
        and t.digest not in (None, now.current)
        and t.attempt < MAX_ATTEMPTS
        and t.vehicle in now.online
    )


def close(now: Situation) -> Combine | GiveUp:
    """End the on-board side with what is there."""
    made = [
        Made(t.vehicle, t.digest, t.generation)
        for t in now.tasks
        if t.state is TaskState.SUCCEEDED and t.digest is not None
    ]
    choice = choose(now.assignment.consistency, made, current=now.current, pinned=now.pinned)
    participation = {
        t.vehicle: (
            Participation(status="included")
            if t.vehicle in choice.kept
            else Participation(status="wrong_code", reason=choice.left_out[t.vehicle])
            if t.vehicle in choice.left_out
            else _why_not(t, now)
        )
        for t in sorted(now.tasks, key=lambda t: t.vehicle)
    }
    if choice.kept:
        return Combine(choice.kept, participation)
    return GiveUp(_nobody(participation), participation)


def _why_not(task: TaskView, now: Situation) -> Participation:
    if task.outcome is not None and not task.outcome.ok and task.state is not TaskState.CANCELLED:
        refused = task.state is TaskState.REJECTED
        status = "refused" if refused else _BLAME[task.outcome.kind]
        return Participation(status=status, reason=task.outcome.describe()[:4000])
    if task.state is TaskState.CANCELLED:
        reason = task.outcome.reason if task.outcome is not None else ""
        return Participation(status="cancelled", reason=reason or "the task was cancelled")
    if task.vehicle not in now.known:
        return Participation(status="unknown", reason="no vehicle of this name was ever seen")
    if task.vehicle not in now.online:
        return Participation(status="offline", reason="not connected, or lost while it worked")
    late = f"no answer within {now.assignment.deadline_s:g} s"
    return Participation(status="late", reason=late)


def _nobody(participation: dict[str, Participation]) -> str:
    """One sentence on why an iteration has no result."""
    if not participation:
        return "no vehicle was selected"
    words = ", ".join(
        f"{vehicle} is {p.status.replace('_', ' ')}" + (f" ({p.reason})" if p.reason else "")
        for vehicle, p in list(participation.items())[:3]
    )
    more = f" and {len(participation) - 3} more" if len(participation) > 3 else ""
    return f"not one usable result came: {words}{more}"
