"""What looks for violations finds each of them: evidence that is right, and then spoilt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store import Database
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import dump
from protocol.module import Side
from tests.chaos import asks, evidence, logs
from tests.chaos.evidence import AssignmentSeen, Evidence, IterationSeen, TaskSeen
from tests.chaos.history import Change
from tests.chaos.invariants import violations
from tests.chaos.schedule import Ask

CARS = ("car-01", "car-02", "car-03")
WAY = (
    ("", "collecting"),
    ("collecting", "combining"),
    ("combining", "collecting"),
    ("collecting", "combining"),
    ("combining", "succeeded"),
)
DIGESTS = {"a" * 64: 1, "b" * 64: 2}


def good(kind: Any = "custom") -> Evidence:
    """Two iterations; in the second the code was replaced, and car-03 has not got it yet."""
    spec = asks.assignment(Ask(0.0, kind, 2, 10.0, 0), len(CARS))
    tasks, iterations, previous = [], [], None
    for number, digest in enumerate(DIGESTS, 1):
        for car in CARS:
            made = "a" * 64 if car == "car-03" else digest
            if kind != "custom":  # our own code is the same everywhere
                made = "c" * 64
            value = asks.onboard_value(spec, car, number, DIGESTS.get(made))
            task = TaskSeen(f"{number}-{car}", 1, "x", number, Side.ONBOARD, car, "succeeded")
            tasks.append(replace(task, digest=made, value=value))
        ledger = dict.fromkeys(CARS, "included")
        if kind == "custom" and number == 2:
            ledger["car-03"] = "wrong_code"
        kept = [t.value for t in tasks if t.iteration == number and ledger[t.edge] == "included"]
        previous = asks.offboard_value(spec, kept, previous)
        iterations.append(
            IterationSeen("x", number, done=True, value=previous, participation=ledger)
        )
        off = TaskSeen(f"{number}-off", 1, "x", number, Side.OFFBOARD, "worker-1", "succeeded")
        tasks.append(replace(off, value=previous))
    row = AssignmentSeen("x", spec, "succeeded", 2)
    changes = [Change("assignment", "x", 0, *step) for step in WAY]
    for task in tasks:
        changes.append(Change("task", task.id, 1, "", "queued"))
        changes.append(Change("task", task.id, 1, "queued", "succeeded"))
    seen = Evidence((row,), tuple(iterations), tuple(tasks), DIGESTS)
    return replace(seen, changes=tuple(changes))


def spoil_task(seen: Evidence, task: str, **changes: Any) -> Evidence:
    tasks = tuple(replace(t, **changes) if t.id == task else t for t in seen.tasks)
    return replace(seen, tasks=tasks)


def spoil_iteration(seen: Evidence, number: int, **changes: Any) -> Evidence:
    rows = tuple(replace(i, **changes) if i.number == number else i for i in seen.iterations)
    return replace(seen, iterations=rows)


def spoil_row(seen: Evidence, **changes: Any) -> Evidence:
    return replace(seen, assignments=(replace(seen.assignments[0], **changes),))


def spoil_change(seen: Evidence, change: Change) -> Evidence:
    return replace(seen, changes=(*seen.changes, change))


#: What was done to the evidence -> a word of what has to be found.
SPOILT: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "not ended": (lambda e: spoil_row(e, state="collecting"), "it is collecting"),
    "a deadline for ever": (lambda e: spoil_row(e, deadline_at=1.0), "still has a deadline"),
    "a bug of ours": (
        lambda e: spoil_row(e, state="failed", error="the orchestrator failed on it"),
        "the orchestrator failed",
    ),
    "an open task": (lambda e: spoil_task(e, "2-car-03", state="running"), "running"),
    "an iteration too few": (
        lambda e: replace(e, iterations=e.iterations[:1], tasks=e.tasks[:4]),
        "1 of 2 iterations",
    ),
    "an answer doubled": (lambda e: replace(e, tasks=(*e.tasks, e.tasks[0])), "2 times"),
    "a task twice": (
        lambda e: replace(e, tasks=(*e.tasks, replace(e.tasks[0], id="other"))),
        "has 2 tasks",
    ),
    "an answer lost": (
        lambda e: replace(e, tasks=e.tasks[1:]),
        "car-01 is included with 0 answers",
    ),
    "another window": (
        lambda e: spoil_task(e, "1-car-01", value={"tag": 1, "n": 24, "sum": 0.5}),
        "car-01 answered",
    ),
    "code that says another's digest": (
        lambda e: spoil_task(e, "1-car-01", digest="b" * 64),
        "mixes results of different code",
    ),
    "a wrong value": (
        lambda e: spoil_iteration(e, 1, value={"count": 1, "total": 0.0, "tags": [1], "n": 3}),
        "and should be",
    ),
    "combined twice": (
        lambda e: replace(e, tasks=(*e.tasks, replace(e.tasks[3], id="again"))),
        "combined 2 times",
    ),
    "an answer that is denied": (
        lambda e: spoil_iteration(
            e, 1, participation={**e.iterations[0].participation, "car-01": "offline"}
        ),
        "car-01 answered, and is said to be offline",
    ),
    "an answer that took effect twice": (
        lambda e: spoil_change(e, Change("task", "1-car-01", 1, "queued", "succeeded")),
        "ended 2 times",
    ),
    "a change that no table allows": (
        lambda e: spoil_change(e, Change("assignment", "x", 0, "succeeded", "collecting")),
        "went from succeeded to collecting",
    ),
    "a change that nobody told": (
        lambda e: replace(e, changes=e.changes[:-1]),
        "was last told to be queued",
    ),
    "a late answer where none is taken": (
        lambda e: spoil_task(
            spoil_task(e, "2-car-01", state="timed_out"), "1-car-01", late=True, state="expired"
        ),
        "car-01 is included with 0 answers",
    ),
    "a message left": (lambda e: replace(e, outbox=3), "3 messages are left"),
}


@pytest.mark.parametrize("kind", ["custom", "built_in", "sample"])
def test_good_evidence_has_no_violation(kind: str) -> None:
    assert violations(good(kind)) == []


@pytest.mark.parametrize("name", SPOILT)
def test_each_violation_is_found(name: str) -> None:
    spoil, word = SPOILT[name]
    found = violations(spoil(good()))
    assert any(word in violation for violation in found), found


def test_an_error_in_a_log_is_found_unless_it_is_excused(tmp_path: Path) -> None:
    (tmp_path / "car-01.log").write_text(
        "2026-01-01 00:00:00,000 INFO agent: fine\n"
        "2026-01-01 00:00:01,000 ERROR agent: a message could not be handled\n"
        "Traceback (most recent call last):\n"
        "OSError: [Errno 28] No space left on device\n"
        "2026-01-01 00:00:02,000 INFO agent: fine again\n"
    )
    (found,) = logs.complaints(tmp_path, [])
    assert "No space left" in found
    assert "fine again" not in found
    assert not list(logs.complaints(tmp_path, [("car-01", "disk")]))
    assert list(logs.complaints(tmp_path, [("car-02", "disk")]))


def test_the_copy_of_a_store_says_the_same(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    database = Database(url)
    spec = asks.assignment(Ask(0.0, "built_in", 2, 10.0, 0), len(CARS))
    with database.transaction() as session:
        session.add(
            AssignmentRow(
                id="a", user_id="ada", iteration=1, state="collecting", spec=dump(spec),
                targets=dump(list(CARS)), onboard_generation=0, offboard_generation=0,
                started_at=1.0, pinned=None,
            )
        )  # fmt: skip
    database.close()
    evidence.copy(url, tmp_path / "copy.db")
    copied = Evidence.read(f"sqlite:///{tmp_path}/copy.db")
    assert [row.spec for row in copied.assignments] == [spec]
    assert copied == Evidence.read(url)
