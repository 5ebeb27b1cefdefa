"""Leases of off-board tasks: who does not show that it works on one loses it to another worker."""

from __future__ import annotations

from typing import Final

from orchestrator import orders
from orchestrator.guard import guarded
from orchestrator.store import lease_queries, queries
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import Turn
from protocol.lifecycle import OPEN, AssignmentState, TaskState
from protocol.module import Side


def expired(turn: Turn) -> None:
    """Order again what no worker has shown to work on in time. Nobody is asked if none is there."""
    for id_ in lease_queries.expired(turn.session, turn.now):
        guarded(turn, id_, _again)


#: What a worker gets that has lost its connection, in seconds: it comes back and shows that it
#: works on its task, or it does not. More than the pause between two signs of life.
RETURN_S: Final = 7.0


def worker_gone(turn: Turn, worker: str) -> None:
    """A worker is lost: what it may have taken from the queue is another's, and soon what it had.

    A connection that breaks is no death: what is nearly done is not begun again for that.
    """
    for id_ in lease_queries.held(turn.session, worker):
        guarded(turn, id_, lambda t, row: _from(t, row, worker))


def worker_up(turn: Turn, worker: str) -> None:
    """A worker is there (again): it is asked for what could be asked of nobody before."""
    if queries.online(turn.session, "workers") - {worker}:
        return  # the others have been asked
    for id_ in lease_queries.held(turn.session, worker):
        guarded(turn, id_, lambda t, row: _from(t, row, worker))


def _again(turn: Turn, row: AssignmentRow) -> None:
    if row.state != AssignmentState.COMBINING:
        return
    if row.deadline_at is not None and row.deadline_at <= turn.now:
        return  # its time is over as well, which this turn sees next
    for task in queries.tasks(turn.session, row.id, row.iteration, Side.OFFBOARD):
        if task.lease_until is None or task.lease_until > turn.now:
            return  # it has been renewed, or ordered again, meanwhile
        if not queries.online(turn.session, "workers"):
            task.lease_until = turn.now + lease_queries.LEASE_S
            return
        orders.to_another_worker(turn, row)


def _from(turn: Turn, row: AssignmentRow, worker: str) -> None:
    if row.state != AssignmentState.COMBINING:
        return
    for task in queries.tasks(turn.session, row.id, row.iteration, Side.OFFBOARD):
        if task.edge == worker and task.state in OPEN:
            until = turn.now + RETURN_S
            lease_queries.shorten(turn.session, task.id, task.attempt, until)
        elif task.state in OPEN or task.state == TaskState.CANCELLED:  # it was stopped, and said so
            orders.to_another_worker(turn, row)
