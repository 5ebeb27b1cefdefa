"""Carrying out what the planner decides about an assignment."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from typing import Any, Final

from orchestrator import events, ledger, planner
from orchestrator.planner import Close, Halt, Miss, Situation, Wait
from orchestrator.store import assignment_queries, changes, lease_queries, queries
from orchestrator.store.tables import AssignmentRow, IterationRow, ModuleRow, TaskRow
from orchestrator.turn import Turn, dump, error_reply, load
from protocol import topics, values
from protocol.assignment import CUSTOM, Assignment
from protocol.errors import (
    AssignmentCancelled,
    AssignmentFailed,
    AssignmentHalted,
    NotHalted,
    NoWorker,
    OodidaError,
    ValueTooLarge,
)
from protocol.lifecycle import ASSIGNMENT, AssignmentState, TaskState, terminal
from protocol.messages import (
    MAX_RESULTS,
    CancelOrder,
    OffboardOrder,
    OnboardOrder,
    ProgressEvent,
    new_id,
)
from protocol.module import Side

log = logging.getLogger(__name__)

#: How many vehicles an error lists with their reasons.
MAX_LISTED: Final = 1000
#: How long a halted assignment waits for its repair, in seconds.
HALTED_S: Final = 7 * 86_400.0
#: A request to resume that comes again within this time is the same one, in seconds.
REPEATED_S: Final = 60.0


def spec_of(row: AssignmentRow) -> Assignment:
    """What was asked for."""
    return Assignment.model_validate(load(row.spec))


def begin(turn: Turn, row: AssignmentRow) -> None:
    """Start the iteration that the row names: an order to every target that is connected."""
    spec = spec_of(row)
    row.began_at, row.quorum_at = turn.now, None
    row.deadline_at = row.wake_at = turn.now + spec.deadline_s
    online = queries.online(turn.session, "vehicles")
    previous = _previous(turn, row)
    targets = ledger.chosen(turn, spec, load(row.targets))
    row.targets = dump(targets)
    if queries.iteration(turn.session, row.id, row.iteration) is None:
        turn.session.add(
            IterationRow(
                assignment=row.id, number=row.iteration, done=False, participation=b"{}", value=None
            )
        )
    tasks, asked = [], []
    for vehicle in targets:
        task = _task(row, Side.ONBOARD, vehicle)
        task["state"] = TaskState.QUEUED if vehicle in online else TaskState.EXPIRED
        tasks.append(task)
        if vehicle in online:
            asked.append((vehicle, str(task["id"])))
    left = _time_left(turn, row, spec)
    generation = row.onboard_generation
    turn.order_all(asked, lambda id_: _onboard(row, spec, id_, 1, previous, generation, left), left)
    changes.add_tasks(turn.session, tasks, now=turn.now, cause="the iteration begins")
    step(turn, row)


def _task(row: AssignmentRow, side: Side, edge: str) -> dict[str, object]:
    return {
        "id": new_id(),
        "attempt": 1,
        "assignment": row.id,
        "iteration": row.iteration,
        "side": side,
        "edge": edge,
        "state": TaskState.QUEUED,
        "digest": None,
        "generation": 0,
        "seconds": 0.0,
        "outcome": None,
    }


def _previous(turn: Turn, row: AssignmentRow) -> values.Tree:
    before = queries.iteration(turn.session, row.id, row.iteration - 1)
    return load(before.value) if before is not None and before.value is not None else None


def _time_left(turn: Turn, row: AssignmentRow, spec: Assignment) -> float:
    """What a vehicle has for its task from now on, in seconds."""
    left = max(0.0, (row.deadline_at or turn.now) - turn.now)
    if spec.late == "next" and row.iteration < spec.iterations:
        left += spec.deadline_s  # what comes within the next iteration is combined there
    return left


def _onboard(
    row: AssignmentRow,
    spec: Assignment,
    id_: str,
    attempt: int,
    previous: values.Tree,
    generation: int,
    left: float,
) -> OnboardOrder:
    return OnboardOrder(
        id=id_,
        attempt=attempt,
        assignment=row.id,
        iteration=row.iteration,
        user_id=row.user_id,
        method=spec.onboard.method,
        module=spec.onboard.module,
        generation=generation,
        isolation=spec.onboard.isolation,
        last=row.iteration == spec.iterations,
        params=spec.onboard.params,
        previous=previous,
        timeout_s=left,
        signals=spec.onboard.signals,
        samples=spec.onboard.samples,
        # Consecutive windows of a recording, the same whoever missed an iteration.
        first=(row.iteration - 1) * spec.onboard.samples,
        rate_hz=spec.onboard.rate_hz,
        gaps=spec.onboard.gaps,
        budget=spec.budget,
    )


def _order_onboard(
    turn: Turn,
    row: AssignmentRow,
    spec: Assignment,
    vehicle: str,
    id_: str,
    attempt: int,
    generation: int,
) -> None:
    """Order a task from one vehicle."""
    left = _time_left(turn, row, spec)
    order = _onboard(row, spec, id_, attempt, _previous(turn, row), generation, left)
    turn.order(topics.orders("vehicles", vehicle), order, left)


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
            _ask_again(turn, row, spec, again)
    match planner.decide(now, ledger.count(turn, row, now)):
        case Wait(until, quorum_at):
            row.wake_at, row.quorum_at = until, quorum_at
        case Close():
            closed = ledger.close(turn, row, now)
            if closed.kept:
                _combine(turn, row, spec)
            else:
                told = _listed(turn, row)
                fail(turn, row, AssignmentFailed(planner.nobody(closed.ledger), **told))
        case Miss(message):
            ledger.close(turn, row, now, ended="the quorum was missed")
            fail(turn, row, AssignmentFailed(message, reason_code="quorum", **_listed(turn, row)))
        case Halt(share, message):
            _halt(turn, row, now, share, message)


def _listed(turn: Turn, row: AssignmentRow) -> dict[str, dict[str, Any]]:
    """A closed iteration's participation as an error tells it; those that are out come first."""
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    told: dict[str, Any] = load(iteration.participation) if iteration is not None else {}
    order = sorted(told.items(), key=lambda item: item[1]["status"] == "included")
    listed = events.participation_of(dict(order[:MAX_LISTED]))
    return {"participation": {vehicle: p.model_dump() for vehicle, p in listed.items()}}


