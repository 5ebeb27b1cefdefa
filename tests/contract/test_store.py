"""What every store must do: SQLite, and PostgreSQL."""

from __future__ import annotations

import pytest

from orchestrator.bundle import Bundle
from orchestrator.store import (
    Database,
    changes,
    deployment_queries,
    environment_queries,
    outbox,
    queries,
)
from orchestrator.store.tables import (
    AssignmentRow,
    EdgeRow,
    EnvironmentRow,
    ModuleRow,
    WheelPartRow,
)
from protocol.lifecycle import TaskState
from protocol.link import Outgoing
from protocol.module import Side


def assignment(id_: str, deadline: float | None = None) -> AssignmentRow:
    return AssignmentRow(
        id=id_, user_id="ada", spec=b"{}", state="collecting", iteration=1, onboard_generation=0,
        offboard_generation=0, pinned=None, targets=b"[]", deadline_at=deadline,
        wake_at=deadline, started_at=0.0,
        began_at=None, quorum_at=None, ended_at=None, error=None,
    )  # fmt: skip


def task(vehicle: str, state: TaskState = TaskState.QUEUED, attempt: int = 1) -> dict[str, object]:
    return {
        "id": f"t-{vehicle}", "attempt": attempt, "assignment": "a", "iteration": 1,
        "side": Side.ONBOARD, "edge": vehicle, "state": state, "digest": None, "generation": 0,
        "seconds": 0.0, "outcome": None,
    }  # fmt: skip


def module(generation: int, name: str = "m", side: Side = Side.ONBOARD) -> ModuleRow:
    return ModuleRow(
        user_id="ada", side=side, name=name, generation=generation, digest=f"{generation:064x}",
        environment="minimal", source=b"x", vehicles=None, deployment=f"d{generation}",
        shipped_at=0.0,
    )  # fmt: skip


