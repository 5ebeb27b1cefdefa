"""How iterations go on in the store: rebooting vehicles, late answers, halting, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from orchestrator import answers, assignments, endings, listings, requests
from orchestrator.bundle import written
from orchestrator.store import Database, Session, assignment_queries, queries
from orchestrator.store.tables import AssignmentRow, EdgeRow, TaskRow
from orchestrator.turn import Turn, dump, load
from protocol import messages
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.errors import NotHalted, UnknownAssignment
from protocol.lifecycle import TaskState
from protocol.link import Outgoing
from protocol.messages import (
    REPORT,
    ErrorReply,
    History,
    IterationEvent,
    ListChanges,
    ListParticipation,
    Presence,
    Resume,
    StateReport,
    TaskReport,
    new_id,
)
from protocol.module import Side
from protocol.outcome import Fault, Kind, Outcome

NEW = "b" * 64
CRASH = Outcome(kind=Kind.MODULE_ERROR, fault=Fault(type="KeyError", message="'x'"))


def sent(turn: Turn) -> list[Outgoing]:
    return [message for item in turn.outgoing for message in written(item)]


class Cloud:
    """A store with vehicles and one assignment, and what is said to it."""

    def __init__(self, session: Session, **spec: Any) -> None:
        self.session, self.time = session, 1000.0
        for name in ("car-1", "car-2", "car-3"):
            self.vehicle(name)
        self.session.add(self._edge("workers", "worker", {}))
        facts: dict[str, Any] = {
            "vehicles": Select.ids("car-1", "car-2", "car-3"),
            "onboard": Onboard("custom", module="m", signals="S", samples=3),
            "offboard": Offboard("mean"),
            "iterations": 9,
            "deadline_s": 30,
        }
        asked = Assignment(**{**facts, **spec})
        names = asked.vehicles.names
        self.row = AssignmentRow(
            id="a", user_id="ada", iteration=1, state="collecting", spec=dump(asked),
            targets=dump(list(names or ())), onboard_generation=1, offboard_generation=0,
            started_at=self.time, pinned=None,
        )  # fmt: skip
        session.add(self.row)
        session.flush()
        self.turns: list[Turn] = []
        assignments.begin(self.turn(), self.row)

    def _edge(self, role: str, name: str, attributes: dict[str, Any]) -> EdgeRow:
        seen = Presence(online=True, session=1, attributes=attributes)
        return EdgeRow(role=role, name=name, online=True, session=1, presence=dump(seen))

    def vehicle(self, name: str, **attributes: Any) -> None:
        self.session.add(self._edge("vehicles", name, attributes))
        self.session.flush()

    def turn(self) -> Turn:
        self.turns.append(Turn(self.session, self.time))
        return self.turns[-1]

    def gone(self, name: str) -> None:
        row = queries.edge(self.session, "vehicles", name)
        assert row is not None
        row.online, row.gone_at = False, self.time
        self.session.flush()
        assignments.progressed(self.turn(), self.row)

    def tasks(self, iteration: int, side: Side = Side.ONBOARD) -> dict[str, TaskRow]:
        return {t.edge: t for t in queries.tasks(self.session, "a", iteration, side)}

    def accepts(self, vehicle: str) -> None:
        task = self.tasks(self.row.iteration)[vehicle]
        report = StateReport(task=task.id, attempt=task.attempt, state=TaskState.DELIVERED)
        answers.underway(self.turn(), Side.ONBOARD, vehicle, report)

    def answers(
        self, vehicle: str, outcome: Outcome | float | None = 1.0, *, iteration: int | None = None
    ) -> None:
        ended = outcome if isinstance(outcome, Outcome) else Outcome(kind=Kind.VALUE, value=outcome)
        task = self.tasks(iteration or self.row.iteration)[vehicle]
        self._said(Side.ONBOARD, vehicle, task, ended)

    def combines(self, value: float | None = 0.0) -> None:
        (task,) = self.tasks(self.row.iteration, Side.OFFBOARD).values()
        self._said(Side.OFFBOARD, "worker", task, Outcome(kind=Kind.VALUE, value=value))

    def _said(self, side: Side, edge: str, task: TaskRow, outcome: Outcome) -> None:
        report = TaskReport(
            id=new_id(), task=task.id, attempt=task.attempt, outcome=outcome, digest=NEW,
            generation=1, state=TaskState.SUCCEEDED if outcome.ok else TaskState.FAILED,
        )  # fmt: skip
        turn = self.turn()
        _, tree = messages.read(REPORT, *messages.encode(report))
        asked = queries.briefs(self.session, [task.id])
        answers.answered(turn, asked, [answers.Answer(side, edge, report, tree)])
        self.session.flush()
        self.session.expire_all()
        for _ in turn.progressed:
            assignments.progressed(turn, self.row)

    def at(self, time: float) -> None:
        self.time = time
        if self.row.wake_at is not None and self.row.wake_at <= time:
            assignments.overdue(self.turn(), self.row)

    def statuses(self, iteration: int) -> dict[str, str]:
        row = queries.iteration(self.session, "a", iteration)
        assert row is not None
        return {vehicle: p["status"] for vehicle, p in load(row.participation).items()}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A transaction on an empty store."""
    database = Database(f"sqlite:///{tmp_path}/store.db")
    with database.transaction() as opened:
        yield opened
    database.close()


