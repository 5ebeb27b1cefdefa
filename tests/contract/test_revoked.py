"""What was taken back, on real stores: what is asked then, and what waits, of a revoked name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from oodida.pki import Pki
from orchestrator.store import Database
from orchestrator.vouching import Vouching
from protocol import identity, topics
from protocol.lifecycle import DeploymentState
from protocol.messages import (
    Approve,
    Deploy,
    ListReviews,
    Reject,
    Verdict,
    VerifyReport,
    new_id,
)
from protocol.signing import Signer
from tests.contract.authority_world import SOURCE, World

REVIEWED = """
[users]
ada = {role = "analyst"}
bob = {role = "operator"}
eve = {role = "analyst"}
[review]
min_score = 3
"""
NAMES = ("analyst:ada", "analyst:bob", "analyst:eve", "worker:w", "orchestrator:o-1")


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