def _halt(turn: Turn, row: AssignmentRow, now: Situation, share: float, message: str) -> None:
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
        **_listed(turn, row),
    )  # fmt: skip
    row.error = dump(error_reply(error))
    turn.session.flush()
    turn.event(row.user_id, row.id, events.of_end(turn, row))


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
    onboard = _current(turn, row, Side.ONBOARD, spec.onboard.module)
    if onboard is not None and onboard.generation > row.onboard_generation:
        row.onboard_generation = onboard.generation
    if onboard is not None and spec.consistency == "pinned" and spec.digest is None:
        row.pinned = onboard.digest  # as at submission: what is current then
    offboard = _current(turn, row, Side.OFFBOARD, spec.offboard.module)
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


def _current(turn: Turn, row: AssignmentRow, side: Side, name: str | None) -> ModuleRow | None:
    if name is None:
        return None
    return queries.current_module(turn.session, row.user_id, side, name)


def _ask_again(turn: Turn, row: AssignmentRow, spec: Assignment, vehicles: tuple[str, ...]) -> None:
    module = _current(turn, row, Side.ONBOARD, spec.onboard.module)
    generation = module.generation if module else row.onboard_generation
    for old in queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD):
        if old.edge in vehicles:
            again = "its code has been replaced"
            changes.move_task(turn.session, old, TaskState.SUPERSEDED, now=turn.now, cause=again)
            new = _task(row, Side.ONBOARD, old.edge)
            new["id"], new["attempt"] = old.id, old.attempt + 1
            changes.add_tasks(turn.session, [new], now=turn.now, cause="asked again")
            _order_onboard(turn, row, spec, old.edge, old.id, old.attempt + 1, generation)


def order_again(turn: Turn, row: AssignmentRow, task: TaskRow) -> None:
    """Send an order once more: a broker that was restarted may have lost it with its session.

    A vehicle that has it knows it by its id and attempt.
    """
    current = row.state == AssignmentState.COLLECTING and row.iteration == task.iteration
    if current and task.state == TaskState.QUEUED:
        spec = spec_of(row)
        generation = row.onboard_generation
        if spec.consistency == "newest":
            module = _current(turn, row, Side.ONBOARD, spec.onboard.module)
            generation = module.generation if module else generation
        _order_onboard(turn, row, spec, task.edge, task.id, task.attempt, generation)


def _combine(turn: Turn, row: AssignmentRow, spec: Assignment) -> None:
    changes.move_assignment(
        turn.session, row, AssignmentState.COMBINING, now=turn.now, cause="the vehicles are done"
    )
    row.deadline_at = row.wake_at = turn.now + spec.deadline_s
    turn.session.flush()
    _order_offboard(turn, row, spec, _task(row, Side.OFFBOARD, ""))


