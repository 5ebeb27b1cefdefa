"""A broker that stops tells everybody's last will; when it is back, it is seen who is there."""

from __future__ import annotations

import time
from typing import Any

import pytest

from orchestrator.planner import RECONNECT_S
from orchestrator.presences import RollCall
from orchestrator.store import Database, queries
from protocol import messages, topics
from protocol.assignment import Assignment, Offboard, Onboard
from protocol.link import Incoming
from protocol.messages import ListAssignments, Presence, Submit
from tests.contract.authority_world import CARS, World

SPEC = Assignment(
    onboard=Onboard("mean", signals="S", samples=3), offboard=Offboard("mean"), deadline_s=600
)


def shown(topic: str, *, online: bool, session: int) -> Incoming:
    """A presence as it comes."""
    here: dict[str, Any] = {"attributes": {"region": "eu"}, "signals": {"S": ""}} if online else {}
    presence = Presence(online=online, session=session, **here)
    return Incoming(topic, *messages.encode(presence), None, None, lambda: None)


EDGES = [topics.presence("vehicles", car) for car in CARS] + [topics.presence("workers", "w")]


class Cloud(World):
    """An orchestrator whose broker goes and comes."""

    def passed(self, seconds: float, *batch: Incoming, **how: object) -> None:
        """A turn, so many seconds later."""
        self.now += seconds
        self.how = how
        self.turn(*batch)
        self.how = {}

    def online(self, role: str) -> frozenset[str]:
        with self.database.transaction() as session:
            return queries.online(session, role)

    @property
    def state(self) -> str:
        (told,) = self.ask(ListAssignments(user_id="ada")).assignments or []
        return told.state


@pytest.fixture
def cloud(database: Database, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    made = Cloud(database, monkeypatch)
    made.ask(Submit(user_id="ada", id="a", assignment=SPEC))
    assert made.state == "collecting"
    return made


def stopped(cloud: Cloud) -> RollCall:
    """The broker was told to stop, stays away, and is back: the roll call that begins then."""
    cloud.passed(1.0, *[shown(topic, online=False, session=1) for topic in EDGES])
    lost_at = cloud.now
    assert cloud.online("vehicles") == frozenset()
    cloud.passed(10 * RECONNECT_S, away=True)
    return RollCall(lost_at)


def test_nobody_is_lost_while_it_is_we_who_hear_nothing(cloud: Cloud) -> None:
    roll = stopped(cloud)
    cloud.passed(1.0, roll=roll)
    assert cloud.state == "collecting"
    assert cloud.online("vehicles") == CARS.keys()
    assert cloud.online("workers") == {"w"}


def test_who_does_not_come_back_is_lost_when_the_roll_call_is_over(cloud: Cloud) -> None:
    roll = stopped(cloud)
    cloud.passed(1.0, *[shown(topic, online=True, session=2) for topic in EDGES[:2]], roll=roll)
    roll.ends_at = 0.0
    cloud.passed(20.0, roll=roll)
    assert cloud.online("vehicles") == {"car-1", "car-2"}
    assert cloud.online("workers") == frozenset()
    assert cloud.state == "collecting"  # the two that are back work on it


def test_what_another_orchestrator_heard_meanwhile_stays_so(cloud: Cloud) -> None:
    """It is our connection that was away, and the broker's word to others was its own."""
    cloud.passed(1.0)
    lost_at = cloud.now
    cloud.passed(60.0, shown(EDGES[0], online=False, session=1))
    cloud.passed(1.0, roll=RollCall(lost_at))
    assert cloud.online("vehicles") == {"car-2", "car-3"}


def test_a_roll_call_has_an_end_whoever_goes_on_showing_himself() -> None:
    roll = RollCall()
    ends_at = roll.ends_at = time.monotonic()
    roll.saw("vehicles", "car-1")
    assert roll.ends_at > ends_at
    ends_at = roll.ends_at
    roll.saw("vehicles", "car-1")
    assert roll.ends_at == ends_at
    roll.latest = ends_at
    roll.saw("vehicles", "car-2")
    assert roll.ends_at == ends_at


def test_without_an_outage_of_ours_a_loss_is_a_loss(cloud: Cloud) -> None:
    cloud.passed(1.0, *[shown(topic, online=False, session=1) for topic in EDGES[:3]])
    cloud.passed(RECONNECT_S + 1)
    assert cloud.state == "failed"


def test_who_was_gone_long_before_the_outage_stays_so(cloud: Cloud) -> None:
    cloud.passed(1.0, shown(EDGES[0], online=False, session=1))
    cloud.passed(60.0)
    roll = stopped(cloud)
    cloud.passed(1.0, roll=roll)
    assert cloud.online("vehicles") == {"car-2", "car-3"}
    cloud.passed(1.0, shown(EDGES[1], online=False, session=1), roll=roll)
    assert cloud.online("vehicles") == {"car-3"}, "it is begun once, and hears who goes"
