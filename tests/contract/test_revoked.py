"""What was taken back, on real stores: what is asked then, and what waits, of a revoked name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from oodida.pki import Pki
from orchestrator.store import Database, queries
from orchestrator.vouching import Vouching
from protocol import identity, mandate, messages, result_receipt, topics
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.lifecycle import DeploymentState, TaskState
from protocol.messages import (
    EVENT,
    ORDER,
    Approve,
    Deploy,
    EndEvent,
    ListReviews,
    OffboardOrder,
    OnboardOrder,
    Presence,
    Reject,
    Submit,
    TaskReport,
    Verdict,
    VerifyReport,
    new_id,
)
from protocol.outcome import Kind, Outcome
from protocol.result_receipt import CodeRun, of_inputs
from protocol.signing import Signer, Trust, fingerprint
from tests.contract.authority_world import CARS, SOURCE, World

REVIEWED = """
[users]
ada = {role = "analyst"}
bob = {role = "operator"}
eve = {role = "analyst"}
[review]
min_score = 3
"""
NAMES = (
    "analyst:ada", "analyst:bob", "analyst:eve", "vehicle:car-1", "worker:w", "orchestrator:o-1",
)  # fmt: skip
MEANS = Assignment(
    vehicles=Select.ids("car-1"), onboard=Onboard("mean", signals="S", samples=3),
    offboard=Offboard("mean"), iterations=3,
)  # fmt: skip


class Trusted(World):
    """Everybody has a certificate; who is ``taken_back`` has had one."""

    def begin(self, folder: Path) -> None:
        self.pki = Pki.init(folder, ["localhost"], self.today)
        for name in NAMES:
            who = identity.parse(name)
            self.signers[who.name] = Signer(self.pki.enroll(who, self.today)[0])
        self.now += 60
        place = folder / "identities" / "orchestrator" / "o-1"
        self.vouching = Vouching.load(place, folder / "revoked" / "crl.pem")

    @property
    def trust(self) -> Trust:
        assert self.vouching is not None
        return self.vouching.trust

    @property
    def today(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.now, dt.UTC)

    def taken_back(self, name: str) -> None:
        """A name's certificates are taken back, and the cloud has seen it."""
        assert self.vouching is not None
        self.pki.revoke(identity.parse(name), self.today)
        self.vouching.revoked.look()
        assert self.vouching.revoked.look()
        self.vouching.trust.take_back(self.vouching.revoked.now)

    def asked_for(self, user: str, **more: object) -> str:
        """A deployment, signed and not tried yet."""
        deploy = Deploy.model_validate({
            "user_id": user, "mode": "deploy_onboard", "id": new_id(), "name": "m",
            "custom_code": SOURCE.format("1"), **more,
        })  # fmt: skip
        reply = self.ask(deploy.signed(self.signers[user], self.now))
        assert reply.error is None, reply.error
        return deploy.id

    def tried(self, deployment: str) -> None:
        report = VerifyReport(id=new_id(), order=deployment, verdict=Verdict(ok=True))
        self.say(topics.reports("workers", "w"), report)

    def ordered(self) -> OnboardOrder | OffboardOrder:
        """The order of the last turn."""
        sent = [m for m in self.stored if "/orders" in m.topic]
        (order,) = [messages.decode(ORDER, m.payload, m.content_type) for m in sent]
        assert isinstance(order, OnboardOrder | OffboardOrder)
        return order

    def online(self) -> frozenset[str]:
        with self.database.transaction() as session:
            return queries.online(session, "vehicles")

    def answered(
        self, order: OnboardOrder | OffboardOrder, value: float, at: float | None = None
    ) -> None:
        """The vehicle or worker has done what it was asked to, and dates it."""
        at = self.now if at is None else at
        onboard = isinstance(order, OnboardOrder)
        edge = "car-1" if onboard else "w"
        code = CodeRun(method="mean", user_id=order.user_id, digest="b" * 64)
        receipt = result_receipt.signed(
            self.signers[edge], at, assignment=order.assignment, iteration=order.iteration,
            task=order.id, attempt=order.attempt, code=code, params=fingerprint({}),
            previous=fingerprint(order.previous),
            inputs=of_inputs(order.results) if isinstance(order, OffboardOrder) else None,
            outcome=Kind.VALUE, value=fingerprint(value), seconds=0, cpu_s=0, container_starts=0,
        )  # fmt: skip
        outcome = Outcome(kind=Kind.VALUE, value=value)
        self.say(
            topics.reports("vehicles" if onboard else "workers", edge),
            TaskReport(
                id=new_id(), task=order.id, attempt=order.attempt, state=TaskState.SUCCEEDED,
                outcome=outcome, digest="b" * 64, receipt=receipt,
            ),
            at=at,
        )  # fmt: skip

    def state(self, deployment: str) -> DeploymentState:
        (told,) = [e for e in self.events() if e.id == deployment]
        return told.state