def ask_workers_again(turn: Turn, row: AssignmentRow) -> None:
    """Order the off-board task again: the worker that had it is gone, or there was none.

    Harmless if one still works on it: only the newest attempt's answer is taken.
    """
    tasks = queries.tasks(turn.session, row.id, row.iteration, Side.OFFBOARD)
    old = max(tasks, key=lambda task: task.attempt)
    task = _task(row, Side.OFFBOARD, "")
    task["id"], task["attempt"] = old.id, old.attempt + 1
    changes.move_task(
        turn.session,
        old,
        TaskState.SUPERSEDED,
        now=turn.now,
        cause="its worker does not work on it",
        lease_until=None,
    )
    turn.session.flush()
    _order_offboard(turn, row, spec_of(row), task)


def _order_offboard(
    turn: Turn,
    row: AssignmentRow,
    spec: Assignment,
    task: dict[str, object],
) -> None:
    blobs = ledger.results(turn, row, spec)
    size = sum(map(len, blobs))
    if size > MAX_RESULTS:
        problem = f"the vehicles' values have {size} bytes together; at most {MAX_RESULTS} can be "
        raise ValueTooLarge(problem + "combined. Return less from each vehicle.")
    left = max(0.0, (row.deadline_at or turn.now) - turn.now)
    lease = turn.now + lease_queries.asked_s(left)
    asked = {**task, "lease_until": lease}
    changes.add_tasks(turn.session, [asked], now=turn.now, cause="a worker is asked")
    order = OffboardOrder(
        id=str(task["id"]),
        attempt=int(str(task["attempt"])),
        assignment=row.id,
        iteration=row.iteration,
        user_id=row.user_id,
        method=spec.offboard.method,
        module=spec.offboard.module,
        generation=row.offboard_generation,
        isolation=spec.offboard.isolation,
        last=row.iteration == spec.iterations,
        params=spec.offboard.params,
        previous=_previous(turn, row),
        timeout_s=left,
        # A value that is None is stored as none at all: fields at their default are not written.
        results=[load(blob).get("value") for blob in blobs],
    )
    if queries.online(turn.session, "workers"):  # else it is ordered when one comes
        turn.order(topics.offboard_orders(), order, left)


def _combined(turn: Turn, row: AssignmentRow, task: TaskRow) -> None:
    outcome = events.outcome_of(task)
    if outcome is None or task.state == TaskState.CANCELLED:
        return  # the worker was stopped, not the assignment
    if not outcome.ok:
        what = "the custom module" if spec_of(row).offboard.method == CUSTOM else "the method"
        reason = outcome.describe()
        fail(turn, row, AssignmentFailed(f"the off-board task failed in {what}: {reason}"))
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
        begin(turn, row)
    else:
        _end(turn, row, AssignmentState.SUCCEEDED, None)


def fail(turn: Turn, row: AssignmentRow, error: OodidaError) -> None:
    """End an assignment without a result."""
    _end(turn, row, AssignmentState.FAILED, error)


def overdue(turn: Turn, row: AssignmentRow) -> None:
    """An assignment's time to be looked at has come."""
    if row.state == AssignmentState.COLLECTING:
        step(turn, row)
        return
    if row.deadline_at is None or row.deadline_at > turn.now:
        row.wake_at = row.deadline_at
    elif row.state == AssignmentState.HALTED:
        days = f"it was halted, and nobody resumed it within {HALTED_S / 86_400:g} days"
        fail(turn, row, AssignmentFailed(days, reason_code="halted"))
    elif row.state == AssignmentState.COMBINING:
        if not queries.online(turn.session, "workers"):
            fail(turn, row, NoWorker())
            return
        late = f"no worker has combined the results within {spec_of(row).deadline_s:g} s"
        fail(turn, row, AssignmentFailed(late))


def cancel(turn: Turn, row: AssignmentRow) -> None:
    """End an assignment because its analyst wants it ended. Does nothing if it has ended."""
    if not terminal(ASSIGNMENT, AssignmentState(row.state)):
        _end(turn, row, AssignmentState.CANCELLED, AssignmentCancelled())


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


def code_changed(turn: Turn, row: AssignmentRow) -> None:
    """A module of its user has a new generation: who waits for the newest asks again."""
    if row.state == AssignmentState.COLLECTING and spec_of(row).consistency == "newest":
        step(turn, row)


def vehicle_gone(turn: Turn, vehicle: str) -> None:
    """A vehicle is lost: nobody waits for it."""
    turn.progressed.update(queries.waiting_for(turn.session, vehicle))
