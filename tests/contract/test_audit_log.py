"""What is in the audit log, on each database: all that was done or refused, and for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from orchestrator import requests
from orchestrator.audit import REFUSALS, Desk
from orchestrator.decision import decide
from orchestrator.outbox import Due
from orchestrator.store import Database, audit_queries
from orchestrator.turn import Turn
from protocol import messages, topics
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.audit import Entry, verify
from protocol.link import Incoming
from protocol.messages import (
    Cancel,
    Deploy,
    ListAudit,
    ListVehicles,
    Presence,
    StateReport,
    Submit,
    Verdict,
    VerifyReport,
)

SPEC = Assignment(
    vehicles=Select.ids("car-1"), onboard=Onboard("mean", signals="S", samples=1),
    offboard=Offboard("mean"), iterations=1,
)  # fmt: skip
SOURCE = "def custom_code(window):\n    return 'a secret'\n"


def message(topic: str, what: BaseModel | bytes) -> Incoming:
    payload, kind = (what, "") if isinstance(what, bytes) else messages.encode(what)
    return Incoming(topic, payload, kind, topics.replies("ada", "c-1"), b"", lambda: None)


def asked(request: BaseModel | bytes, user: str = "ada") -> Incoming:
    return message(topics.requests(user), request)


class Cloud:
    """An orchestrator without a broker."""

    def __init__(self, database: Database) -> None:
        self.database, self.desk = database, Desk("cloud-1")
        seen = Presence(online=True, session=1, signals={"S": ""}, environments=("minimal",))
        self.turn(
            message(topics.presence("vehicles", "car-1"), seen),
            message(topics.presence("vehicles", "car-2"), seen),
            message(topics.presence("workers", "w"), seen),
        )

    def turn(self, *batch: Incoming) -> None:
        decide(self.database, batch, Due("one", (), None, look=False), desk=self.desk)

    def lines(self) -> list[str]:
        with self.database.transaction() as session:
            return audit_queries.page(session, 0, 100_000)

    def entries(self) -> list[Entry]:
        lines = self.lines()
        assert verify(lines).findings == ()
        return [Entry.model_validate_json(line) for line in lines]


@pytest.fixture
def cloud(database: Database) -> Cloud:
    return Cloud(database)


def told(entries: list[Entry]) -> list[tuple[str, str, str, str]]:
    return [(entry.actor, entry.action, entry.subject, entry.code) for entry in entries]


def test_what_was_done_and_what_was_refused_is_there_with_who_and_from_where(
    cloud: Cloud,
) -> None:
    cloud.turn(
        asked(Submit(user_id="ada", id="a", assignment=SPEC)),
        asked(Submit(user_id="ada", id="a", assignment=SPEC)),  # its reply was late
        asked(ListVehicles(user_id="ada")),
        asked(Cancel(user_id="ada", assignment="none")),
        asked(Cancel(user_id="ada", assignment="a")),
        asked(Cancel(user_id="ada", assignment="a")),  # it has ended: nothing changes
    )
    done, refused, ended = entries = cloud.entries()
    assert told(entries) == [
        ("analyst:ada", "submit", "a", ""),
        ("analyst:ada", "cancel", "none", "unknown_assignment"),
        ("analyst:ada", "cancel", "a", ""),
    ]
    assert [entry.allowed for entry in entries] == [True, False, True]
    assert (done.topic, done.client) == (topics.requests("ada"), "c-1")
    assert done.orchestrator == "cloud-1"
    assert done.details["onboard"] == "mean"
    assert "ada has no assignment none" in refused.reason
    assert ended.before == refused.hash


def test_who_asks_in_anothers_name_is_there_under_his_own(cloud: Cloud) -> None:
    cloud.turn(
        asked(Submit(user_id="ada", id="a", assignment=SPEC), user="eve"),
        asked(b"\xff{", user="eve"),
    )
    assert told(cloud.entries()) == [
        ("analyst:eve", "submit", "a", "wrong_sender"),
        ("analyst:eve", "requests", "", "bad_request"),
    ]


def test_a_vehicle_that_speaks_of_anothers_task_is_there(cloud: Cloud) -> None:
    cloud.turn(asked(Submit(user_id="ada", id="a", assignment=SPEC)))
    with cloud.database.transaction() as session:
        (task,) = session.scalars(text("SELECT id FROM tasks")).all()
    said = StateReport(task=task, attempt=1, state="running")  # type: ignore[arg-type]
    cloud.turn(message(topics.reports("vehicles", "car-2"), said))
    assert told(cloud.entries())[1:] == [("vehicle:car-2", "reports", task, "foreign_task")]


@pytest.mark.parametrize("ok", [True, False])
def test_a_module_that_is_shipped_or_refused_is_there_without_its_source(
    cloud: Cloud, *, ok: bool
) -> None:
    deploy = Deploy(
        user_id="ada", mode="deploy_onboard", id="d", name="m", custom_code=SOURCE,
    )  # fmt: skip
    verdict = Verdict(ok=ok, code="" if ok else "syntax", reason="" if ok else "it is wrong")
    cloud.turn(asked(deploy))
    report = VerifyReport(id="v", order="d", verdict=verdict)
    cloud.turn(message(topics.reports("workers", "w"), report))
    first, second = entries = cloud.entries()
    assert told(entries) == [
        ("analyst:ada", "deploy_onboard", "d", ""),
        ("orchestrator", "ship_module", "d", "")
        if ok
        else ("orchestrator", "refuse_module", "d", "syntax"),
    ]
    assert (second.details["user"], second.details["module"]) == ("ada", "m")
    assert first.details["environment"] == "minimal"
    assert "secret" not in "".join(cloud.lines())


def test_a_turn_that_is_not_committed_leaves_no_entry(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Due, "store", fails)
        with pytest.raises(OSError, match="away"):
            cloud.turn(asked(Submit(user_id="ada", id="a", assignment=SPEC)))
    assert cloud.entries() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET allowed = true WHERE number = 1",
        "UPDATE audit SET actor = 'analyst:bob'",
        "DELETE FROM audit WHERE number = 1",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT * FROM audit WHERE number = 1",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE number = 1",
        "TRUNCATE audit",
    ],
)
def test_the_database_refuses_to_change_or_remove_an_entry(cloud: Cloud, statement: str) -> None:
    cloud.turn(*(asked(Cancel(user_id="ada", assignment=f"x{i}")) for i in range(3)))
    before = cloud.lines()
    with pytest.raises(DBAPIError), cloud.database.transaction() as session:
        session.execute(text(statement))
    assert cloud.lines() == before


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE audit SET allowed = NOT allowed WHERE number = 2", "entry 2 was changed"),
        ("UPDATE audit SET details = 'x' WHERE number = 2", "line 2 is no entry"),
        ("UPDATE audit SET hash = 'x' WHERE number = 2", "line 2 is no entry"),
        ("DELETE FROM audit WHERE number = 2", "entry 2 is missing"),
        ("DELETE FROM audit WHERE number = 3", "cut off"),
    ],
)
def test_whoever_gets_round_that_is_found(cloud: Cloud, statement: str, found: str) -> None:
    cloud.turn(*(asked(Cancel(user_id="ada", assignment=f"x{i}")) for i in range(3)))
    head = verify(cloud.lines()).head.hash
    with cloud.database.transaction() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        else:
            for trigger in ("changed", "removed"):
                session.execute(text(f"DROP TRIGGER audit_not_{trigger}"))
        session.execute(text(statement))
    problems = [finding.problem for finding in verify(cloud.lines(), head).findings]
    assert any(found in problem for problem in problems), problems


@pytest.fixture
def many(url: str) -> Iterator[list[Database]]:
    opened = [Database(url) for _ in range(3)]
    yield opened
    for database in opened:
        database.close()


def test_several_orchestrators_add_to_one_chain(many: list[Database]) -> None:
    start = threading.Barrier(len(many))

    def work(number: int) -> None:
        cloud = Cloud(many[number])
        start.wait()
        for turn in range(20):
            cloud.turn(
                asked(Cancel(user_id="ada", assignment=f"{number}-{turn}-1")),
                asked(Cancel(user_id="ada", assignment=f"{number}-{turn}-2")),
            )

    with ThreadPoolExecutor(len(many)) as pool:
        list(pool.map(work, range(len(many))))
    entries = Cloud(many[0]).entries()
    assert len({entry.subject for entry in entries}) == len(entries) == 3 * 20 * 2


def test_who_is_refused_all_the_time_does_not_fill_the_log(cloud: Cloud) -> None:
    often = int(REFUSALS.burst)
    for _ in range(3):
        cloud.turn(
            *(asked(Cancel(user_id="eve", assignment="x"), user="eve") for _ in range(often))
        )
    cloud.turn(asked(Submit(user_id="ada", id="a", assignment=SPEC)))
    entries = cloud.entries()
    assert sum(entry.actor == "analyst:eve" for entry in entries) < often + 10
    assert entries[-1].actor == "analyst:ada"


def test_the_log_is_told_page_by_page_and_by_who_what_and_when(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.listings.ENTRIES", 2)
    for user in ("ada", "bob", "ada"):
        cloud.turn(asked(Cancel(user_id=user, assignment="x"), user=user))

    def numbers(**wanted: object) -> tuple[list[int], bool]:
        with cloud.database.transaction() as session:
            request = ListAudit.model_validate({"user_id": "ada", **wanted})
            reply = requests.answer(Turn(session, 0.0), request)
        found = [Entry.model_validate_json(line).number for line in reply.audit or []]
        return found, reply.more

    first = cloud.entries()[0]
    assert numbers() == ([1, 2], True)
    assert numbers(after=2) == ([3], False)
    assert numbers(actor="analyst:ada") == ([1, 3], False)
    assert numbers(action="submit") == ([], False)
    assert numbers(since=first.at)[0] == [1, 2]
    assert numbers(since="9999") == ([], False)
