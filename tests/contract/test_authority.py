"""Roles and limits, enforced before anything is stored: on each store that there is."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

from orchestrator.authority import EVERYBODY, Authority
from orchestrator.store import Database, usage
from orchestrator.store.tables import AssignmentRow, DeploymentRow, OutboxRow
from protocol import messages, topics
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.environment import EnvironmentSpec
from protocol.lifecycle import TaskState
from protocol.limits import LimitsAsked
from protocol.messages import (
    ORDER,
    Cancel,
    Deploy,
    DeploymentStatus,
    History,
    ListAssignments,
    ListChanges,
    ListVehicles,
    OffboardOrder,
    OnboardOrder,
    Submit,
    TaskReport,
    Upload,
    new_id,
)
from protocol.outcome import Kind, Outcome
from protocol.topics import Role
from tests.contract.authority_world import SOURCE, World

ROLES = """
[users.vic]
role = "viewer"
[users.ada]
role = "analyst"
[users.bob]
role = "analyst"
vehicles = { region = "eu" }
signals = ["S"]
profiles = ["small"]
environments = ["minimal"]
[users.olga]
role = "operator"
[users.few]
role = "analyst"
daily_tasks = 8
"""


@pytest.fixture
def world(database: Database, monkeypatch: pytest.MonkeyPatch) -> World:
    """A cloud with one user of each kind."""
    return World(database, monkeypatch, ROLES)


def mean(vehicles: Select | None = None, module: str | None = None, **more: Any) -> Assignment:
    """The mean of a signal, or of what a module makes of it."""
    facts: dict[str, Any] = {"signals": "S", "samples": 3}
    onboard = Onboard("custom", module=module, **facts) if module else Onboard("mean", **facts)
    return Assignment(vehicles=vehicles or Select.all(), onboard=onboard, offboard=Offboard("mean"),
                      **more)  # fmt: skip


def submit(user: str, assignment: Assignment, id_: str | None = None) -> Submit:
    return Submit(user_id=user, id=id_ or new_id(), assignment=assignment)


def asked(world: World) -> list[str]:
    """The vehicles that the last turn has ordered something of."""
    found = (topics.parse(message.topic) for message in world.stored)
    return sorted(a.name for a in found if a and (a.family, a.channel) == ("vehicles", "orders"))


def rows(world: World) -> list[int]:
    with world.database.transaction() as session:
        tables = (AssignmentRow, DeploymentRow, OutboxRow)
        return [session.scalar(select(func.count()).select_from(t)) or 0 for t in tables]


def small(**more: Any) -> dict[str, Any]:
    return {"limits": LimitsAsked(profile="small"), **more}


def test_a_viewer_sees_vehicles_and_what_he_asks_for_beyond_leaves_no_trace(world: World) -> None:
    before = rows(world)
    assert len(world.ask(ListVehicles(user_id="vic")).vehicles or ()) == 4
    code, why = world.refused(submit("vic", mean()))
    assert (code, why.partition(";")[0]) == (
        "forbidden", "vic has the role viewer and may not submit assignments",
    )  # fmt: skip
    error = world.deploy("vic").error
    assert error is not None
    assert (error.code, error.details["action"]) == ("forbidden", "deploy_onboard")
    assert world.refused(ListVehicles(user_id="eve"))[1].startswith("eve has no role here")
    assert rows(world) == before


def test_who_is_limited_to_vehicles_reaches_no_other(world: World) -> None:
    listed = world.ask(ListVehicles(user_id="bob")).vehicles or []
    assert [v.name for v in listed if v.role == "vehicle"] == ["car-1", "car-3"]
    assert world.ask(submit("bob", mean())).error is None
    assert asked(world) == ["car-1", "car-3"]
    code, why = world.refused(submit("bob", mean(Select.ids("car-1", "car-2", "nobody"))))
    assert code == "forbidden"
    assert "region=eu, which car-2, nobody are not" in why
    assert world.ask(submit("bob", mean(Select.ids("car-3")))).error is None
    assert asked(world) == ["car-3"]
    assert world.refused(submit("bob", mean(Select.where(region="us"))))[0] == "forbidden"
    assert world.ask(submit("bob", mean(Select.sample(5, seed=1)))).error is None
    assert asked(world) == ["car-1", "car-3"]


def test_who_is_limited_is_told_of_his_own_vehicles_alone_why_none_is_selected(
    world: World,
) -> None:
    roles = ROLES + '[users.nil]\nrole = "analyst"\nvehicles = { region = "mars" }\n'
    world.authority = Authority.parse(roles)

    def submitted(user: str, select: Select) -> tuple[str, str]:
        return world.refused(submit(user, mean(select)))

    def deployed(user: str, select: Select) -> tuple[str, str]:
        return world.refused(
            Deploy(
                user_id=user, mode="deploy_onboard", id=new_id(), name="m", custom_code=SOURCE,
                limits=LimitsAsked(profile="small"), vehicles=select,
            )
        )  # fmt: skip

    for ask in (submitted, deployed):
        told = {
            "ada": ask("ada", Select.where(region="moon")),
            "bob": ask("bob", Select.where(model="x")),
            "nil": ask("nil", Select.all()),
        }
        assert {code for code, _ in told.values()} == {"unknown_vehicle"}
        assert "no vehicle has region=moon: region is eu, us;" in told["ada"][1]
        limited = "no vehicle that bob may use (region=eu) has model=x: none has an attribute model"
        assert limited in told["bob"][1]
        assert "no vehicle that nil may use (region=mars) was ever seen;" in told["nil"][1]
        assert "an administrator can change that" in told["nil"][1]
        assert all("car-" not in said for _, said in told.values())


def test_a_request_to_a_limited_selection_may_be_sent_twice(world: World) -> None:
    once = submit("bob", mean(), "a")
    assert world.ask(once).error is None
    assert world.ask(once).error is None


def test_a_module_of_who_is_limited_goes_to_these_vehicles_and_to_those_that_come(
    world: World,
) -> None:
    assert set(world.shipped("bob", **small()).states) == {"car-1", "car-3"}
    assert world.refused(
        Deploy(
            user_id="bob", mode="deploy_onboard", id="d", name="m", custom_code=SOURCE,
            limits=LimitsAsked(profile="small"), vehicles=Select.ids("car-2"),
        )
    )[0] == "forbidden"  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"limits": LimitsAsked()}, "may not ask for the profile default, only small"),
        (small(environment="science"), "may not use the environment science, only minimal"),
        (small(environment="a" * 64), "may not use the environment aaaaaaaaaaaa, only minimal"),
        (
            small(environment=EnvironmentSpec(requirements=("six",))),
            "may not use libraries of one's own, only minimal",
        ),
    ],
)
def test_profiles_and_environments_of_deployments_are_limited(
    world: World, change: dict[str, Any], told: str
) -> None:
    error = world.deploy("bob", **change).error
    assert error is not None
    assert error.code == "forbidden"
    assert told in error.message


def test_wheels_and_signals_are_limited(world: World) -> None:
    wheel = Upload(user_id="bob", sha256="a" * 64, size=1, offset=0, data=b"x")
    assert world.refused(wheel)[0] == "forbidden"
    other = Assignment(
        onboard=Onboard("mean", signals=("S", "GPS"), samples=3), offboard=Offboard("mean")
    )
    code, why = world.refused(submit("bob", other))
    assert (code, "bob may not use the signal GPS, only S" in why) == ("forbidden", True)


def test_a_module_from_when_its_user_was_allowed_more_is_not_used(world: World) -> None:
    world.shipped("ada", limits=LimitsAsked(profile="large"))
    assert world.ask(submit("ada", mean(module="m"))).error is None
    world.authority = Authority.parse('[users.ada]\nrole = "analyst"\nprofiles = ["default"]')
    code, why = world.refused(submit("ada", mean(module="m")))
    assert (code, "the profile large" in why) == ("forbidden", True)


def test_an_operator_sees_and_cancels_what_others_have_and_nobody_else_does(world: World) -> None:
    world.ask(submit("ada", mean(), "a"))
    deployment = world.shipped("ada").id
    for user in ("bob", "vic"):
        assert world.refused(History(user_id=user, assignment="a"))[0] == "unknown_assignment"
        assert world.refused(ListAssignments(user_id=user, everybody=True))[0] == "forbidden"
        status = DeploymentStatus(user_id=user, deployment=deployment)
        assert world.refused(status)[0] == "unknown_assignment"
    assert world.refused(Cancel(user_id="bob", assignment="a"))[0] == "unknown_assignment"
    listed = world.ask(ListAssignments(user_id="olga", everybody=True)).assignments or []
    assert [(a.id, a.user_id) for a in listed] == [("a", "ada")]
    assert world.ask(ListAssignments(user_id="olga")).assignments == []
    assert world.ask(DeploymentStatus(user_id="olga", deployment=deployment)).deployment is not None
    assert world.ask(Cancel(user_id="olga", assignment="a")).error is None
    changes = world.ask(ListChanges(user_id="ada", assignment="a")).changes or []
    assert "the assignment was cancelled by olga" in [c.cause for c in changes]


def answered(world: World) -> None:
    """Answer what the last turn has ordered, vehicles first, until nothing is ordered any more."""
    while todo := list(world.stored):
        for message in todo:
            address = topics.parse(message.topic)
            if address is None or address.channel != "orders":
                continue
            order = messages.decode(ORDER, message.payload, message.content_type)
            if isinstance(order, OnboardOrder | OffboardOrder):
                role: Role = "vehicles" if isinstance(order, OnboardOrder) else "workers"
                report = TaskReport(
                    id=new_id(), task=order.id, attempt=order.attempt, state=TaskState.SUCCEEDED,
                    outcome=Outcome(kind=Kind.VALUE, value=1.0), digest="d" * 64, generation=1,
                )  # fmt: skip
                name = address.name if role == "vehicles" else "w"
                world.say(topics.reports(role, name), report)
        if world.stored == todo:
            return


def test_a_budget_counts_containers_over_all_orchestrators_and_ends_with_the_day(
    world: World,
) -> None:
    world.shipped("few")  # its trial is 1
    assert world.ask(submit("few", mean(module="m"), "a")).error is None  # and 3 vehicles
    assert world.ask(submit("few", mean(module="m"), "a")).error is None  # the same one
    assert world.ask(submit("few", mean(module="m"))).error is None  # and 3 more are 7
    code, why = world.refused(submit("few", mean(module="m")))
    assert code == "over_quota"
    assert "may have 8 tasks of custom code a day; 7 are used, and this needs 3 more" in why
    assert world.ask(submit("few", mean())).error is None  # a built-in method is our own code
    assert world.ask(submit("few", mean(Select.ids("car-1"), module="m"))).error is None
    error = world.deploy("few").error
    assert error is not None
    assert (error.code, error.details["used"]) == ("over_quota", 8)
    world.now += 86_400
    assert world.ask(submit("few", mean(module="m"))).error is None


def test_an_assignment_that_uses_its_budget_up_fails_and_keeps_what_it_has(world: World) -> None:
    world.shipped("few")
    assert world.ask(submit("few", mean(module="m", iterations=9), "a")).error is None
    answered(world)
    told = world.ask(History(user_id="few", assignment="a")).history or []
    assert [event.kind for event in told] == ["iteration", "iteration", "end"]
    end = told[-1]
    assert end.kind == "end"
    assert end.error is not None
    assert (end.state, end.iterations) == ("failed", 2)
    assert end.error.details["reason_code"] == "over_quota"


def test_what_was_ordered_is_added_up_and_forgotten_in_time(database: Database) -> None:
    for more in ({"ada": 2, "bob": 1}, {"ada": 3}, {}):
        with database.transaction() as session:
            usage.add(session, 5, more)
    with database.transaction() as session:
        assert [usage.tasks(session, user, 5) for user in ("ada", "bob", "eve")] == [5, 1, 0]
        assert usage.tasks(session, "ada", 6) == 0
        usage.forget(session, 5 + usage.KEPT_DAYS)
        assert usage.tasks(session, "ada", 5) == 5
        usage.forget(session, 6 + usage.KEPT_DAYS)
        assert usage.tasks(session, "ada", 5) == 0


def test_without_a_file_nobody_sees_what_others_have(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(database, monkeypatch)
    assert world.authority is EVERYBODY
    world.ask(submit("ada", mean(), "a"))
    assert world.refused(History(user_id="bob", assignment="a"))[0] == "unknown_assignment"
