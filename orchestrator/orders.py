"""Orders of tasks: to the vehicles of an iteration, and to a worker that combines their results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from orchestrator import ledger, quota
from orchestrator.store import changes, deployment_queries, lease_queries, queries
from orchestrator.store.tables import AssignmentRow, ModuleRow, TaskRow
from orchestrator.turn import Turn, dump, load
from protocol import topics, values
from protocol.assignment import CUSTOM, Assignment, Select, first_sample
from protocol.errors import ValueTooLarge
from protocol.lifecycle import AssignmentState, TaskState
from protocol.mandate import Mandate
from protocol.messages import MAX_RESULTS, OffboardOrder, OnboardOrder, new_id
from protocol.module import Side
from protocol.outcome import Frozen
from protocol.result_receipt import of_inputs


def spec_of(row: AssignmentRow) -> Assignment:
    """What was asked for."""
    return Assignment.model_validate(load(row.spec))


class Asked(Frozen):
    """What an analyst signed beside what is stored: ``vehicles`` if he may use fewer than those."""

    mandate: Mandate
    vehicles: Select | None = None


def asked_of(row: AssignmentRow) -> Asked | None:
    """What its analyst signed of an assignment; None where there are no certificates."""
    return None if row.asked is None else Asked.model_validate(load(row.asked))


def mandate_of(row: AssignmentRow) -> Mandate | None:
    """Its analyst's word for an assignment; None where there are no certificates."""
    asked = asked_of(row)
    return None if asked is None else asked.mandate


def new_task(row: AssignmentRow, side: Side, edge: str) -> dict[str, object]:
    """A task in its first attempt, as a row."""
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


def current(turn: Turn, row: AssignmentRow, side: Side, name: str | None) -> ModuleRow | None:
    """The newest generation of a module; None if a built-in method is asked for."""
    if name is None:
        return None
    return deployment_queries.current_module(turn.session, row.user_id, side, name)


def to_vehicles(
    turn: Turn,
    row: AssignmentRow,
    spec: Assignment,
    asked: Sequence[tuple[str, str]],
    *,
    attempt: int = 1,
    generation: int | None = None,
) -> None:
    """Order tasks of the running iteration: of each vehicle the one that is named with it.

    ``generation`` is the least that will do, if it is not the assignment's.
    """
    left = _time_left(turn, row, spec)
    previous = _previous(turn, row)
    least = row.onboard_generation if generation is None else generation
    mandate = mandate_of(row)
    turn.order_all(
        asked, lambda id_: _onboard(row, spec, id_, attempt, previous, least, left, mandate), left
    )


def _time_left(turn: Turn, row: AssignmentRow, spec: Assignment) -> float:
    """What a vehicle has for its task from now on, in seconds."""
    left = max(0.0, (row.deadline_at or turn.now) - turn.now)
    if spec.late == "next" and row.iteration < spec.iterations:
        left += spec.deadline_s  # what comes within the next iteration is combined there
    return left


def _previous(turn: Turn, row: AssignmentRow) -> values.Tree:
    before = queries.iteration(turn.session, row.id, row.iteration - 1)
    return load(before.value) if before is not None and before.value is not None else None


def _onboard(
    row: AssignmentRow,
    spec: Assignment,
    id_: str,
    attempt: int,
    previous: values.Tree,
    generation: int,
    left: float,
    mandate: Mandate | None,
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
        mandate=mandate,
        signals=spec.onboard.signals,
        samples=spec.onboard.samples,
        first=first_sample(row.iteration, spec.onboard.samples),
        rate_hz=spec.onboard.rate_hz,
        gaps=spec.onboard.gaps,
        budget=spec.budget,
    )


def replaced(turn: Turn, row: AssignmentRow, spec: Assignment, vehicles: Collection[str]) -> None:
    """Ask vehicles again, whose code is not the newest any more: of each a further attempt."""
    whose = set(vehicles)
    asked: dict[int, list[tuple[str, str]]] = defaultdict(list)
    new: list[dict[str, object]] = []
    for old in queries.tasks(turn.session, row.id, row.iteration, Side.ONBOARD):
        if old.edge in whose:
            cause = "its code has been replaced"
            changes.move_task(turn.session, old, TaskState.SUPERSEDED, now=turn.now, cause=cause)
            attempt = old.attempt + 1
            new.append(new_task(row, Side.ONBOARD, old.edge) | {"id": old.id, "attempt": attempt})
            asked[attempt].append((old.edge, old.id))
    changes.add_tasks(turn.session, new, now=turn.now, cause="asked again")
    quota.spend(turn, row.user_id, len(new))  # it is custom code that is replaced
    newest = _newest(turn, row, spec)
    for attempt, some in sorted(asked.items()):
        to_vehicles(turn, row, spec, some, attempt=attempt, generation=newest)


def _newest(turn: Turn, row: AssignmentRow, spec: Assignment) -> int:
    module = current(turn, row, Side.ONBOARD, spec.onboard.module)
    return module.generation if module is not None else row.onboard_generation


def again(turn: Turn, row: AssignmentRow, task: TaskRow) -> None:
    """Send an order once more: a broker that was restarted may have lost it with its session.

    A vehicle that has it knows it by its id and attempt.
    """
    running = row.state == AssignmentState.COLLECTING and row.iteration == task.iteration
    if running and task.state == TaskState.QUEUED:
        spec = spec_of(row)
        least = _newest(turn, row, spec) if spec.consistency == "newest" else None
        this = [(task.edge, task.id)]
        to_vehicles(turn, row, spec, this, attempt=task.attempt, generation=least)


def to_worker(
    turn: Turn,
    row: AssignmentRow,
    spec: Assignment,
    task: dict[str, object],
) -> None:
    """Order the off-board task from whichever worker takes it first. Raises ValueTooLarge."""
    blobs = ledger.results(turn, row, spec)
    size = sum(map(len, blobs))
    if size > MAX_RESULTS:
        problem = f"the vehicles' values have {size} bytes together; at most {MAX_RESULTS} can be "
        raise ValueTooLarge(problem + "combined. Return less from each vehicle.")
    left = max(0.0, (row.deadline_at or turn.now) - turn.now)
    lease = turn.now + lease_queries.asked_s(left)
    results = [load(blob).get("value") for blob in blobs]
    asked = {**task, "lease_until": lease}
    if turn.vouching is not None:  # its receipt has to be of these
        asked["account"] = dump({"inputs": of_inputs(results)})
    changes.add_tasks(turn.session, [asked], now=turn.now, cause="a worker is asked")
    quota.spend(turn, row.user_id, int(spec.offboard.method == CUSTOM))
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
        mandate=mandate_of(row),
        # A value that is None is stored as none at all: fields at their default are not written.
        results=results,
    )
    if queries.online(turn.session, "workers"):  # else it is ordered when one comes
        turn.order(topics.offboard_orders(), order, left)


def to_another_worker(turn: Turn, row: AssignmentRow) -> None:
    """Order the off-board task again: the worker that had it is gone, or there was none.

    Harmless if one still works on it: only the newest attempt's answer is taken.
    """
    tasks = queries.tasks(turn.session, row.id, row.iteration, Side.OFFBOARD)
    old = max(tasks, key=lambda task: task.attempt)
    task = new_task(row, Side.OFFBOARD, "")
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
    to_worker(turn, row, spec_of(row), task)