def test_a_vehicle_that_is_lost_before_it_accepts_has_the_time_to_connect_again(
    session: Session,
) -> None:
    cloud = Cloud(session)
    cloud.answers("car-1")
    cloud.answers("car-2")
    cloud.gone("car-3")
    gone_at = cloud.time
    assert (cloud.row.state, cloud.row.wake_at) == ("collecting", gone_at + 6.0)
    cloud.at(gone_at + 6.0)
    assert cloud.row.state == "combining"
    assert cloud.statuses(1)["car-3"] == "offline"


def test_one_that_accepted_has_the_time_of_a_reboot(session: Session) -> None:
    cloud = Cloud(session)
    cloud.accepts("car-3")
    cloud.answers("car-1")
    cloud.answers("car-2")
    cloud.at(1010.0)
    cloud.gone("car-3")
    assert (cloud.row.state, cloud.row.wake_at) == ("collecting", 1025.0)
    cloud.at(1024.0)
    assert cloud.row.state == "collecting"
    cloud.at(1025.0)
    assert cloud.row.state == "combining"


def test_a_quorum_is_remembered_with_its_time(session: Session) -> None:
    cloud = Cloud(session, quorum=2)
    cloud.at(1004.0)
    cloud.answers("car-1")
    cloud.answers("car-2")
    assert (cloud.row.quorum_at, cloud.row.wake_at) == (1004.0, 1008.0)
    cloud.at(1008.0)
    assert cloud.row.state == "combining"
    cloud.combines()
    assert (cloud.row.iteration, cloud.row.quorum_at, cloud.row.wake_at) == (2, None, 1038.0)


def test_a_late_answer_counts_once_and_in_the_next_iteration_only(session: Session) -> None:
    cloud = Cloud(session, late="next")
    for vehicle in ("car-1", "car-2"):
        cloud.answers(vehicle)
    cloud.at(1030.0)
    cloud.answers("car-3", 33.0, iteration=1)  # while the first is combined
    cloud.answers("car-3", 44.0, iteration=1)  # and again, which changes nothing
    cloud.combines()
    for iteration in (2, 3):
        for vehicle in ("car-1", "car-2"):
            cloud.answers(vehicle)
        cloud.at(cloud.row.deadline_at or 0)
        taken = [o for t in cloud.turns for o in sent(t) if o.topic.endswith("offboard/orders")]
        values = load(taken[-1].payload)["results"]
        assert values == ([1.0, 1.0, 33.0] if iteration == 2 else [1.0, 1.0])
        cloud.combines()
    assert [cloud.statuses(n)["car-3"] for n in (1, 2, 3)] == ["late", "included", "late"]
    told = requests.answer(cloud.turn(), History(user_id="ada", assignment="a")).history or []
    made_for = [
        [(r.vehicle, r.iteration) for r in event.results if r.vehicle == "car-3"]
        for event in told
        if isinstance(event, IterationEvent)
    ]
    assert made_for == [[], [("car-3", 1)], []]


def test_a_value_that_is_none_is_a_value(session: Session) -> None:
    cloud = Cloud(session)
    for vehicle, value in (("car-1", None), ("car-2", 2.0), ("car-3", None)):
        cloud.answers(vehicle, value)
    taken = [o for t in cloud.turns for o in sent(t) if o.topic.endswith("offboard/orders")]
    assert load(taken[-1].payload)["results"] == [None, 2.0, None]
    cloud.combines(None)
    told = requests.answer(cloud.turn(), History(user_id="ada", assignment="a")).history or []
    assert isinstance(told[0], IterationEvent)
    assert (told[0].value, told[0].removed) == (None, False)
    assert [result.value for result in told[0].results] == [None, 2.0, None]


