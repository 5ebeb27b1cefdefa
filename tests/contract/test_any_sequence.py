"""No sequence of messages, doubled, lost or reordered, leaves the tables or lasts for ever."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from orchestrator import decision
from orchestrator.bundle import written
from orchestrator.outbox import Due
from orchestrator.store import Database, outbox
from orchestrator.store.tables import AssignmentRow, OutboxRow, TaskRow, TransitionRow
from protocol import messages, topics
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.lifecycle import (
    ASSIGNMENT,
    ENDED,
    TASK,
    AssignmentState,
    TaskState,
    terminal,
)
from protocol.link import Incoming
from protocol.messages import (
    ORDER,
    OffboardOrder,
    OnboardOrder,
    Presence,
    StateReport,
    Submit,
    TaskReport,
    new_id,
)
from protocol.outcome import Kind, Outcome
from protocol.topics import Role

VEHICLES, WORKERS = ("car-1", "car-2", "car-3"), ("worker-1", "worker-2")
DIGEST = "d" * 64
#: What happens: (what, which of those that there are, a number to choose by).
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["answer", "answer", "answer", "fail", "state", "again", "later", "strange",
             "gone", "back", "wait", "wait long"]
        ),
        st.integers(0, 40),
    ),
    max_size=25,
)  # fmt: skip


class World:
    """An orchestrator without a broker: a real store, a clock that is set, and what it has said."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, spec: Assignment) -> None:
        self.now = 1000.0
        monkeypatch.setattr(decision, "time", SimpleNamespace(time=lambda: self.now))
        self.database = Database(f"sqlite:///{folder}/store.db")
        self.sessions: dict[str, int] = defaultdict(int)
        self.sent: list[Incoming] = []
        self.orders: list[tuple[str, OnboardOrder | OffboardOrder]] = []
        for name in (*VEHICLES, *WORKERS):
            self.presence(name, online=True)
        request = Submit(user_id="ada", id="a", assignment=spec)
        self.say(topics.requests("ada"), request)

    def say(self, topic: str, message: Any) -> None:
        payload, content_type = messages.encode(message)
        self.turn(Incoming(topic, payload, content_type, None, None, lambda: None))

    def turn(self, *batch: Incoming) -> None:
        self.sent += batch
        decision.decide(self.database, batch, Due("one", (), None, look=False))
        with self.database.transaction() as session:
            for row in session.scalars(select(OutboxRow).order_by(OutboxRow.id)):
                for message in written(outbox.read(row)):
                    address = topics.parse(message.topic)
                    if address is not None and address.channel == "orders":
                        order = messages.decode(ORDER, message.payload, message.content_type)
                        if isinstance(order, OnboardOrder | OffboardOrder):
                            self.orders.append((address.name, order))
                session.delete(row)

    def presence(self, name: str, *, online: bool) -> None:
        role: Role = "workers" if name in WORKERS else "vehicles"
        self.sessions[name] += online
        seen = Presence(online=online, session=self.sessions[name], signals={"S": ""})
        self.say(topics.presence(role, name), seen)

    def report(self, number: int, outcome: Outcome | None, *, attempt: int = 0) -> None:
        """About one of the orders that went out: how it ended, or how far it is."""
        if not self.orders:
            return
        name, order = self.orders[number % len(self.orders)]
        role: Role = "vehicles" if isinstance(order, OnboardOrder) else "workers"
        where = topics.reports(role, name or WORKERS[number % 2])
        if outcome is None:
            states = (TaskState.DELIVERED, TaskState.COLLECTING, TaskState.RUNNING)
            state: Any = states[number % 3]
            self.say(where, StateReport(task=order.id, attempt=order.attempt, state=state))
            return
        report = TaskReport(
            id=new_id(),
            task=order.id,
            attempt=order.attempt + attempt,
            state=TaskState.SUCCEEDED if outcome.ok else TaskState.FAILED,
            outcome=outcome,
            digest=DIGEST,
            generation=1,
        )
        self.say(where, report)

    def happen(self, what: str, number: int) -> None:
        good = Outcome(kind=Kind.VALUE, value=float(number))
        match what:
            case "answer":
                self.report(-1 - number % 4, good)
            case "later":
                self.report(number, good)
            case "fail":
                self.report(number, Outcome(kind=Kind.MODULE_ERROR, reason="it raised"))
            case "state":
                self.report(number, None)
            case "strange":
                self.report(number, good, attempt=1 + number)
            case "again" if self.sent:
                self.turn(self.sent[number % len(self.sent)])
            case "gone" | "back":
                everybody = (*VEHICLES, *WORKERS)
                self.presence(everybody[number % len(everybody)], online=what == "back")
            case "wait" | "wait long":
                self.now += number / 10 if what == "wait" else number
                self.turn()
            case _:
                pass


