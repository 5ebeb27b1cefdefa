"""Carrying out what the planner decides about an assignment."""

from __future__ import annotations

from orchestrator.planner import AskAgain, Combine, GiveUp, Situation, TaskView, Wait, next_step
from orchestrator.store import queries
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
from protocol.lifecycle import ASSIGNMENT, TASK, AssignmentState, TaskState, advance, terminal
from protocol.messages import (
    MAX_RESULTS,
    CancelOrder,
    EndEvent,
    IterationEvent,
    OffboardOrder,
    OnboardOrder,
    ProgressEvent,
    Result,
    TaskReport,
    new_id,
)
from protocol.module import Side
from protocol.outcome import Outcome
from protocol.participation import Participation


def spec_of(row: AssignmentRow) -> Assignment:
    """What was asked for."""
    return Assignment.model_validate(load(row.spec))


def begin(turn: Turn, row: AssignmentRow) -> None:
    """Start the iteration that the row names: an order to every target that is connected."""
    spec = spec_of(row)
    row.deadline_at = turn.now + spec.deadline_s
    online = queries.online(turn.session, "vehicles")
    turn.session.add(
        IterationRow(
            assignment=row.id, number=row.iteration, done=False, participation=b"{}", value=None
        )
    )
    tasks = []
    for vehicle in load(row.targets):
        there = vehicle in online
        task = _task(row, Side.ONBOARD, vehicle)
        task["state"] = TaskState.QUEUED if there else TaskState.OFFLINE
        tasks.append(task)
        if there:
            _order_onboard(turn, row, spec, vehicle, str(task["id"]), 1, row.onboard_generation)
    queries.add_tasks(turn.session, tasks)
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
    vehicle: str,
    task: str,
    attempt: int,
    generation: int,
) -> None:
    left = max(0.0, (row.deadline_at or turn.now) - turn.now)
    order = OnboardOrder(
        id=task,
        attempt=attempt,
        assignment=row.id,
        iteration=row.iteration,
        user_id=row.user_id,
        method=spec.onboard.method,
        module=spec.onboard.module,
        generation=generation,
        params=spec.onboard.params,
        previous=_previous(turn, row),
        timeout_s=left,
        signals=spec.onboard.signals,
        samples=spec.onboard.samples,
        # Consecutive windows of a recording, the same whoever missed an iteration.
        first=(row.iteration - 1) * spec.onboard.samples,
        rate_hz=spec.onboard.rate_hz,
    )
    turn.order(topics.orders("vehicles", vehicle), order, left)


def answered(turn: Turn, edge: str, report: TaskReport) -> None:
    """A vehicle or worker has ended a task."""
    task = queries.task(turn.session, report.task, report.attempt)
    if task is None:
        return
    if task.side == Side.ONBOARD and task.edge != edge:
        return  # a vehicle speaks for itself only
    old, new = TaskState(task.state), TaskState(report.state)
    if new not in TASK[old]:
        return  # said twice, or after the iteration had ended
    task.state = advance(TASK, old, new)
    task.edge = edge
    task.digest, task.generation = report.digest, report.generation
    task.seconds, task.outcome = report.seconds, dump(report.outcome)
    turn.session.flush()
    row = queries.assignment(turn.session, task.assignment)
    if row is None or row.iteration != task.iteration:
        return
    if task.side == Side.OFFBOARD and row.state == AssignmentState.COMBINING:
        _combined(turn, row, report)
    elif task.side == Side.ONBOARD and row.state == AssignmentState.COLLECTING:
        turn.progressed.add(row.id)  # the step is taken once a turn, however many answered


def progressed(turn: Turn) -> None:
    """Take the next step of every assignment that was answered in this turn."""
    for id_ in turn.progressed:
        row = queries.assignment(turn.session, id_)
        if row is not None and row.state == AssignmentState.COLLECTING:
            done, asked = queries.progress(turn.session, id_, row.iteration)
            number = row.iteration
            turn.event(
                row.user_id,
                id_,
                ProgressEvent(assignment=id_, iteration=number, answered=done, expected=asked),
            )
            step(turn, row)
    turn.progressed.clear()


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
            details = {v: p.model_dump() for v, p in participation.items()}
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
                outcome=_outcome(t),
            )
            for t in queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD)
        ),
        online=frozenset(e.name for e in fleet if e.online),
        known=frozenset(e.name for e in fleet),
        overdue=overdue,
        current=current,
        pinned=row.pinned,
    )


def _outcome(task: TaskRow) -> Outcome | None:
    return Outcome.model_validate(load(task.outcome)) if task.outcome else None


def _ask_again(turn: Turn, row: AssignmentRow, spec: Assignment, vehicles: tuple[str, ...]) -> None:
    module = queries.current_module(
        turn.session, row.user_id, Side.ONBOARD, spec.onboard.module or ""
    )
    generation = module.generation if module else row.onboard_generation
    for old in queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD):
        if old.edge in vehicles:
            old.state = advance(TASK, TaskState(old.state), TaskState.SUPERSEDED)
            new = _task(row, Side.ONBOARD, old.edge)
            new["id"], new["attempt"] = old.id, old.attempt + 1
            queries.add_tasks(turn.session, [new])
            _order_onboard(turn, row, spec, old.edge, old.id, old.attempt + 1, generation)


def _close(turn: Turn, row: AssignmentRow, participation: dict[str, Participation]) -> None:
    queries.end_open_tasks(turn.session, row.id, TaskState.TIMED_OUT)
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    if iteration is not None:
        iteration.participation = dump({v: p.model_dump() for v, p in participation.items()})


