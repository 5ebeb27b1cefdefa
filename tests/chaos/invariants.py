"""What has to hold after it all. Pure: evidence in, violations out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from protocol.assignment import CUSTOM
from protocol.lifecycle import OPEN
from protocol.module import Side
from tests.chaos.asks import offboard_value, onboard_value, same
from tests.chaos.evidence import AssignmentSeen, Evidence, IterationSeen, TaskSeen
from tests.chaos.history import Subject, broken

ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
#: What the cloud says when it is the cloud's own fault.
OUR_FAULT: Final = "the orchestrator failed"


def violations(seen: Evidence) -> list[str]:
    """Everything that does not hold, a sentence each."""
    tasks: dict[str, list[TaskSeen]] = defaultdict(list)
    iterations: dict[str, list[IterationSeen]] = defaultdict(list)
    for task in seen.tasks:
        tasks[task.assignment].append(task)
    for iteration in seen.iterations:
        iterations[iteration.assignment].append(iteration)
    found = list(_twice(seen))
    for row in seen.assignments:
        rounds = sorted(iterations[row.id], key=lambda i: i.number)
        problems = (
            *_terminal(row, tasks[row.id]),
            *_rounds(row, rounds),
            *_values(row, rounds, tasks[row.id], seen.tags),
        )
        found += [f"assignment {row.id}: {problem}" for problem in problems]
    found += broken(seen.changes, _states(seen))
    if seen.outbox:
        found.append(f"{seen.outbox} messages are left in the outbox")
    return found


def late_results(seen: Evidence) -> int:
    """How many results were combined in the iteration after their own."""
    own = {
        (t.assignment, t.iteration, t.edge)
        for t in seen.tasks
        if t.side == Side.ONBOARD and t.state == "succeeded"
    }
    return sum(
        status == "included" and (i.assignment, i.number, vehicle) not in own
        for i in seen.iterations
        if i.done
        for vehicle, status in i.participation.items()
    )


def _states(seen: Evidence) -> dict[Subject, str]:
    states: dict[Subject, str] = {("task", t.id, t.attempt): t.state for t in seen.tasks}
    return states | {("assignment", row.id, 0): row.state for row in seen.assignments}


def _twice(seen: Evidence) -> Iterator[str]:
    """Every answer is there once: a task is one vehicle's, whatever the attempt."""
    for (task, attempt), times in Counter((t.id, t.attempt) for t in seen.tasks).items():
        if times > 1:
            yield f"attempt {attempt} of task {task} is in the store {times} times"
    owners = defaultdict(set)
    for t in seen.tasks:
        # An iteration that is begun again after a halt asks anew; what was before is superseded.
        if t.side == Side.ONBOARD and t.state != "superseded":
            owners[t.assignment, t.iteration, t.edge].add(t.id)
    for (assignment, number, edge), ids in owners.items():
        if len(ids) > 1:
            yield f"assignment {assignment}: {edge} has {len(ids)} tasks in iteration {number}"


def _terminal(row: AssignmentSeen, tasks: list[TaskSeen]) -> Iterator[str]:
    if row.state not in ENDED:
        yield f"it is {row.state}, in iteration {row.iteration}"
        return
    if row.deadline_at is not None:
        yield f"it is {row.state} and still has a deadline"
    if OUR_FAULT in row.error:
        yield row.error
    for task in tasks:
        if task.state in OPEN:
            who = task.edge or "a worker"
            yield f"{who} is {task.state} in iteration {task.iteration} for ever"


def _rounds(row: AssignmentSeen, rounds: list[IterationSeen]) -> Iterator[str]:
    done = [i.number for i in rounds if i.done]
    if done != list(range(1, len(done) + 1)):
        yield f"iterations {done} are done"
    if row.state == "succeeded" and len(done) != row.spec.iterations:
        yield f"it succeeded with {len(done)} of {row.spec.iterations} iterations"
    for iteration in rounds:
        if iteration.done and "included" not in iteration.participation.values():
            yield f"iteration {iteration.number} has a value of nobody"


def _values(
    row: AssignmentSeen,
    rounds: list[IterationSeen],
    tasks: list[TaskSeen],
    tags: Mapping[str, int],
) -> Iterator[str]:
    """Each value is what the included vehicles' windows give, computed here once more."""
    previous: Any = None
    for iteration in rounds:
        if not iteration.done:
            continue
        number = iteration.number
        answers = []
        for vehicle, status in sorted(iteration.participation.items()):
            made = _made(tasks, vehicle, number)
            if status != "included":
                if made and status != "wrong_code":
                    yield f"iteration {number}: {vehicle} answered, and is said to be {status}"
                continue
            if not made and row.spec.late == "next":
                made = [t for t in tasks if t.late and _is(t, vehicle, number - 1)]
            if len(made) != 1:
                yield f"iteration {number}: {vehicle} is included with {len(made)} answers"
                continue
            answers.append(made[0])
            yield from _answer(row, made[0], tags)
        if row.spec.consistency != "any" and len({a.digest for a in answers}) > 1:
            yield f"iteration {number} mixes results of different code"
        expected = offboard_value(row.spec, [a.value for a in answers], previous)
        if not same(iteration.value, expected):
            yield f"iteration {number} is {iteration.value}, and should be {expected}"
        combined = [
            t
            for t in tasks
            if (t.side, t.iteration, t.state) == (Side.OFFBOARD, number, "succeeded")
        ]
        if len(combined) != 1 or not same(combined[0].value, iteration.value):
            yield f"iteration {number} was combined {len(combined)} times"
        previous = iteration.value


def _is(task: TaskSeen, vehicle: str, number: int) -> bool:
    return (task.side, task.iteration, task.edge) == (Side.ONBOARD, number, vehicle)


def _made(tasks: list[TaskSeen], vehicle: str, number: int) -> list[TaskSeen]:
    return [t for t in tasks if t.state == "succeeded" and _is(t, vehicle, number)]


def _answer(row: AssignmentSeen, task: TaskSeen, tags: Mapping[str, int]) -> Iterator[str]:
    tag = tags.get(task.digest or "") if row.spec.onboard.method == CUSTOM else None
    expected = onboard_value(row.spec, task.edge, task.iteration, tag)
    if not same(task.value, expected):
        yield (
            f"iteration {task.iteration}: {task.edge} answered {task.value}, "
            f"and should have answered {expected}"
        )