def test_a_transaction_that_raises_changes_nothing(database: Database) -> None:
    def half_done() -> None:
        with database.transaction() as session:
            session.add(assignment("a"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_done()
    with database.transaction() as session:
        assert queries.assignment(session, "a") is None


def test_a_savepoint_inside_a_transaction_is_not_its_commit(url: str) -> None:
    writer = Database(url)

    def two_parts() -> None:
        with writer.transaction() as session:
            with session.begin_nested():
                session.add(assignment("a"))
            raise RuntimeError  # what the change causes to be sent was not written yet

    with pytest.raises(RuntimeError):
        two_parts()
    with writer.transaction() as session:
        assert queries.assignment(session, "a") is None
    writer.close()


def test_the_highest_generation_is_current(database: Database) -> None:
    with database.transaction() as session:
        session.add_all([module(2), module(1), module(3), module(1, side=Side.OFFBOARD)])
        session.add(module(1, name="other"))
    with database.transaction() as session:
        newest = deployment_queries.current_module(session, "ada", Side.ONBOARD, "m")
        assert newest is not None
        assert newest.generation == 3
        assert deployment_queries.current_module(session, "bob", Side.ONBOARD, "m") is None
        found = deployment_queries.current_modules(session, user="ada")
        assert [(m.side, m.name, m.generation) for m in found] == [
            ("offboard", "m", 1), ("onboard", "m", 3), ("onboard", "other", 1),
        ]  # fmt: skip
        by_digest = deployment_queries.module_by_digest(
            session, "ada", Side.ONBOARD, "m", f"{2:064x}"
        )
        assert by_digest is not None
        assert by_digest.generation == 2


def test_tasks_are_counted_by_who_can_still_answer(database: Database) -> None:
    with database.transaction() as session:
        session.add(assignment("a"))
        session.flush()
        for name, online in (("car-1", True), ("car-2", False), ("car-3", True)):
            session.add(
                EdgeRow(role="vehicles", name=name, online=online, session=1, presence=b"{}")
            )
        changes.add_tasks(
            session,
            [
                task("car-1"),
                task("car-2"),
                task("car-3", TaskState.SUPERSEDED),
                task("car-3", TaskState.SUCCEEDED, attempt=2),
                task("ghost", TaskState.EXPIRED),
            ],
            now=0.0,
            cause="asked",
        )
    with database.transaction() as session:
        assert queries.progress(session, "a", 1) == queries.Progress(1, 3, 0)
        newest = queries.tasks(session, "a", 1, Side.ONBOARD)
        assert [(t.edge, t.attempt) for t in newest] == [
            ("car-1", 1), ("car-2", 1), ("car-3", 2), ("ghost", 1),
        ]  # fmt: skip
        assert queries.waiting_for(session, "car-1") == ["a"]
        assert queries.waiting_for(session, "car-3") == []
        changes.end_open_tasks(session, "a", 1, now=1.0, cause="closed")
    with database.transaction() as session:
        assert queries.progress(session, "a", 1) == queries.Progress(
            1, 1, 0
        )  # who was not reached was not asked


def environment(key: str, state: str, digest: str = "", built_at: float = 0.0) -> EnvironmentRow:
    return EnvironmentRow(
        key=key, user_id="ada", spec=b"{}", state=state, builder="w", builders=1, deadline_at=None,
        progress="", digest=digest, lock="", image="", size=0, built_at=built_at, error=None,
    )  # fmt: skip


def test_environments_are_found_by_the_beginning_of_their_digest(database: Database) -> None:
    with database.transaction() as session:
        session.add_all(
            [
                environment("a", "built", "ab1", 1.0),
                environment("b", "built", "ab2", 2.0),
                environment("c", "built", "cd3", 3.0),
                environment("d", "building"),
                environment("e", "refused"),
            ]
        )
    with database.transaction() as session:
        assert [e.key for e in environment_queries.built(session)] == ["c", "b", "a"]
        assert [e.key for e in environment_queries.built(session, "ab")] == ["b", "a"]
        assert [e.key for e in environment_queries.built(session, "%")] == []
        assert [e.key for e in environment_queries.building(session)] == ["d"]


def test_parts_of_wheels_are_kept_apart_by_user(database: Database) -> None:
    with database.transaction() as session:
        for user, offset, size in (("ada", 0, 2), ("ada", 1, 2), ("bob", 0, 2), ("ada", 5, 9)):
            row = WheelPartRow(
                user_id=user, sha256="f", offset=offset, size=size, sent_at=1.0, data=b"x"
            )
            environment_queries.add_part(session, row)
    with database.transaction() as session:
        assert environment_queries.parts(session, "ada", "f", 2) == 2
        assert environment_queries.stored(session, "ada") == 3
        environment_queries.forget_other_sizes(session, "ada", "f", 2)
        assert environment_queries.stored(session, "ada") == 2
        environment_queries.forget_wheels(session, "ada", ["f"])
        assert environment_queries.part(session, "ada", "f", 0) is None
        assert environment_queries.part(session, "bob", "f", 0) == b"x"
        environment_queries.forget_old_parts(session, 2.0)
        assert environment_queries.stored(session, "bob") == 0


def test_deadlines_come_when_they_are_due(database: Database) -> None:
    with database.transaction() as session:
        session.add_all([assignment("a", 10.0), assignment("b", 20.0), assignment("c")])
    with database.transaction() as session:
        assert queries.next_deadline(session) == 10.0
        assert [d.assignment for d in queries.deadlines(session, 15.0)] == ["a"]
        assert queries.deadlines(session, 5.0) == []


def test_the_outbox_keeps_its_order_until_it_is_told_to_forget(database: Database) -> None:
    sent: list[Outgoing | Bundle] = [
        Outgoing("t/1", b"\x00", "application/cbor", retain=True),
        Outgoing("t/2", b"{}", expiry_s=5, response_topic="r", correlation=b"c"),
        Bundle("t/+/orders", b"a MARK", "c", "MARK", [("car-1", "x"), ("car-2", "y")], 5),
    ]
    with database.transaction() as session:
        stored = outbox.add(session, sent, owner="one", until=10.0)
        assert [message for _, message in stored] == sent
    with database.transaction() as session:
        assert outbox.take(session, owner="two", now=9.0, until=30.0) == []
        assert outbox.take(session, owner="two", now=10.0, until=30.0) == stored
        assert outbox.take(session, owner="one", now=10.0, until=30.0) == []
        outbox.forget(session, [stored[0][0]])
        outbox.renew(session, [stored[1][0]], owner="two", until=0.0)
    with database.transaction() as session:
        assert outbox.take(session, owner="one", now=10.0, until=30.0) == stored[1:2]
