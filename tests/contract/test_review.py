"""Review before run, on real stores: what is held, who may let it go, what becomes of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.authority import Authority
from orchestrator.store import Database
from protocol.lifecycle import DeploymentState
from protocol.messages import (
    Approve,
    Decision,
    DeploymentStatus,
    ListAudit,
    ListDecisions,
    ListReviews,
    Reject,
    Review,
)
from tests.contract.authority_world import World

REVIEWED = """
[users]
ada = {role = "analyst"}
bob = {role = "operator"}
eve = {role = "analyst"}
root = {role = "administrator"}

[review]
min_score = 3
days = 2
"""
HELD = DeploymentState.AWAITING_APPROVAL
SHIPPED, REFUSED = DeploymentState.SHIPPED, DeploymentState.REFUSED


@pytest.fixture
def world(database: Database, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(database, monkeypatch, REVIEWED)


def waiting(world: World, who: str = "bob") -> list[Review]:
    return world.ask(ListReviews(user_id=who)).reviews or []


def state(world: World, user: str, deployment: str) -> DeploymentState:
    told = world.ask(DeploymentStatus(user_id=user, deployment=deployment)).deployment
    assert told is not None
    return told.state


def approve(who: str, review: Review) -> Approve:
    return Approve(user_id=who, deployment=review.deployment, digest=review.digest)


def to_vehicles(world: World) -> set[str]:
    return {m.topic.split("/")[3] for m in world.stored if "/modules/" in m.topic}


def test_what_asks_for_much_waits_and_goes_nowhere(world: World) -> None:
    held = world.shipped("ada")
    assert (held.state, held.generation, held.states, held.score) == (HELD, 0, {}, 3)
    assert to_vehicles(world) == set()
    (review,) = waiting(world)
    assert (review.user_id, review.name, review.score, review.source) == ("ada", "m", 3, "")
    (whole,) = world.ask(ListReviews(user_id="bob", deployment=held.id)).reviews or []
    assert "return 1" in whole.source
    assert (whole.before, whole.generation) == ("", 0)


def test_what_asks_for_little_goes_out_at_once(world: World) -> None:
    assert world.shipped("ada", vehicles={"names": ["car-1"]}).state is SHIPPED


def test_a_second_person_lets_it_go_to_whom_it_is_for(world: World) -> None:
    held = world.shipped("ada")
    (review,) = waiting(world)
    world.ask(approve("bob", review))
    assert to_vehicles(world) == {"car-1", "car-2", "car-3"}
    told = world.events()[-1]
    assert (told.id, told.state, told.generation) == (held.id, SHIPPED, 1)
    assert waiting(world) == []
    second = world.shipped("ada", "2")
    (whole,) = world.ask(ListReviews(user_id="bob", deployment=second.id)).reviews or []
    assert ("return 1" in whole.before, "return 2" in whole.source) == (True, True)
    assert whole.generation == 1


@pytest.mark.parametrize("who", ["bob", "root"])
def test_nobody_approves_or_rejects_what_he_has_deployed_whatever_his_role(
    world: World, who: str
) -> None:
    held = world.shipped(who)
    (review,) = waiting(world)
    code, said = world.refused(approve(who, review))
    assert (code, "somebody else" in said) == ("forbidden", True)
    assert world.refused(Reject(user_id=who, deployment=held.id))[0] == "forbidden"
    assert state(world, who, held.id) is HELD
    world.ask(approve("root" if who == "bob" else "bob", review))
    assert state(world, who, held.id) is SHIPPED


@pytest.mark.parametrize(
    ("limit", "beyond", "said"),
    [
        ("vehicles = {region = 'us'}", {}, "vehicles with region=us, and it goes to others"),
        ("vehicles = {region = 'us'}", {"vehicles": {"attributes": {"region": "eu"}}}, "region=eu"),
        ("profiles = ['default']", {"limits": {"profile": "large"}}, "the profile large"),
        ("environments = ['minimal']", {"environment": "science"}, "the environment science"),
    ],
)
def test_nobody_approves_what_is_beyond_his_own_limits(
    world: World, limit: str, beyond: dict[str, Any], said: str
) -> None:
    world.authority = Authority.parse(
        REVIEWED.replace('bob = {role = "operator"}', f"bob = {{role = 'operator', {limit}}}")
        .replace("min_score = 3", "min_score = 1")
    )  # fmt: skip
    within = world.shipped("ada", name="within", vehicles={"attributes": {"region": "us"}})
    held = world.shipped("ada", **beyond)
    reviews = {review.deployment: review for review in waiting(world)}
    code, why = world.refused(approve("bob", reviews[held.id]))
    assert (code, said in why) == ("forbidden", True), why
    assert state(world, "ada", held.id) is HELD
    for who, which in (("bob", within), ("root", held)):
        assert world.ask(approve(who, reviews[which.id])).error is None
        assert state(world, "ada", which.id) is SHIPPED


def test_an_analyst_reviews_nothing(world: World) -> None:
    world.shipped("ada")
    (review,) = waiting(world)
    assert waiting(world, "eve") == []
    assert [r.deployment for r in waiting(world, "ada")] == [review.deployment]
    one = ListReviews(user_id="eve", deployment=review.deployment)
    for asked in (
        one,
        approve("eve", review),
        Reject(user_id="eve", deployment=review.deployment),
    ):
        assert world.refused(asked)[0] == "forbidden"


def test_approved_is_the_code_that_was_looked_at_and_no_other(world: World) -> None:
    held = world.shipped("ada")
    other = Approve(user_id="bob", deployment=held.id, digest="0" * 64)
    assert world.refused(other)[0] == "not_awaiting"
    assert state(world, "ada", held.id) is HELD


def test_rejected_is_told_with_its_reason_and_ends_it(world: World) -> None:
    held = world.shipped("ada")
    world.ask(Reject(user_id="bob", deployment=held.id, reason="it reads too much"))
    told = world.events()[-1]
    assert told.state is REFUSED
    assert told.error is not None
    assert "bob has rejected it: it reads too much" in told.error.message
    assert world.refused(Reject(user_id="bob", deployment=held.id))[0] == "not_awaiting"


def test_a_later_one_supersedes_those_before_it_and_no_other(world: World) -> None:
    first, second = world.shipped("ada", "1"), world.shipped("ada", "2")
    # What its author has replaced need not be looked at.
    assert [r.deployment for r in waiting(world)] == [second.id]
    assert state(world, "ada", first.id) is REFUSED
    world.ask(approve("bob", waiting(world)[0]))
    assert state(world, "ada", second.id) is SHIPPED
    third, fourth = world.shipped("ada", "3"), world.shipped("ada", "4", name="other")
    world.ask(approve("bob", waiting(world)[0]))
    assert [state(world, "ada", d.id) for d in (third, fourth)] == [SHIPPED, HELD]


def test_a_word_that_is_sent_again_because_its_answer_was_lost_is_answered_the_same(
    world: World,
) -> None:
    world.shipped("ada")
    (review,) = waiting(world)
    told = [world.ask(approve("bob", review)).deployment for _ in range(2)]
    assert told[0] is not None
    assert told[0] == told[1]
    second = world.shipped("ada", "2")
    rejected = Reject(user_id="bob", deployment=second.id, reason="no")
    again = [world.ask(rejected).deployment for _ in range(2)]
    assert again[0] is not None
    assert again[0] == again[1]
    lines = world.ask(ListAudit(user_id="root")).audit or []
    assert sum('"approve"' in line for line in lines) == 1
    assert world.refused(approve("root", review))[0] == "not_awaiting"


def test_what_its_analyst_may_do_is_asked_again_when_it_is_approved(world: World) -> None:
    held = world.shipped("ada")
    (review,) = waiting(world)
    demoted = REVIEWED.replace('ada = {role = "analyst"}', 'ada = {role = "viewer"}')
    world.authority = Authority.parse(demoted)
    code, said = world.refused(approve("bob", review))
    assert (code, "ada has the role viewer" in said) == ("forbidden", True)
    world.authority = Authority.parse(REVIEWED)
    assert state(world, "ada", held.id) is HELD


def test_what_is_asked_for_beside_the_source_is_shown_with_what_it_was(world: World) -> None:
    world.shipped("ada")
    world.ask(approve("bob", waiting(world)[0]))
    second = world.shipped("ada", limits={"profile": "large"}, returns={"type": "number"})
    (whole,) = world.ask(ListReviews(user_id="bob", deployment=second.id)).reviews or []
    assert whole.source == whole.before
    assert whole.limits_before is not None
    assert (whole.limits_before.profile, whole.limits.profile) == ("default", "large")
    assert (whole.environment_before, whole.returns) == ("minimal", {"type": "number"})


def test_what_nobody_approves_is_refused_in_time(world: World) -> None:
    held = world.shipped("ada")
    world.now += 2 * 86_400 + 1
    world.turn()
    told = world.events()[-1]
    assert (told.id, told.state) == (held.id, REFUSED)
    assert told.error is not None
    assert told.error.details["reason_code"] == "not_approved"


def test_who_let_what_go_is_in_the_audit_log(world: World) -> None:
    world.shipped("ada")
    world.ask(approve("bob", waiting(world)[0]))
    lines = world.ask(ListAudit(user_id="root")).audit or []
    for said in ('"hold_module"', '"approve"', '"ship_module"', '"analyst:bob"'):
        assert any(said in line for line in lines), said


def decisions(world: World, who: str, *, everybody: bool = False) -> list[Decision]:
    return world.ask(ListDecisions(user_id=who, everybody=everybody)).decisions or []


def test_whoever_deployed_is_told_afterwards_who_decided_when_and_why(world: World) -> None:
    approved = world.shipped("ada", "1")
    world.now += 60
    world.ask(approve("bob", waiting(world)[0]))
    rejected = world.shipped("ada", "2")
    world.ask(Reject(user_id="root", deployment=rejected.id, reason="eve: bob has approved it"))
    unheard = world.shipped("ada", "3", name="other")
    world.now += 2 * 86_400 + 1
    world.turn()
    older, held = world.shipped("ada", "4"), world.shipped("ada", "5")
    assert world.shipped("ada", vehicles={"names": ["car-1"]}, name="small").state is SHIPPED
    told = {d.deployment: (d.decision, d.by, d.reason) for d in decisions(world, "ada")}
    assert told == {
        held.id: ("waiting", "", ""),
        older.id: ("superseded", "", "a later deployment of this module waits for approval"),
        unheard.id: ("not_approved", "", "nobody has approved it in time"),
        rejected.id: ("rejected", "root", "eve: bob has approved it"),
        approved.id: ("approved", "bob", ""),
    }
    last, first = decisions(world, "ada")[0], decisions(world, "ada")[-1]
    assert (last.at, last.generation, first.generation) == ("", 0, 1)
    assert (first.since, first.at) == ("1970-04-11T00:00:00+00:00", "1970-04-11T00:01:00+00:00")


def test_what_was_decided_on_anothers_is_for_who_may_see_what_others_have(world: World) -> None:
    theirs = world.shipped("ada")
    world.ask(approve("bob", waiting(world)[0]))
    assert decisions(world, "eve") == decisions(world, "bob") == []
    code, said = world.refused(ListDecisions(user_id="eve", everybody=True))
    assert (code, "with what other users have" in said) == ("forbidden", True)
    assert [d.deployment for d in decisions(world, "bob", everybody=True)] == [theirs.id]
