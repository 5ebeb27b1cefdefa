"""Carrying out what the planner decides about an assignment."""

from __future__ import annotations

from typing import Final

from orchestrator import endings, events, ledger, orders, planner, quota
from orchestrator.endings import HALTED_S
from orchestrator.orders import mandate_of, spec_of
from orchestrator.planner import Close, Halt, Miss, Wait
from orchestrator.store import assignment_queries, changes, queries
from orchestrator.store.tables import AssignmentRow, IterationRow, TaskRow
from orchestrator.turn import Turn, dump, load
from protocol.assignment import CUSTOM, Assignment
from protocol.errors import AssignmentFailed, BadSignature, NotHalted, NoWorker, OverQuota
from protocol.lifecycle import ASSIGNMENT, AssignmentState, TaskState, terminal
from protocol.messages import ProgressEvent
from protocol.module import Side

#: A request to resume that comes again within this time is the same one, in seconds.
REPEATED_S: Final = 60.0


def begin(turn: Turn, row: AssignmentRow) -> None:
    """Start the iteration that the row names: an order to every target that is connected.

    Raises OverQuota before anything is changed if its user may not have so many tasks today, and
    BadSignature if his certificate was taken back: vehicles would refuse the orders.
    """
    spec, mandate = spec_of(row), mandate_of(row)
    if turn.vouching is not None and mandate is not None:
        turn.vouching.trust.check_not_revoked(mandate.signature)
    online = queries.online(turn.session, "vehicles")
    targets = ledger.chosen(turn, spec, load(row.targets))
    if CUSTOM in (spec.onboard.method, spec.offboard.method):
        _afford(turn, row, spec, sum(vehicle in online for vehicle in targets))
    row.began_at, row.quorum_at = turn.now, None
    row.deadline_at = row.wake_at = turn.now + spec.deadline_s
    row.targets = dump(targets)
    if queries.iteration(turn.session, row.id, row.iteration) is None:
        turn.session.add(
            IterationRow(
                assignment=row.id, number=row.iteration, done=False, participation=b"{}", value=None
            )
        )
    tasks, asked = [], []
    for vehicle in targets:
        task = orders.new_task(row, Side.ONBOARD, vehicle)
        task["state"] = TaskState.QUEUED if vehicle in online else TaskState.EXPIRED
        tasks.append(task)
        if vehicle in online:
            asked.append((vehicle, str(task["id"])))
    orders.to_vehicles(turn, row, spec, asked)
    changes.add_tasks(turn.session, tasks, now=turn.now, cause="the iteration begins")
    step(turn, row)


def _afford(turn: Turn, row: AssignmentRow, spec: Assignment, vehicles: int) -> None:
    """Count the tasks of custom code that an iteration begins with, and the worker's at its end."""
    onboard = vehicles if spec.onboard.method == CUSTOM else 0
    offboard = int(spec.offboard.method == CUSTOM)
    quota.require(turn, row.user_id, onboard + offboard)
    quota.spend(turn, row.user_id, onboard)


def progressed(turn: Turn, row: AssignmentRow) -> None:
    """Tasks of an assignment have been answered, or vehicles are gone: take the next step."""
    if row.state == AssignmentState.COMBINING:
        for task in queries.tasks(turn.session, row.id, row.iteration, Side.OFFBOARD):
            _combined(turn, row, task)
        return
    if row.state != AssignmentState.COLLECTING:
        return
    far = queries.progress(turn.session, row.id, row.iteration)
    progress = ProgressEvent(
        assignment=row.id, iteration=row.iteration, answered=far.answered, expected=far.asked
    )
    turn.event(row.user_id, row.id, progress)
    if planner.waits_for_all(spec_of(row), far.failed) and assignment_queries.any_awaited(
        turn.session, row.id, row.iteration
    ):
        return  # what there is to decide is known without a look at every task
    step(turn, row)


def step(turn: Turn, row: AssignmentRow) -> None:
    """Do what the planner says of an iteration whose vehicles are at work."""
    spec = spec_of(row)
    now = ledger.situation(turn, row, spec)
    if spec.consistency == "newest":
        again = planner.stale(ledger.views(turn, row), now, ledger.fleet(turn))
        if again:
            orders.replaced(turn, row, spec, again)
    match planner.decide(now, ledger.count(turn, row, now)):
        case Wait(until, quorum_at):
            row.wake_at, row.quorum_at = until, quorum_at
        case Close():
            closed = ledger.close(turn, row, now)
            if closed.kept:
                _combine(turn, row, spec)
            else:
                told = endings.listed(turn, row)
                endings.fail(turn, row, AssignmentFailed(planner.nobody(closed.ledger), **told))
        case Miss(message):
            ledger.close(turn, row, now, ended="the quorum was missed")
            told = endings.listed(turn, row)
            endings.fail(turn, row, AssignmentFailed(message, reason_code="quorum", **told))
        case Halt(share, message):
            endings.halt(turn, row, now, share, message)