def _combine(turn: Turn, row: AssignmentRow, spec: Assignment, kept: tuple[str, ...]) -> None:
    row.state = advance(ASSIGNMENT, AssignmentState(row.state), AssignmentState.COMBINING)
    row.deadline_at = turn.now + spec.deadline_s
    done = queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD)
    blobs = {t.edge: t.outcome for t in done if t.edge in kept and t.outcome}
    size = sum(map(len, blobs.values()))
    if size > MAX_RESULTS:
        problem = f"the vehicles' values have {size} bytes together; at most {MAX_RESULTS} can be "
        fail(turn, row, ValueTooLarge(problem + "combined. Return less from each vehicle."))
        return
    if not queries.online(turn.session, "workers"):
        fail(turn, row, NoWorker())
        return
    task = _task(row, Side.OFFBOARD, "")
    queries.add_tasks(turn.session, [task])
    order = OffboardOrder(
        id=str(task["id"]),
        assignment=row.id,
        iteration=row.iteration,
        user_id=row.user_id,
        method=spec.offboard.method,
        module=spec.offboard.module,
        generation=row.offboard_generation,
        params=spec.offboard.params,
        previous=_previous(turn, row),
        timeout_s=spec.deadline_s,
        results=[load(blobs[vehicle])["value"] for vehicle in kept],
    )
    turn.order(topics.offboard_orders(), order, spec.deadline_s)


def _combined(turn: Turn, row: AssignmentRow, report: TaskReport) -> None:
    if not report.outcome.ok:
        what = "the custom module" if spec_of(row).offboard.method == CUSTOM else "the method"
        reason = report.outcome.describe()
        fail(turn, row, AssignmentFailed(f"the off-board task failed in {what}: {reason}"))
        return
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    if iteration is None:
        return
    iteration.done, iteration.value = True, dump(report.outcome.value)
    turn.session.flush()
    turn.event(row.user_id, row.id, iteration_event(turn, iteration))
    if row.iteration < spec_of(row).iterations:
        row.state = advance(ASSIGNMENT, AssignmentState(row.state), AssignmentState.COLLECTING)
        row.iteration += 1
        begin(turn, row)
    else:
        _end(turn, row, AssignmentState.SUCCEEDED, None)


def fail(turn: Turn, row: AssignmentRow, error: OodidaError) -> None:
    """End an assignment without a result."""
    _end(turn, row, AssignmentState.FAILED, error)


def overdue(turn: Turn, assignment: str) -> None:
    """An assignment's deadline has come."""
    row = queries.assignment(turn.session, assignment)
    if row is None or row.deadline_at is None or row.deadline_at > turn.now:
        return
    if row.state == AssignmentState.COLLECTING:
        step(turn, row)
    elif row.state == AssignmentState.COMBINING:
        seconds = spec_of(row).deadline_s
        fail(
            turn, row, AssignmentFailed(f"no worker has combined the results within {seconds:g} s")
        )


def cancel(turn: Turn, row: AssignmentRow) -> None:
    """End an assignment because its analyst wants it ended. Does nothing if it has ended."""
    if not terminal(ASSIGNMENT, AssignmentState(row.state)):
        _end(turn, row, AssignmentState.CANCELLED, AssignmentCancelled())


def _end(turn: Turn, row: AssignmentRow, state: AssignmentState, error: OodidaError | None) -> None:
    row.state = advance(ASSIGNMENT, AssignmentState(row.state), state)
    row.deadline_at = None
    row.error = dump(error_reply(error)) if error is not None else None
    if error is not None:
        stop = CancelOrder(assignment=row.id)
        for task in queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD):
            if task.state in (TaskState.QUEUED, TaskState.TIMED_OUT):
                turn.order(topics.orders("vehicles", task.edge), stop, 60)
        for worker in queries.online(turn.session, "workers"):
            turn.order(topics.orders("workers", worker), stop, 60)
    queries.end_open_tasks(turn.session, row.id, TaskState.CANCELLED)
    turn.event(row.user_id, row.id, end_event(turn, row))


def code_changed(turn: Turn, user: str) -> None:
    """A user's module has a new generation: whoever waits for the newest asks again."""
    for row in queries.collecting(turn.session, user=user):
        if spec_of(row).consistency == "newest":
            step(turn, row)


def vehicle_gone(turn: Turn, vehicle: str) -> None:
    """A vehicle is lost: nobody waits for it."""
    turn.progressed.update(queries.waiting_for(turn.session, vehicle))


def iteration_event(turn: Turn, iteration: IterationRow) -> IterationEvent:
    """A finished iteration as analysts see it."""
    participation = {
        vehicle: Participation.model_validate(tree)
        for vehicle, tree in load(iteration.participation).items()
    }
    results = []
    for task in queries.tasks(turn.session, iteration.assignment, iteration.number, Side.ONBOARD):
        outcome = _outcome(task)
        # What was left out as made by other code is not handed out: nothing can be mixed by hand.
        if outcome is None or participation[task.edge].status == "wrong_code":
            continue
        results.append(
            Result(
                vehicle=task.edge,
                value=outcome.value,
                digest=task.digest,
                generation=task.generation,
                outcome=outcome.kind,
                seconds=task.seconds,
                printed=outcome.printed,
            )
        )
    return IterationEvent(
        assignment=iteration.assignment,
        number=iteration.number,
        value=load(iteration.value) if iteration.value is not None else None,
        results=results,
        participation=participation,
    )


def end_event(turn: Turn, row: AssignmentRow) -> EndEvent:
    """An assignment's end as its analyst sees it."""
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    done = row.iteration if iteration is not None and iteration.done else row.iteration - 1
    return EndEvent(
        assignment=row.id,
        state=AssignmentState(row.state),
        iterations=done,
        error=load(row.error) if row.error else None,
    )
