"""Carrying out what the planner decides about an assignment."""

from __future__ import annotations

from typing import Final

from orchestrator import events
from orchestrator.planner import AskAgain, Combine, GiveUp, Situation, TaskView, Wait, next_step
from orchestrator.store import changes, queries
from orchestrator.store.tables import AssignmentRow, IterationRow, TaskRow
from orchestrator.turn import Turn, dump, error_reply, load
from protocol import topics, values
from protocol.assignment import CUSTOM, Assignment
from protocol.errors import (
    AssignmentCancelled,
    AssignmentFailed,
    NoWorker,
    OodidaError,
    ValueTooLarge,
)
from protocol.lifecycle import ASSIGNMENT, OPEN, AssignmentState, TaskState, terminal
from protocol.messages import (
    MAX_RESULTS,
    CancelOrder,
    OffboardOrder,
    OnboardOrder,
    ProgressEvent,
    new_id,
)
from protocol.module import Side
from protocol.participation import Participation

#: How many vehicles an error lists with their reasons.
MAX_LISTED: Final = 1000


def spec_of(row: AssignmentRow) -> Assignment:
    """What was asked for."""
    return Assignment.model_validate(load(row.spec))


def begin(turn: Turn, row: AssignmentRow) -> None:
    """Start the iteration that the row names: an order to every target that is connected."""
    spec = spec_of(row)
    row.deadline_at = row.wake_at = turn.now + spec.deadline_s
    online = queries.online(turn.session, "vehicles")
    previous = _previous(turn, row)
    turn.session.add(
        IterationRow(
            assignment=row.id, number=row.iteration, done=False, participation=b"{}", value=None
        )
    )
    tasks = []
    for vehicle in load(row.targets):
        there = vehicle in online
        task = _task(row, Side.ONBOARD, vehicle)
        task["state"] = TaskState.QUEUED if there else TaskState.EXPIRED
        tasks.append(task)
        if there:
            _order_onboard(turn, row, spec, task, previous, row.onboard_generation)
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


def _order_onboard(
    turn: Turn,
    row: AssignmentRow,
    spec: Assignment,
    task: dict[str, object],
    previous: values.Tree,
    generation: int,
) -> None:
    left = max(0.0, (row.deadline_at or turn.now) - turn.now)
    order = OnboardOrder(
        id=str(task["id"]),
        attempt=int(str(task["attempt"])),
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
    )
    turn.order(topics.orders("vehicles", str(task["edge"])), order, left)


def progressed(turn: Turn, row: AssignmentRow) -> None:
    """Tasks of an assignment have been answered, or vehicles are gone: take the next step."""
    if row.state == AssignmentState.COMBINING:
        for task in queries.tasks(turn.session, row.id, row.iteration, Side.OFFBOARD):
            _combined(turn, row, task)
        return
    if row.state != AssignmentState.COLLECTING:
        return
    done, asked = queries.progress(turn.session, row.id, row.iteration)
    progress = ProgressEvent(
        assignment=row.id, iteration=row.iteration, answered=done, expected=asked
    )
    turn.event(row.user_id, row.id, progress)
    step(turn, row)


def step(turn: Turn, row: AssignmentRow) -> None:
    """Do what the planner says of an iteration whose vehicles are at work."""
    spec = spec_of(row)
    overdue = row.deadline_at is not None and row.deadline_at <= turn.now
    patient = not overdue and spec.consistency != "newest"
    if patient and queries.open_tasks(turn.session, row.id, row.iteration):
        return  # what `next_step` would say, without reading every task
    now = _situation(turn, row, spec, overdue=overdue)
    match next_step(now):
        case Wait():
            pass
        case AskAgain(vehicles):
            _ask_again(turn, row, spec, vehicles)
        case Combine(kept, participation):
            _close(turn, row, participation)
            _combine(turn, row, spec, kept)
        case GiveUp(message, participation):
            _close(turn, row, participation)
            listed = list(participation.items())[:MAX_LISTED]
            details = {vehicle: p.model_dump() for vehicle, p in listed}
            fail(turn, row, AssignmentFailed(message, participation=details))


def _situation(turn: Turn, row: AssignmentRow, spec: Assignment, *, overdue: bool) -> Situation:
    fleet = queries.edges(turn.session, "vehicles")
    current = None
    if spec.onboard.module is not None:
        module = queries.current_module(
            turn.session, row.user_id, Side.ONBOARD, spec.onboard.module
        )
        current = module.digest if module else None
    return Situation(
        assignment=spec,
        tasks=tuple(
            TaskView(
                vehicle=t.edge,
                state=TaskState(t.state),
                digest=t.digest,
                generation=t.generation,
                attempt=t.attempt,
                outcome=events.outcome_of(t),
            )
            for t in queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD)
        ),
        online=frozenset(e.name for e in fleet if e.online),
        known=frozenset(e.name for e in fleet),
        overdue=overdue,
        current=current,
        pinned=row.pinned,
    )