def the_mean(**more: Any) -> Assignment:
    """The mean of what each of the vehicles has for a mean."""
    return Assignment(
        vehicles=Select.ids(*VEHICLES),
        onboard=Onboard("mean", signals="S", samples=3),
        offboard=Offboard("mean"),
        **more,
    )


Begun = Callable[[Assignment], World]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Begun]:
    """Begins an assignment in a world of its own."""
    with ExitStack() as ends:

        def begin(spec: Assignment) -> World:
            world = World(tmp_path, monkeypatch, spec)
            ends.callback(world.database.close)
            return world

        yield begin


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the newest schema, closed."""
    path = tmp_path_factory.mktemp("store") / "store.db"
    Database(f"sqlite:///{path}").close()
    return path


def test_with_answers_alone_it_succeeds(begun: Begun) -> None:
    world = begun(the_mean(iterations=3))
    for _ in range(6):
        for number in range(len(world.orders)):
            world.happen("later", number)
    with world.database.transaction() as session:
        (row,) = session.scalars(select(AssignmentRow))
        assert (row.state, row.iteration) == ("succeeded", 3)


@pytest.mark.parametrize("how", ["its lease is over", "it is gone"])
def test_what_a_lost_worker_had_is_anothers_and_its_late_answer_changes_nothing(
    begun: Begun, how: str
) -> None:
    world = begun(the_mean(deadline_s=60))
    for number in range(len(VEHICLES)):
        world.happen("later", number)
    (first,) = [n for n, (_, o) in enumerate(world.orders) if isinstance(o, OffboardOrder)]
    world.report(first + first % 2, None)  # a worker's sign of life
    world.now += 14
    world.turn()
    assert len(world.orders) == first + 1  # it still has its lease
    if how == "it is gone":
        for name in WORKERS:
            world.presence(name, online=False)
        world.presence(WORKERS[0], online=True)
    else:
        world.now += 16
        world.turn()
    again = world.orders[-1][1]
    assert again.id == world.orders[first][1].id
    assert again.attempt > 1

    def state() -> str:
        with world.database.transaction() as session:
            (row,) = session.scalars(select(AssignmentRow))
            return row.state

    world.report(first, Outcome(kind=Kind.VALUE, value=1.0))
    assert state() == "combining"  # the first attempt is superseded
    world.report(len(world.orders) - 1, Outcome(kind=Kind.VALUE, value=2.0))
    assert state() == "succeeded"


def test_an_order_that_no_worker_shows_to_have_is_sent_again_in_time(begun: Begun) -> None:
    world = begun(the_mean(deadline_s=12))
    for number in range(len(VEHICLES)):
        world.happen("later", number)
    asked = len(world.orders)
    # The broker dies with the order and with one worker's last will; the other comes back.
    world.presence(WORKERS[0], online=True)
    world.now += 3.5
    world.turn()
    assert len(world.orders) == asked
    world.now += 1
    world.turn()
    (_, again) = world.orders[-1]
    assert (len(world.orders), again.attempt) == (asked + 1, 2)
    world.report(asked, None)  # it has it, and may be silent for the length of a lease
    world.now += 5
    world.turn()
    assert len(world.orders) == asked + 1
    world.report(asked, Outcome(kind=Kind.VALUE, value=2.0))
    with world.database.transaction() as session:
        (row,) = session.scalars(select(AssignmentRow))
        assert row.state == "succeeded"


def test_when_the_time_is_over_no_worker_is_asked_again(begun: Begun) -> None:
    world = begun(the_mean(deadline_s=2))
    for number in range(len(VEHICLES)):
        world.happen("later", number)
    asked = len(world.orders)
    world.now += 3  # the lease and the deadline are over in the same turn
    world.turn()
    assert len(world.orders) == asked
    with world.database.transaction() as session:
        (row,) = session.scalars(select(AssignmentRow))
        assert row.state == "failed"


def test_an_order_that_a_broker_may_have_lost_is_sent_again_until_the_vehicle_has_it(
    begun: Begun,
) -> None:
    world = begun(the_mean())
    (mine,) = [n for n, (name, _) in enumerate(world.orders) if name == "car-1"]
    world.presence("car-1", online=True)  # a new connection, to a broker that was restarted
    assert world.orders[len(VEHICLES) :] == [world.orders[mine]]
    world.report(mine, None)
    world.presence("car-1", online=True)
    assert len(world.orders) == len(VEHICLES) + 1


def test_a_sign_and_the_answer_after_it_may_come_together(begun: Begun) -> None:
    world = begun(the_mean())
    batch = []
    for name, order in world.orders:
        sign = StateReport(task=order.id, attempt=order.attempt, state=TaskState.COLLECTING)
        answer = TaskReport(
            id=new_id(), task=order.id, attempt=order.attempt, state=TaskState.SUCCEEDED,
            outcome=Outcome(kind=Kind.VALUE, value=1.0), digest=DIGEST,
        )  # fmt: skip
        for said in (sign, answer):
            where = topics.reports("vehicles", name)
            batch.append(Incoming(where, *messages.encode(said), None, None, lambda: None))
    world.turn(*batch)
    with world.database.transaction() as session:
        (row,) = session.scalars(select(AssignmentRow))
        assert row.state == "combining"
        told = ways(list(session.scalars(select(TransitionRow).order_by(TransitionRow.number))))
    each = [("", "queued"), ("queued", "collecting"), ("collecting", "succeeded")]
    assert [steps for (kind, _, _), steps in told.items() if kind == "task"][:3] == [each] * 3


def ways(rows: list[TransitionRow]) -> dict[tuple[str, str, int], list[tuple[str, str]]]:
    found: dict[tuple[str, str, int], list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        found[row.kind, row.subject, row.attempt].append((row.old, row.new))
    return found


@given(
    EVENTS,
    st.sampled_from(["drop", "next"]),
    st.sampled_from([None, 2, 1.0]),
    st.sampled_from(["majority", "any"]),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_way_is_through_the_tables_and_has_an_end(
    monkeypatch: pytest.MonkeyPatch,
    empty_store: Path,
    events: list[tuple[str, int]],
    late: Any,
    quorum: Any,
    consistency: Any,
) -> None:
    spec = the_mean(iterations=3, deadline_s=10, late=late, quorum=quorum, consistency=consistency)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(empty_store, f"{folder}/store.db")  # migrated once, not for each example
        world = World(Path(folder), monkeypatch, spec)
        for what, number in events:
            world.happen(what, number)
        for _ in range(12):  # silence: deadlines and leases alone
            world.now += 10
            world.turn()
        with world.database.transaction() as session:
            assignments = list(session.scalars(select(AssignmentRow)))
            tasks = list(session.scalars(select(TaskRow)))
            told = ways(list(session.scalars(select(TransitionRow).order_by(TransitionRow.number))))
        world.database.close()
    (row,) = assignments
    assert terminal(ASSIGNMENT, AssignmentState(row.state))
    assert (row.deadline_at, row.wake_at) == (None, None)
    for task in tasks:
        assert TaskState(task.state) in ENDED
        assert task.lease_until is None
        assert told["task", task.id, task.attempt][-1][1] == task.state
    for (kind, _, _), steps in told.items():
        table: Any = TASK if kind == "task" else ASSIGNMENT
        for (_, new), (old, _) in pairwise(steps):
            assert new == old
        assert all(not old or new in table[type(next(iter(table)))(old)] for old, new in steps)