@pytest.fixture
def world(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trusted:
    made = Trusted(database, monkeypatch, REVIEWED)
    made.begin(tmp_path / "pki")
    return made


def approval(world: Trusted, deployment: str) -> Approve:
    (review,) = [
        r for r in world.ask(ListReviews(user_id="bob")).reviews or [] if r.deployment == deployment
    ]
    return Approve(user_id="bob", deployment=deployment, digest=review.digest)


def test_what_waits_of_a_revoked_analyst_is_not_approved_and_others_is(world: Trusted) -> None:
    held, others = world.asked_for("ada"), world.asked_for("eve")
    world.tried(held)
    world.tried(others)
    world.now += 60
    world.taken_back("analyst:ada")
    code, said = world.refused(approval(world, held))
    assert (code, "certificate of analyst:ada has been revoked" in said) == ("forbidden", True)
    world.ask(approval(world, others))
    assert world.state(others) is DeploymentState.SHIPPED
    world.ask(Reject(user_id="bob", deployment=held))
    assert world.state(held) is DeploymentState.REFUSED


def test_what_is_tried_while_its_analyst_is_revoked_is_refused(world: Trusted) -> None:
    asked = world.asked_for("ada", vehicles={"names": ["car-1"]})  # it asks for little
    world.now += 60
    world.taken_back("analyst:ada")
    world.tried(asked)
    assert world.state(asked) is DeploymentState.REFUSED
    assert [m.topic for m in world.stored if "/modules/" in m.topic] == []


def test_a_revoked_analyst_is_not_heard_also_if_he_dates_back(world: Trusted) -> None:
    before = world.now
    world.now += 60
    asked = ListReviews(user_id="ada")
    assert world.ask(asked).error is None
    world.taken_back("analyst:ada")
    for at in (world.now, before):
        assert world.say(topics.requests("ada"), asked, at=at) == []
    # Enrolled anew, he is.
    world.signers["ada"] = Signer(world.pki.enroll(identity.parse("analyst:ada"), world.today)[0])
    assert world.ask(asked).error is None


def submission(world: Trusted, user: str) -> Submit:
    asked = Submit(user_id=user, id=new_id(), assignment=MEANS)
    return asked.signed(world.signers[user], world.now)


def test_an_assignment_is_taken_that_its_analyst_has_signed(world: Trusted) -> None:
    asked = submission(world, "ada")
    for changed, code in (
        (asked.model_copy(update={"mandate": None}), "not_signed"),
        (asked.model_copy(update={"id": "other"}), "bad_signature"),
        (asked.model_copy(update={"assignment": MEANS.model_copy(update={"iterations": 4})}),
         "bad_signature"),
    ):  # fmt: skip
        assert world.refused(changed)[0] == code
        assert world.stored == []
    assert world.ask(asked).error is None
    order = world.ordered()
    mandate.check_order(world.trust, order)
    world.answered(order, 1.5)
    mandate.check_order(world.trust, world.ordered())  # and a worker's


def test_a_revoked_vehicle_takes_no_part_whenever_it_dates_what_it_signs(world: Trusted) -> None:
    world.ask(submission(world, "ada"))
    order, before = world.ordered(), world.now
    birth = Presence(online=True, session=2, signals={"S": ""})
    topic = topics.presence("vehicles", "car-1")
    assert world.online() == CARS.keys()
    world.now += 60
    world.taken_back("vehicle:car-1")
    death = Presence(online=False, session=1)
    world.say(topic, death, at=before)  # as the broker tells it, for the connection that it ended
    assert "car-1" not in world.online()
    for at in (before, world.now):
        world.say(topic, birth, at=at)
        assert "car-1" not in world.online()
    world.answered(order, 1.5, at=before)
    assert [m.topic for m in world.stored if "/offboard" in m.topic] == []


def test_what_runs_of_a_revoked_analyst_ends_before_its_next_iteration(world: Trusted) -> None:
    world.ask(submission(world, "ada"))
    first = world.ordered()
    world.answered(first, 1.5)
    world.now += 60
    world.taken_back("analyst:ada")
    world.answered(world.ordered(), 1.5)
    told = [
        messages.decode(EVENT, message.payload, message.content_type)
        for message in world.stored
        if "/events/" in message.topic
    ]
    (end,) = [event for event in told if isinstance(event, EndEvent)]
    assert (end.state, end.iterations) == ("failed", 1)
    assert end.error is not None
    assert end.error.details["reason_code"] == "bad_signature"
    assert "certificate of analyst:ada has been revoked" in end.error.message
