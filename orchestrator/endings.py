"""The end of an assignment, its halt, and what is told of it."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from typing import Any, Final

from orchestrator import events, ledger, planner
from orchestrator.orders import spec_of
from orchestrator.planner import Situation
from orchestrator.store import assignment_queries, changes, queries
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import Turn, dump, error_reply, load
from protocol import topics
from protocol.errors import AssignmentCancelled, AssignmentHalted, OodidaError
from protocol.lifecycle import ASSIGNMENT, AssignmentState, terminal
from protocol.messages import CancelOrder

log = logging.getLogger(__name__)

#: How many vehicles an error lists with their reasons.
MAX_LISTED: Final = 1000
#: How long a halted assignment waits for its repair, in seconds.
HALTED_S: Final = 7 * 86_400.0


def succeed(turn: Turn, row: AssignmentRow) -> None:
    """End an assignment whose last iteration is done."""
    _end(turn, row, AssignmentState.SUCCEEDED, None)


def fail(turn: Turn, row: AssignmentRow, error: OodidaError) -> None:
    """End an assignment without a result."""
    _end(turn, row, AssignmentState.FAILED, error)


def cancel(turn: Turn, row: AssignmentRow, *, by: str | None = None) -> None:
    """End an assignment because somebody wants it ended. Does nothing if it has ended."""
    if not terminal(ASSIGNMENT, AssignmentState(row.state)):
        another = f"the assignment was cancelled by {by}" if by not in (None, row.user_id) else None
        _end(turn, row, AssignmentState.CANCELLED, AssignmentCancelled(another))


def halt(turn: Turn, row: AssignmentRow, now: Situation, share: float, message: str) -> None:
    """Stop, until the analyst has repaired the module and resumes, cancels or forgets it."""
    failed = [view for view in ledger.views(turn, row) if planner.at_fault(view)]
    reasons = Counter(view.failure.reason for view in failed if view.failure is not None)
    reason, times = reasons.most_common(1)[0]
    (digest, generation), _ = Counter((v.digest, v.generation) for v in failed).most_common(1)[0]
    ledger.close(turn, row, now, ended="the assignment halted", cancelled=True)
    changes.move_assignment(
        turn.session, row, AssignmentState.HALTED, now=turn.now, cause=f"{message}: {reason}"
    )
    _tell_to_stop(turn, row)
    row.deadline_at = row.wake_at = turn.now + HALTED_S
    error = AssignmentHalted(
        f"{message}; on {times} of them: {reason}. Deploy a repair; "
        f"then `run.resume()`, or `oodida resume {row.id}`, goes on",
        reason=reason, generation=generation, digest=digest, share=share,
        **listed(turn, row),
    )  # fmt: skip
    row.error = dump(error_reply(error))
    turn.session.flush()
    turn.event(row.user_id, row.id, events.of_end(turn, row))


def listed(turn: Turn, row: AssignmentRow) -> dict[str, dict[str, Any]]:
    """A closed iteration's participation as an error tells it; those that are out come first."""
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    told: dict[str, Any] = load(iteration.participation) if iteration is not None else {}
    order = sorted(told.items(), key=lambda item: item[1]["status"] == "included")
    listed = events.participation_of(dict(order[:MAX_LISTED]))
    return {"participation": {vehicle: p.model_dump() for vehicle, p in listed.items()}}


def _end(turn: Turn, row: AssignmentRow, state: AssignmentState, error: OodidaError | None) -> None:
    why = error.message if error is not None else "the last iteration is done"
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    if (
        row.state == AssignmentState.COLLECTING
        and iteration is not None
        and iteration.participation == b"{}"
    ):  # who was in and who was out is told of each iteration, also of one without a value
        _close_for_good(turn, row, why)
    changes.move_assignment(turn.session, row, state, now=turn.now, cause=why)
    row.deadline_at = row.wake_at = None
    row.ended_at = turn.now
    row.error = dump(error_reply(error)) if error is not None else None
    if error is not None:
        _tell_to_stop(turn, row)
    changes.end_open_tasks(
        turn.session, row.id, row.iteration, now=turn.now, cause="the assignment has ended",
        cancelled=True,
    )  # fmt: skip
    turn.event(row.user_id, row.id, events.of_end(turn, row))


def _close_for_good(turn: Turn, row: AssignmentRow, why: str) -> None:
    try:
        with turn.savepoint():
            now = ledger.situation(turn, row, spec_of(row))
            ledger.close(turn, row, now, ended=why, cancelled=True)
    except Exception:  # it may be what went wrong; the assignment has to end all the same
        log.exception("the participation of %s could not be told", row.id)


def _tell_to_stop(turn: Turn, row: AssignmentRow) -> None:
    """Tell those that may be at work for an assignment that it is of no use any more."""
    spec = spec_of(row)
    # Who has answered already may still have a container for what would have followed.
    all_of_them = spec.onboard.isolation == "assignment"
    told = assignment_queries.asked(turn.session, row.id, row.iteration, all_=all_of_them)
    if spec.late == "next":  # and who works on what could have been combined now
        told += assignment_queries.asked(turn.session, row.id, row.iteration - 1)
    tasks: dict[str, set[str]] = defaultdict(set)
    for vehicle, task in told:
        tasks[vehicle].add(task)
    for vehicle in sorted(tasks):
        # By their names: it may come late, when a halted assignment has long been resumed.
        named = CancelOrder(assignment=row.id, tasks=tuple(sorted(tasks[vehicle])))
        turn.order(topics.orders("vehicles", vehicle), named, 60)
    stop = CancelOrder(assignment=row.id)
    for worker in queries.online(turn.session, "workers"):
        turn.order(topics.orders("workers", worker), stop, 60)