def test_it_halts_and_begins_again_and_a_request_that_comes_twice_does_it_once(
    session: Session,
) -> None:
    cloud = Cloud(session)
    resume = Resume(user_id="ada", assignment="a")
    with pytest.raises(NotHalted):
        requests.answer(cloud.turn(), resume)
    cloud.answers("car-1", CRASH)
    assert cloud.row.state == "collecting"
    cloud.answers("car-2", CRASH)
    assert cloud.row.state == "halted"
    error = ErrorReply.model_validate(load(cloud.row.error or b""))
    assert error.code == "halted"
    assert (error.details["generation"], error.details["digest"]) == (1, NEW)
    assert cloud.statuses(1) == {"car-1": "crashed", "car-2": "crashed", "car-3": "cancelled"}
    assert error.details["participation"]["car-1"]["usage"] is not None
    assert error.details["participation"]["car-3"]["usage"] is None
    stopped = [o.topic for o in sent(cloud.turns[-1]) if o.topic.endswith("/orders")]
    assert "oodida/v1/vehicles/car-3/orders" in stopped
    before = {task.id for task in cloud.tasks(1).values()}
    for _ in range(2):
        requests.answer(cloud.turn(), resume)
        assert cloud.row.state == "collecting"
    session.expire_all()
    begun = cloud.tasks(1)
    assert sorted(begun) == ["car-1", "car-2", "car-3"]
    assert not before & {task.id for task in begun.values()}
    for vehicle in begun:
        cloud.answers(vehicle)
    cloud.combines()
    assert cloud.statuses(1) == dict.fromkeys(begun, "included")
    assert cloud.row.iteration == 2


def test_what_nobody_resumes_fails_after_a_week(session: Session) -> None:
    cloud = Cloud(session)
    for vehicle in ("car-1", "car-2"):
        cloud.answers(vehicle, CRASH)
    assert cloud.row.state == "halted"
    cloud.at(1000.0 + 7 * 86_400 - 1)
    assert cloud.row.state == "halted"
    cloud.at(1000.0 + 7 * 86_400)
    assert cloud.row.state == "failed"
    assert cloud.statuses(1)["car-1"] == "crashed"


def test_who_is_selected_by_attributes_is_chosen_again_each_time(session: Session) -> None:
    cloud = Cloud(session, vehicles=Select.where(model="x"))
    assert cloud.row.state == "failed"  # there was none
    session.execute(delete(TaskRow))
    cloud.vehicle("car-4", model="x")
    cloud.row.state, cloud.row.iteration = "collecting", 2
    assignments.begin(cloud.turn(), cloud.row)
    cloud.vehicle("car-5", model="x")
    assert list(cloud.tasks(2)) == ["car-4"]
    cloud.answers("car-4")
    cloud.combines()
    assert list(cloud.tasks(3)) == ["car-4", "car-5"]


def test_an_iteration_that_is_cancelled_keeps_its_participation(session: Session) -> None:
    cloud = Cloud(session)
    cloud.answers("car-1")
    cloud.gone("car-2")
    endings.cancel(cloud.turn(), cloud.row)
    assert cloud.statuses(1) == {
        "car-1": "cancelled", "car-2": "offline", "car-3": "cancelled",
    }  # fmt: skip


def test_participation_and_changes_are_told_in_pages(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "PAGE_BYTES", 300)
    cloud = Cloud(session)
    for _ in range(4):
        for vehicle in ("car-1", "car-2", "car-3"):
            cloud.answers(vehicle)
        cloud.combines()
    told: list[int] = []
    pages, more = 0, True
    while more:
        asked = ListParticipation(user_id="ada", assignment="a", after=told[-1] if told else 0)
        reply = requests.answer(cloud.turn(), asked)
        told += [ledger.iteration for ledger in reply.ledger or []]
        pages, more = pages + 1, reply.more
    assert told == [1, 2, 3, 4]
    assert pages > 1
    numbers: list[int] = []
    more = True
    while more:
        after = numbers[-1] if numbers else 0
        reply = requests.answer(
            cloud.turn(), ListChanges(user_id="ada", assignment="a", after=after)
        )
        numbers += [change.number for change in reply.changes or []]
        more = reply.more
    everything = assignment_queries.transitions(session, "a", 0, 10_000)
    assert numbers == [change.number for change in everything]
    for request in (ListParticipation, ListChanges, Resume):
        with pytest.raises(UnknownAssignment):  # another's is none of yours
            requests.answer(cloud.turn(), request(user_id="bob", assignment="a"))


def test_what_is_not_kept_any_more_is_told_as_removed_with_its_participation(
    session: Session,
) -> None:
    cloud = Cloud(session)
    for vehicle in ("car-1", "car-2", "car-3"):
        cloud.answers(vehicle)
    cloud.combines()
    kept = queries.iteration(session, "a", 1)
    assert kept is not None
    kept.value = None
    session.execute(delete(TaskRow).where(TaskRow.iteration == 1))
    session.flush()
    (event,) = requests.answer(cloud.turn(), History(user_id="ada", assignment="a")).history or []
    assert isinstance(event, IterationEvent)
    assert event.removed
    assert event.results == []
    assert {p.status for p in event.participation.values()} == {"included"}