def resume(turn: Turn, row: AssignmentRow) -> None:
    """Begin a halted iteration again, with the code that is current now.

    Raises NotHalted for one that is not halted; not if it is the same request once more.
    """
    if row.state != AssignmentState.HALTED:
        running = not terminal(ASSIGNMENT, AssignmentState(row.state))
        since = turn.now - REPEATED_S
        if running and assignment_queries.resumed_since(turn.session, row, since):
            return
        raise NotHalted(f"the assignment {row.id} is {row.state}: only a halted one can be resumed")
    spec = spec_of(row)
    onboard = orders.current(turn, row, Side.ONBOARD, spec.onboard.module)
    if onboard is not None and onboard.generation > row.onboard_generation:
        row.onboard_generation = onboard.generation
    if onboard is not None and spec.consistency == "pinned" and spec.digest is None:
        row.pinned = onboard.digest  # as at submission: what is current then
    offboard = orders.current(turn, row, Side.OFFBOARD, spec.offboard.module)
    if offboard is not None:
        row.offboard_generation = max(row.offboard_generation, offboard.generation)
    changes.supersede_tasks(
        turn.session, row.id, row.iteration, now=turn.now, cause="the iteration is begun again"
    )
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    if iteration is not None:
        iteration.participation = b"{}"
    row.error = None
    changes.move_assignment(
        turn.session, row, AssignmentState.COLLECTING, now=turn.now, cause="it was resumed"
    )
    begin(turn, row)


def _combine(turn: Turn, row: AssignmentRow, spec: Assignment) -> None:
    changes.move_assignment(
        turn.session, row, AssignmentState.COMBINING, now=turn.now, cause="the vehicles are done"
    )
    row.deadline_at = row.wake_at = turn.now + spec.deadline_s
    turn.session.flush()
    orders.to_worker(turn, row, spec, orders.new_task(row, Side.OFFBOARD, ""))


def _combined(turn: Turn, row: AssignmentRow, task: TaskRow) -> None:
    outcome = events.outcome_of(task)
    if outcome is None or task.state == TaskState.CANCELLED:
        return  # the worker was stopped, not the assignment
    if not outcome.ok:
        what = "the custom module" if spec_of(row).offboard.method == CUSTOM else "the method"
        reason = outcome.describe()
        endings.fail(turn, row, AssignmentFailed(f"the off-board task failed in {what}: {reason}"))
        return
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    if iteration is None:
        return
    iteration.done, iteration.value = True, dump(outcome.value)
    turn.session.flush()
    _, written = events.fitting(events.of_iteration(turn, iteration))
    turn.event_written(row.user_id, row.id, *written)
    if row.iteration < spec_of(row).iterations:
        changes.move_assignment(
            turn.session, row, AssignmentState.COLLECTING, now=turn.now, cause="the next iteration"
        )
        row.iteration += 1
        try:
            begin(turn, row)
        except (OverQuota, BadSignature) as problem:  # what was done so far stays
            row.iteration -= 1
            endings.fail(turn, row, AssignmentFailed(problem.message, reason_code=problem.code))
    else:
        endings.succeed(turn, row)


def overdue(turn: Turn, row: AssignmentRow) -> None:
    """An assignment's time to be looked at has come."""
    if row.state == AssignmentState.COLLECTING:
        step(turn, row)
        return
    if row.deadline_at is None or row.deadline_at > turn.now:
        row.wake_at = row.deadline_at
    elif row.state == AssignmentState.HALTED:
        days = f"it was halted, and nobody resumed it within {HALTED_S / 86_400:g} days"
        endings.fail(turn, row, AssignmentFailed(days, reason_code="halted"))
    elif row.state == AssignmentState.COMBINING:
        if not queries.online(turn.session, "workers"):
            endings.fail(turn, row, NoWorker())
            return
        late = f"no worker has combined the results within {spec_of(row).deadline_s:g} s"
        endings.fail(turn, row, AssignmentFailed(late))


def code_changed(turn: Turn, row: AssignmentRow) -> None:
    """A module of its user has a new generation: who waits for the newest asks again."""
    if row.state == AssignmentState.COLLECTING and spec_of(row).consistency == "newest":
        step(turn, row)


def vehicle_gone(turn: Turn, vehicle: str) -> None:
    """A vehicle is lost: nobody waits for it."""
    turn.progressed.update(queries.waiting_for(turn.session, vehicle))
