"""What vehicles and workers say of their tasks, taken into the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from orchestrator import audit, metrics
from orchestrator.store import changes, lease_queries, queries
from orchestrator.store.lease_queries import LEASE_S
from orchestrator.store.tables import TaskRow
from orchestrator.turn import Turn, dump, load
from protocol import topics
from protocol.errors import BadSignature
from protocol.lifecycle import OPEN, TASK, TaskState
from protocol.messages import StateReport, TaskReport
from protocol.module import Side

log = logging.getLogger(__name__)

#: A worker that is stopped says so of its task; a moment later another one is asked, in seconds.
_STOPPED_S: Final = 1.0
#: Nobody waits any more, but the answer is kept: a later iteration may take it.
_CLOSED: Final = (TaskState.TIMED_OUT, TaskState.EXPIRED)


class Answer(NamedTuple):
    """Somebody's report on a task: a vehicle's (side on-board) or a worker's (off-board).

    ``tree`` is what the report was read from.
    """

    side: Side
    edge: str
    report: TaskReport
    tree: dict[str, Any]


class Sign(NamedTuple):
    """Somebody's word that a task is on its way."""

    side: Side
    edge: str
    report: StateReport


def answered(
    turn: Turn, asked: Mapping[tuple[str, int], queries.Brief], answers: Sequence[Answer]
) -> None:
    """Take the answers of a turn, all together: what each costs is a row and no question.

    ``asked`` has the attempts that they are about. The assignments are marked as progressed. The
    first answer of the newest attempt counts.
    """
    moved: dict[tuple[str, int], changes.Move] = {}
    late: dict[tuple[str, int], dict[str, Any]] = {}
    for side, edge, report, tree in answers:
        key = (report.task, report.attempt)
        task = asked.get(key)
        if task is not None and side is Side.ONBOARD and task.edge != edge:
            _foreign(turn, side, edge, report.task, task.edge)
        if task is None or task.side != side or (side is Side.ONBOARD and task.edge != edge):
            continue  # a vehicle speaks for itself only; a worker, for all who share the work
        if key in moved or key in late:
            continue  # the same, told twice
        new = TaskState(report.state)
        if new is TaskState.SUCCEEDED and not _vouched_for(turn, task, edge, report, tree):
            continue  # nobody is believed without; whoever did it is still asked
        told = {
            "edge": edge,
            "digest": report.digest,
            "generation": min(report.generation, queries.MOST),
            "seconds": report.seconds,
            "outcome": dump(tree["outcome"]),
            "account": dump(
                {
                    "gaps": tree.get("gaps"),
                    "usage": tree.get("usage", {}),
                    "receipt": tree.get("receipt"),
                }
            ),
        }
        if new in TASK[TaskState(task.state)]:
            stopped = side is Side.OFFBOARD and new is TaskState.CANCELLED
            lease = turn.now + _STOPPED_S if stopped else None
            moved[key] = changes.Move(task, new, {**told, "lease_until": lease})
            turn.progressed.add(task.assignment)
        elif task.state in _CLOSED and not task.answered:
            late[key] = {**told, "edge": task.edge, "late_at": turn.now}
    changes.move_tasks(turn.session, moved.values(), now=turn.now, cause="it was reported")
    changes.add_late(turn.session, late)


def _vouched_for(
    turn: Turn, task: queries.Brief, edge: str, report: TaskReport, tree: dict[str, Any]
) -> bool:
    if turn.vouching is None:
        return True
    role: topics.Role = "vehicles" if task.side == Side.ONBOARD else "workers"
    inputs = _inputs(turn, task) if task.side == Side.OFFBOARD else None
    value = tree["outcome"].get("value")
    try:
        turn.vouching.check_result(role, edge, task, report, value, inputs)
    except BadSignature as problem:
        log.warning("a result of task %s is not taken: %s", task.id, problem)
        metrics.REFUSED.add(problem.code)
        audit.report_dropped(turn, Side(task.side), edge, task.id, problem.code, problem.message)
        return False
    return True


def _inputs(turn: Turn, task: queries.Brief) -> str | None:
    """The hash of what a worker was to combine, as it was noted when it was asked."""
    row = queries.task(turn.session, task.id, task.attempt)
    noted = load(row.account).get("inputs") if row is not None and row.account else None
    return noted if isinstance(noted, str) else None


def _foreign(turn: Turn, side: Side, edge: str, task: str, owner: str) -> None:
    reason = f"the task is one of {owner}"
    audit.report_dropped(turn, side, edge, task, "foreign_task", reason)


def underway(turn: Turn, side: Side, edge: str, report: StateReport) -> None:
    """A task is on its way; from a worker, this is its sign of life."""
    task = _task_of(turn, side, edge, report)
    if task is None:
        return
    lease = {"edge": edge, "lease_until": turn.now + LEASE_S} if side is Side.OFFBOARD else {}
    if report.state in TASK[TaskState(task.state)]:
        cause = "it was reported"
        changes.move_task(turn.session, task, report.state, now=turn.now, cause=cause, **lease)
    elif lease and task.state in OPEN:
        until = turn.now + LEASE_S
        lease_queries.renew(turn.session, task.id, task.attempt, edge, until)


def _task_of(turn: Turn, side: Side, edge: str, report: TaskReport | StateReport) -> TaskRow | None:
    """The attempt that is meant; None if this side or this vehicle has no say in it."""
    task = queries.task(turn.session, report.task, report.attempt)
    if task is None or task.side != side:
        return None
    if side is Side.ONBOARD and task.edge != edge:
        _foreign(turn, side, edge, report.task, task.edge)
        return None  # a vehicle speaks for itself only; a worker, for all who share the work
    return task