def _ask_again(turn: Turn, row: AssignmentRow, spec: Assignment, vehicles: tuple[str, ...]) -> None:
    module = queries.current_module(
        turn.session, row.user_id, Side.ONBOARD, spec.onboard.module or ""
    )
    generation = module.generation if module else row.onboard_generation
    previous = _previous(turn, row)
    for old in queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD):
        if old.edge in vehicles:
            again = "its code has been replaced"
            changes.move_task(turn.session, old, TaskState.SUPERSEDED, now=turn.now, cause=again)
            new = _task(row, Side.ONBOARD, old.edge)
            new["id"], new["attempt"] = old.id, old.attempt + 1
            changes.add_tasks(turn.session, [new], now=turn.now, cause="asked again")
            _order_onboard(turn, row, spec, new, previous, generation)


def _close(turn: Turn, row: AssignmentRow, participation: dict[str, Participation]) -> None:
    changes.end_open_tasks(
        turn.session, row.id, row.iteration, now=turn.now, cause="the iteration is closed"
    )
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    if iteration is not None:
        iteration.participation = dump({v: p.model_dump() for v, p in participation.items()})


def _combine(turn: Turn, row: AssignmentRow, spec: Assignment, kept: tuple[str, ...]) -> None:
    changes.move_assignment(
        turn.session, row, AssignmentState.COMBINING, now=turn.now, cause="the vehicles are done"
    )
    row.deadline_at = row.wake_at = turn.now + spec.deadline_s
    turn.session.flush()
    _order_offboard(turn, row, spec, kept, _task(row, Side.OFFBOARD, ""))


def ask_workers_again(turn: Turn, row: AssignmentRow) -> None:
    """Order the off-board task again: the worker that had it is gone, or there was none.

    Harmless if one still works on it: only the newest attempt's answer is taken.
    """
    tasks = queries.tasks(turn.session, row.id, row.iteration, Side.OFFBOARD)
    old = max(tasks, key=lambda task: task.attempt)
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    told = load(iteration.participation) if iteration is not None else {}
    kept = tuple(sorted(vehicle for vehicle, p in told.items() if p["status"] == "included"))
    task = _task(row, Side.OFFBOARD, "")
    task["id"], task["attempt"] = old.id, old.attempt + 1
    if old.state in OPEN:  # else a worker was stopped with it, and said so
        changes.move_task(
            turn.session, old, TaskState.SUPERSEDED, now=turn.now, cause="the worker is gone"
        )
    turn.session.flush()
    _order_offboard(turn, row, spec_of(row), kept, task)


def _order_offboard(
    turn: Turn,
    row: AssignmentRow,
    spec: Assignment,
    kept: tuple[str, ...],
    task: dict[str, object],
) -> None:
    done = queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD)
    blobs = {t.edge: t.outcome for t in done if t.edge in kept and t.outcome}
    size = sum(map(len, blobs.values()))
    if size > MAX_RESULTS:
        problem = f"the vehicles' values have {size} bytes together; at most {MAX_RESULTS} can be "
        raise ValueTooLarge(problem + "combined. Return less from each vehicle.")
    changes.add_tasks(turn.session, [task], now=turn.now, cause="a worker is asked")
    left = max(0.0, (row.deadline_at or turn.now) - turn.now)
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
        results=[load(blobs[vehicle])["value"] for vehicle in kept],
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
    turn.event(row.user_id, row.id, events.fitting(events.of_iteration(turn, iteration)))
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
    """An assignment's deadline has come."""
    if row.deadline_at is None or row.deadline_at > turn.now:
        return
    if row.state == AssignmentState.COLLECTING:
        step(turn, row)
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
    changes.move_assignment(turn.session, row, state, now=turn.now, cause=why)
    row.deadline_at = row.wake_at = None
    row.ended_at = turn.now
    row.error = dump(error_reply(error)) if error is not None else None
    if error is not None:
        stop = CancelOrder(assignment=row.id)
        # Who has answered already may still have a container for what would have followed.
        all_of_them = spec_of(row).onboard.isolation == "assignment"
        for task in queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD):
            if all_of_them or task.state in (*OPEN, TaskState.TIMED_OUT, TaskState.EXPIRED):
                turn.order(topics.orders("vehicles", task.edge), stop, 60)
        for worker in queries.online(turn.session, "workers"):
            turn.order(topics.orders("workers", worker), stop, 60)
    changes.end_open_tasks(
        turn.session, row.id, row.iteration, now=turn.now, cause="the assignment has ended",
        cancelled=True,
    )  # fmt: skip
    turn.event(row.user_id, row.id, events.of_end(turn, row))


def code_changed(turn: Turn, user: str) -> None:
    """A user's module has a new generation: whoever waits for the newest asks again."""
    for row in queries.collecting(turn.session, user=user):
        if spec_of(row).consistency == "newest":
            step(turn, row)


def vehicle_gone(turn: Turn, vehicle: str) -> None:
    """A vehicle is lost: nobody waits for it."""
    turn.progressed.update(queries.waiting_for(turn.session, vehicle))
