"""What vehicles and workers say of their tasks, taken into the store."""

from __future__ import annotations

from typing import Final

from orchestrator.store import changes, queries
from orchestrator.store.tables import TaskRow
from orchestrator.turn import Turn, dump
from protocol.lifecycle import TASK, TaskState
from protocol.messages import StateReport, TaskReport
from protocol.module import Side

#: How long a worker may be silent before its task is another's, in seconds.
LEASE_S: Final = 15.0
#: Nobody waits any more, but the answer is kept: a later iteration may take it.
_CLOSED: Final = (TaskState.TIMED_OUT, TaskState.EXPIRED)


def answered(turn: Turn, side: Side, edge: str, report: TaskReport) -> None:
    """A vehicle (side on-board) or worker (off-board) has ended a task.

    Its assignment is marked as progressed. The first answer of the newest attempt counts.
    """
    task = _task_of(turn, side, edge, report)
    if task is None:
        return
    told = {
        "digest": report.digest,
        "generation": report.generation,
        "seconds": report.seconds,
        "outcome": dump(report.outcome),
        "account": dump(report.model_dump(include={"gaps", "usage"})),
    }
    new = TaskState(report.state)
    if new in TASK[TaskState(task.state)]:
        changes.move_task(
            turn.session, task, new, now=turn.now, cause="it was reported", edge=edge,
            lease_until=None, **told,
        )  # fmt: skip
        turn.progressed.add(task.assignment)
    elif task.state in _CLOSED and task.outcome is None:
        for column, value in told.items():
            setattr(task, column, value)
        task.late_at = turn.now


def underway(turn: Turn, side: Side, edge: str, report: StateReport) -> None:
    """A task is on its way; from a worker, this is its sign of life."""
    task = _task_of(turn, side, edge, report)
    if task is None:
        return
    lease = {"edge": edge, "lease_until": turn.now + LEASE_S} if side is Side.OFFBOARD else {}
    if report.state in TASK[TaskState(task.state)]:
        cause = "it was reported"
        changes.move_task(turn.session, task, report.state, now=turn.now, cause=cause, **lease)
    elif lease and report.state == task.state:
        task.lease_until = turn.now + LEASE_S


def _task_of(turn: Turn, side: Side, edge: str, report: TaskReport | StateReport) -> TaskRow | None:
    """The attempt that is meant; None if this side or this vehicle has no say in it."""
    task = queries.task(turn.session, report.task, report.attempt)
    if task is None or task.side != side:
        return None
    if side is Side.ONBOARD and task.edge != edge:
        return None  # a vehicle speaks for itself only; a worker, for all who share the work
    return task
