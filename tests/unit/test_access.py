"""The rules of the broker: whom they let do what, and that they are those that it is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import access, topics
from protocol.access import RULES, Rule, Verb, may
from protocol.identity import ROLES
from protocol.topics import NAME, is_name
from tests.conftest import ROOT

NAMES = st.from_regex(NAME, fullmatch=True).filter(is_name)
VERBS: tuple[Verb, ...] = ("send", "retain", "receive", "subscribe")
SUBTREES = {"vehicle": "vehicles", "worker": "workers", "analyst": "analysts"}
#: What some may hear beyond their own subtree: off-board work is any worker's, what the authority
#: has taken back is for all that run code.
COMMON = {
    topics.revoked(), topics.offboard_orders(), topics.every_offboard_module(),
    topics.subscription(topics.offboard_orders(), topics.WORKERS),
}  # fmt: skip


def test_the_broker_is_given_the_rules_that_are_made_here() -> None:
    shipped = (ROOT / "images" / "broker" / "rules").read_text()
    assert shipped == access.as_text(), "python -m protocol.access > images/broker/rules"


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_no_rule_leaves_its_subtree_or_hears_whole_trees(rule: Rule) -> None:
    assert "#" not in rule.topic
    if rule.role in SUBTREES and rule.topic not in COMMON:
        own = f"{topics.ROOT}/{SUBTREES[rule.role]}/{access.SELF}/"
        assert rule.topic.startswith(own), rule
    if rule.verb in {"send", "retain"}:
        assert rule.topic.startswith(topics.ROOT + "/")


@given(st.sampled_from(sorted(SUBTREES)), NAMES, NAMES, NAMES, st.sampled_from(VERBS))
def test_nobody_reaches_what_is_anothers(
    role: str, name: str, other: str, third: str, verb: Verb
) -> None:
    if name == other:
        return
    foreign = [
        topics.requests(other), topics.replies(other, third), topics.events(other, third),
        topics.modules(other, name, third),
        *(make(family, other) for family in ("vehicles", "workers") for make in (
            topics.presence, topics.orders, topics.reports, topics.receipts,
        )),
    ]  # fmt: skip
    for topic in foreign:
        assert not may(role, name, verb, topic)
        assert not may(role, name, verb, f"$share/{name}/{topic}")


@given(st.sampled_from(ROLES), NAMES, st.text(alphabet="+#/ab$\0ä", max_size=40))
def test_no_filter_is_wider_than_a_rule(role: str, name: str, text: str) -> None:
    assert not may(role, name, "subscribe", text)
    for topic in (f"oodida/v1/{text}", f"oodida/v1/vehicles/{text}"):
        if "#" in topic:
            assert not may(role, name, "subscribe", topic)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "topic",
    ["", "#", "+", "+/+/+", "$SYS/#", "$CONTROL/x", "oodida/v1/#", "oodida/v1/vehicles/+/orders",
     "oodida/v1/vehicles/car-1/#", "oodida/v1/vehicles/car-1/+", "oodida/v1/vehicles/car-1",
     "oodida/v1/vehicles/car-1/orders/", "oodida/v1/vehicles/car-1//orders",
     "oodida/v1/+/car-1/orders",
     "/oodida/v1/vehicles/car-1/orders", "$share/workers/oodida/v1/offboard/orders",
     "$share/orchestrators/oodida/v1/vehicles/+/reports", "oodida/v1/vehicles/car-1/modules/+/#",
     "oodida/v1/vehicles/{name}/orders"],
)  # fmt: skip
def test_a_vehicle_may_do_nothing_crafted(topic: str, verb: Verb) -> None:
    assert not may("vehicle", "car-1", verb, topic)


def test_what_the_parts_do_is_allowed() -> None:
    allowed: list[tuple[str, str, Verb, str]] = [
        ("vehicle", "a", "retain", topics.presence("vehicles", "a")),
        ("vehicle", "a", "send", topics.reports("vehicles", "a")),
        ("vehicle", "a", "subscribe", topics.own_modules("a")),
        ("vehicle", "a", "subscribe", topics.modules("a", "ann", "m")),
        ("vehicle", "a", "receive", topics.orders("vehicles", "a")),
        ("worker", "a", "subscribe", topics.subscription(topics.offboard_orders(), "workers")),
        ("orchestrator", "o", "retain", topics.modules("a", "ann", "m")),
        ("orchestrator", "o", "retain", topics.revoked()),
        ("vehicle", "a", "receive", topics.revoked()),
        ("worker", "a", "subscribe", topics.revoked()),
        ("orchestrator", "o", "send", topics.replies("ann", "c")),
        ("analyst", "ann", "send", topics.requests("ann")),
        ("analyst", "ann", "receive", topics.events("ann", "x")),
        ("anonymous", "", "receive", access.ALIVE),
    ]
    for role, name, verb, topic in allowed:
        assert may(role, name, verb, topic), (role, verb, topic)
    assert not may("vehicle", "a", "retain", topics.reports("vehicles", "a")), "it would stay"


@pytest.mark.parametrize("role", ROLES)
def test_what_was_taken_back_is_said_by_orchestrators_and_heard_by_who_runs_code(role: str) -> None:
    may_do = {verb for verb in VERBS if may(role, "a", verb, topics.revoked())}
    hears = {"receive", "subscribe"}
    says = {"send", "retain"}
    assert may_do == {"vehicle": hears, "worker": hears, "orchestrator": says}.get(role, set())
