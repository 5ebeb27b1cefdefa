"""What a store must do when several orchestrators share it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from orchestrator.bundle import written
from orchestrator.decision import decide
from orchestrator.outbox import Due
from orchestrator.store import (
    Database,
    Session,
    assignment_queries,
    changes,
    deployment_queries,
    outbox,
    problems,
    queries,
)
from orchestrator.store.tables import AssignmentRow, DeploymentRow
from protocol import messages, topics
from protocol.lifecycle import AssignmentState, TaskState
from protocol.link import Incoming, Outgoing
from protocol.messages import StateReport
from protocol.module import Side

T = TypeVar("T")
MANY = 4


@pytest.fixture
def databases(url: str) -> Iterator[list[Database]]:
    """One store, opened by many at once: all of them bring it to the newest schema."""
    start = threading.Barrier(MANY)

    def opened(_: int) -> Database:
        start.wait()
        return Database(url)

    with ThreadPoolExecutor(MANY) as pool:
        found = list(pool.map(opened, range(MANY)))
    yield found
    for database in found:
        database.close()


def at_once(databases: list[Database], work: Callable[[Session, int], T]) -> list[T]:
    """Do the same in all of them at once, again as long as another is in the way."""
    start = threading.Barrier(len(databases))

    def one(number: int) -> T:
        start.wait()
        while True:
            try:
                with databases[number].transaction() as session:
                    return work(session, number)
            except Exception as problem:
                if not problems.contended(problem):
                    raise

    with ThreadPoolExecutor(len(databases)) as pool:
        return list(pool.map(one, range(len(databases))))


def add_assignments(database: Database, *ids: str) -> None:
    with database.transaction() as session:
        session.add_all(
            AssignmentRow(
                id=id_, user_id="ada", spec=b"{}", state="collecting", iteration=1,
                onboard_generation=0, offboard_generation=0, pinned=None, targets=b"[]",
                deadline_at=1.0, wake_at=1.0, started_at=0.0, began_at=None, quorum_at=None,
                ended_at=None, error=None,
            )
            for id_ in ids
        )  # fmt: skip


def test_a_message_is_never_claimed_by_two(databases: list[Database]) -> None:
    sent = [Outgoing(f"t/{number}", b"{}") for number in range(200)]
    with databases[0].transaction() as session:
        outbox.add(session, sent, owner="dead", until=1.0)

    def take(session: Session, number: int) -> list[str]:
        found = []
        while some := outbox.take(session, owner=f"o{number}", now=2.0, until=9.0, limit=20):
            found += [m.topic for _, item in some for m in written(item)]
        return found

    claimed = [topic for part in at_once(databases, take) for topic in part]
    with databases[0].transaction() as session:
        claimed += [
            m.topic
            for _, item in outbox.take(session, owner="last", now=2.0, until=9.0)
            for m in written(item)
        ]
    assert sorted(claimed) == sorted(message.topic for message in sent)


def test_a_state_changes_once_however_many_want_it(databases: list[Database]) -> None:
    add_assignments(databases[0], "a")

    def move(session: Session, _: int) -> bool:
        row = queries.assignment(session, "a")
        assert row is not None
        if row.state != AssignmentState.COLLECTING:
            return False
        changes.move_assignment(session, row, AssignmentState.COMBINING, now=1.0, cause="test")
        return True

    assert sorted(at_once(databases, move)) == [False] * (MANY - 1) + [True]


def test_who_decided_on_what_is_no_more_decides_again(databases: list[Database]) -> None:
    add_assignments(databases[0], "a")
    with databases[0].transaction() as session:
        row = queries.assignment(session, "a")
        assert row is not None
        stale = AssignmentRow(
            **{c.name: getattr(row, c.name) for c in AssignmentRow.__table__.columns}
        )
        changes.move_assignment(session, row, AssignmentState.FAILED, now=1.0, cause="test")
    with databases[1].transaction() as session, pytest.raises(problems.Overtaken):
        changes.move_assignment(session, stale, AssignmentState.COMBINING, now=1.0, cause="late")


def test_what_is_overdue_is_looked_after_by_one(databases: list[Database]) -> None:
    names = [f"a{number}" for number in range(40)]
    add_assignments(databases[0], *names)

    def look(session: Session, _: int) -> list[str]:
        found = []
        for due in queries.deadlines(session, 2.0, limit=7):
            row = queries.assignment(session, due.assignment or "")
            assert row is not None
            row.wake_at = None
            found.append(row.id)
        return found

    seen: list[str] = []
    while some := [id_ for part in at_once(databases, look) for id_ in part]:
        seen += some
    assert sorted(seen) == sorted(names)


def test_deployments_are_numbered_without_gaps_or_doubles(databases: list[Database]) -> None:
    def number(session: Session, who: int) -> int:
        row = DeploymentRow(
            id=f"d{who}", user_id="ada", side=Side.ONBOARD, name="m", request=b"{}", digest="",
            number=deployment_queries.next_number(session), state="building", generation=0,
            verdict=None, deadline_at=None, environment=None, error=None,
        )  # fmt: skip
        session.add(row)
        session.flush()
        return row.number

    assert sorted(at_once(databases, number)) == list(range(1, MANY + 1))


def test_a_vehicle_that_all_see_at_once_is_one(databases: list[Database]) -> None:
    def seen(session: Session, _: int) -> bool:
        row = queries.edge_to_change(session, "vehicles", "car-1")
        first = not row.online
        row.online = True
        return first

    assert sorted(at_once(databases, seen)) == [False] * (MANY - 1) + [True]


def test_who_stands_in_anothers_way_tries_again(databases: list[Database]) -> None:
    add_assignments(databases[0], "a", "b")
    tries: list[int] = []

    def crosswise(session: Session, number: int) -> None:
        tries.append(number)
        for id_ in ("a", "b") if number % 2 else ("b", "a"):
            row = queries.assignment(session, id_)
            assert row is not None
            row.iteration += 1

    at_once(databases, crosswise)
    with databases[0].transaction() as session:
        rows = [queries.assignment(session, id_) for id_ in ("a", "b")]
        assert [row.iteration for row in rows if row is not None] == [1 + MANY] * 2
    assert len(tries) >= MANY


def test_hostile_words_and_numbers_do_no_harm(databases: list[Database]) -> None:
    add_assignments(databases[0], "a")
    with databases[0].transaction() as session:
        assert queries.briefs(session, {"no", "such"}) == {}
        assert queries.task(session, "t", 2**53) is None
        row = queries.edge_to_change(session, "vehicles", "car-1")
        row.session = 2**53
        task = {
            "id": "t", "attempt": 1, "assignment": "a", "iteration": 1, "side": Side.ONBOARD,
            "edge": "car-1", "state": TaskState.QUEUED,
        }  # fmt: skip
        changes.add_tasks(session, [task], now=0.0, cause="a\0b")


def test_who_closes_an_iteration_is_waited_for_by_who_says_how_far_a_task_is(
    databases: list[Database],
) -> None:
    closing, hearing = databases[:2]
    add_assignments(closing, "a")
    task = {
        "id": "t", "attempt": 1, "assignment": "a", "iteration": 1, "side": Side.ONBOARD,
        "edge": "car-1", "state": TaskState.QUEUED,
    }  # fmt: skip
    with closing.transaction() as session:
        row = queries.assignment(session, "a")
        assert row is not None
        row.wake_at = row.deadline_at = None
        changes.add_tasks(session, [task], now=1.0, cause="asked")
    said = messages.encode(StateReport(task="t", attempt=1, state=TaskState.COLLECTING))
    heard = Incoming(topics.reports("vehicles", "car-1"), *said, None, None, lambda: None)
    due = Due("one", (), None, look=False)
    with ThreadPoolExecutor(1) as pool:
        with closing.transaction() as session:
            queries.assignment(session, "a")
            turn = pool.submit(decide, hearing, [heard], due)
            with pytest.raises(TimeoutError):
                turn.result(0.5)
            changes.end_open_tasks(session, "a", 1, now=2.0, cause="closed")
        turn.result(10)
    with closing.transaction() as session:
        told = assignment_queries.transitions(session, "a", 0, 100)
        ways = [(change.old, change.new) for change in told if change.kind == "task"]
    assert ways == [("", "queued"), ("queued", "expired")]
