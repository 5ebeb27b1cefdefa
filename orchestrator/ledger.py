"""Of an iteration, from the store: how far it is, who is in and who is out, and whose results."""

from __future__ import annotations

from collections import Counter
from typing import Any

from orchestrator import planner, seen
from orchestrator.consistency import Made
from orchestrator.planner import Closed, Count, Failure, Fleet, Situation, Standing, TaskView
from orchestrator.store import assignment_queries, changes, queries
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import Turn, dump, load
from protocol.assignment import Assignment
from protocol.lifecycle import OPEN, TaskState
from protocol.outcome import Kind, Limit, Outcome


def situation(turn: Turn, row: AssignmentRow, spec: Assignment) -> Situation:
    """What the planner needs to know of a running iteration beside its tasks."""
    current = None
    if spec.onboard.module is not None:
        current = assignment_queries.current_digest(turn.session, row.user_id, spec.onboard.module)
    began_at = row.began_at if row.began_at is not None else row.started_at
    deadline_at = row.deadline_at if row.deadline_at is not None else turn.now
    return Situation(
        spec, row.iteration, turn.now, began_at, deadline_at, row.quorum_at, current, row.pinned
    )


def fleet(turn: Turn) -> Fleet:
    """Who is connected, and since when who is not."""
    known = assignment_queries.vehicles(turn.session)
    return Fleet(
        online=frozenset(s.name for s in known if s.online),
        gone={s.name: s.gone_at for s in known if not s.online},
        away=turn.away,
    )


def chosen(turn: Turn, spec: Assignment, before: list[str]) -> list[str]:
    """Who takes part in the next iteration: by attributes anew, those named or drawn as before."""
    select = spec.vehicles
    if select.names is not None or select.size is not None:
        return before
    if not select.attributes:
        return sorted(one.name for one in assignment_queries.vehicles(turn.session))
    return select.choose(seen.fleet(turn.session))


def views(turn: Turn, row: AssignmentRow) -> list[TaskView]:
    """The vehicles' tasks of the running iteration."""
    return [_view(a) for a in assignment_queries.answers(turn.session, row.id, row.iteration)]


def _view(answer: assignment_queries.Answer) -> TaskView:
    return TaskView(
        answer.vehicle,
        TaskState(answer.state),
        answer.digest,
        answer.generation,
        failure_of(answer.outcome) if answer.outcome is not None else None,
        answer.attempt,
    )


def failure_of(blob: bytes) -> Failure | None:
    """Why an outcome has no value; None if it has one."""
    outcome = Outcome.model_validate(load(blob))
    if outcome.ok:
        return None
    exceeded = outcome.exceeded
    budget = exceeded is not None and exceeded.limit is Limit.BUDGET
    return Failure(outcome.kind, outcome.describe(), budget, outcome.code)


def count(turn: Turn, row: AssignmentRow, now: Situation) -> Count:
    """How far the running iteration is, without reading every task."""
    usable: Counter[str] = Counter()
    asked = waiting = failed = 0
    ends: list[float] = []
    for group in assignment_queries.groups(turn.session, row.id, row.iteration):
        state = TaskState(group.state)
        if state is not TaskState.EXPIRED:
            asked += group.number
        if state is TaskState.FAILED:
            failed += group.number
        if state is TaskState.SUCCEEDED and group.digest is not None:
            usable[group.digest] += group.number
        if state in OPEN:
            if group.online:
                waiting += group.number
            elif group.gone_at is not None:
                # While nobody can be heard, nobody is lost: that is told by the next roll call.
                since = turn.now if turn.away else group.gone_at
                until = since + planner.patience_s(state)
                if turn.now < until:
                    waiting += group.number
                    ends.append(until)
    so_far = Count(asked, waiting, planner.usable(usable, now), failed, min(ends, default=None))
    if planner.halts(now, so_far):  # look whose fault it is only where that decides
        whose = (
            failure_of(blob)
            for _, blob in assignment_queries.failures(turn.session, row.id, row.iteration)
        )
        faults = sum(
            f is not None and f.kind in planner.MODULES_FAULT and not f.budget for f in whose
        )
        so_far = so_far._replace(failed=faults)
    return so_far


def close(
    turn: Turn, row: AssignmentRow, now: Situation, *, ended: str = "", cancelled: bool = False
) -> Closed:
    """End the running iteration's on-board side, and store for ever who is in and who is out.

    ``ended`` is why nothing is combined, if so; ``cancelled``: the vehicles are told to stop.
    """
    answers = assignment_queries.answers(turn.session, row.id, row.iteration)
    late = _late(turn, row, now.assignment)
    made = [Made(answer.vehicle, answer.digest, answer.generation) for answer in late]
    closed = planner.close(map(_view, answers), now, fleet(turn), made, ended=ended)
    why = ended or "the iteration is closed"
    changes.end_open_tasks(
        turn.session, row.id, row.iteration, now=turn.now, cause=why, cancelled=cancelled
    )
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    if iteration is not None:
        used = {a.vehicle: load(a.account).get("usage") for a in answers if a.account is not None}
        iteration.participation = dump(
            {vehicle: _told(s, used.get(vehicle)) for vehicle, s in closed.ledger.items()}
        )
        turn.session.flush()
    return closed


def _told(standing: Standing, usage: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"status": standing.status}
    if standing.reason:
        told["reason"] = standing.reason
    if standing.code:
        told["code"] = standing.code
    if usage is not None:
        told["usage"] = usage
    return told


def _late(turn: Turn, row: AssignmentRow, spec: Assignment) -> list[assignment_queries.Late]:
    """Usable answers to the iteration before that came too late for it."""
    if spec.late != "next" or row.iteration == 1:
        return []
    found = assignment_queries.late(turn.session, row.id, row.iteration - 1)
    return [answer for answer in found if load(answer.outcome)["kind"] == Kind.VALUE]


def results(turn: Turn, row: AssignmentRow, spec: Assignment) -> list[bytes]:
    """The outcomes that are combined in the running iteration, in the order of the vehicles' names.

    Included without an answer of its own is a vehicle whose answer to the iteration before is in.
    """
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    told = load(iteration.participation) if iteration is not None else {}
    kept = sorted(vehicle for vehicle, p in told.items() if p["status"] == "included")
    own = assignment_queries.values(turn.session, row.id, row.iteration)
    old = {answer.vehicle: answer.outcome for answer in _late(turn, row, spec)}
    return [own[vehicle] if vehicle in own else old[vehicle] for vehicle in kept]
