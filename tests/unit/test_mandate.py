"""Mandates: an order is a part of what its analyst has signed, and of nothing else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.vouched import Vouched
from protocol import identity, mandate, messages
from protocol.account import Budget
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.errors import BadSignature, NotSigned
from protocol.messages import ORDER, REQUEST, OffboardOrder, OnboardOrder, Submit
from protocol.signing import Signer
from tests.proofs import World

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
AT = NOW.timestamp()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("mandate") / "pki", NOW)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,20}", fullmatch=True)
ATTRIBUTES = st.one_of(
    st.booleans(), st.integers(-9, 9), st.floats(-9, 9), st.text("ab°", max_size=5)
)
SELECTS = st.one_of(
    st.just(Select.all()),
    st.lists(NAMES, min_size=1, max_size=4).map(Select.ids),
    st.dictionaries(NAMES, ATTRIBUTES, max_size=3).map(lambda found: Select(attributes=found)),
    st.integers(1, 99).map(lambda size: Select.sample(size, seed=size)),
)
SHARES = st.floats(0.01, 1)
ONBOARDS = st.one_of(
    st.builds(
        Onboard,
        st.just("custom"),
        module=NAMES,
        isolation=st.sampled_from(["call", "assignment"]),
        signals=st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple),
        samples=st.integers(1, 1000),
        rate_hz=st.none() | st.floats(0.1, 1000) | st.integers(1, 9),
        gaps=st.sampled_from(["allow", "forbid"]),
    ),
    st.builds(
        Onboard,
        st.just("quantiles"),
        signals=NAMES,
        samples=st.integers(1, 1000),
        q=st.lists(st.floats(0, 1), min_size=1, max_size=3).map(tuple),
    ),
)
OFFBOARDS = st.builds(Offboard, st.sampled_from(["mean", "max"])) | st.builds(
    Offboard, st.just("custom"), module=NAMES, isolation=st.sampled_from(["call", "assignment"])
)
BUDGETS = st.none() | st.builds(
    Budget, cpu_s=st.none() | st.floats(0.1, 9), container_starts=st.none() | st.integers(1, 9)
)
ASSIGNMENTS = st.builds(
    Assignment,
    vehicles=SELECTS, onboard=ONBOARDS, offboard=OFFBOARDS, iterations=st.integers(1, 9),
    consistency=st.sampled_from(["majority", "newest", "any"]), deadline_s=st.floats(0.1, 99),
    quorum=st.none() | SHARES | st.integers(1, 9), late=st.sampled_from(["drop", "next"]),
    halt_on_failure=st.none() | SHARES, budget=BUDGETS,
)  # fmt: skip
SPEC = Assignment(
    onboard=Onboard("custom", module="m", signals=("A", "B"), samples=5, rate_hz=2),
    offboard=Offboard("mean"),
    iterations=3,
    budget=Budget(container_starts=3),
)


def sent(world: World, spec: Assignment, by: str = "analyst:ada") -> Submit:
    """A submission, signed and sent over the wire."""
    request = Submit(user_id="ada", id="a-1", assignment=spec).signed(world.signers[by], AT)
    came = messages.decode(REQUEST, *messages.encode(request))
    assert isinstance(came, Submit)
    return came


def orders(asked: Submit, **changes: Any) -> tuple[OnboardOrder, OffboardOrder]:
    """The orders of its first iteration, sent over the wire."""
    spec = asked.assignment
    words: dict[str, Any] = {
        "id": "t", "assignment": asked.id, "iteration": 1, "user_id": "ada", "timeout_s": 9,
        "mandate": asked.mandate,
    }  # fmt: skip
    first = {**words, **spec.onboard.model_dump(), "budget": spec.budget, "first": 0, **changes}
    second = {**words, **spec.offboard.model_dump(), "results": [1.5], **changes}
    onboard = messages.decode(ORDER, *messages.encode(OnboardOrder.model_validate(first)))
    offboard = messages.decode(
        ORDER, *messages.encode(OffboardOrder.model_validate({
            name: word for name, word in second.items() if name in OffboardOrder.model_fields
        }))
    )  # fmt: skip
    assert isinstance(onboard, OnboardOrder)
    assert isinstance(offboard, OffboardOrder)
    return onboard, offboard


@given(ASSIGNMENTS)
def test_whatever_is_asked_for_is_vouched_for_by_whom_and_so_are_its_orders(
    world: World, spec: Assignment
) -> None:
    asked = sent(world, spec)
    asked.check_signature(world.trust)
    for order in orders(asked):
        mandate.check_order(world.trust, order)


@given(ASSIGNMENTS, ASSIGNMENTS)
def test_the_word_for_one_assignment_is_none_for_another(
    world: World, one: Assignment, other: Assignment
) -> None:
    word = sent(world, one).mandate
    same = one.model_dump() == other.model_dump()
    changed = Submit(user_id="ada", id="a-1", assignment=other, mandate=word)
    if same:
        changed.check_signature(world.trust)
    else:
        with pytest.raises(BadSignature, match="not what ada has signed"):
            changed.check_signature(world.trust)


CHANGES: dict[str, Any] = {
    "assignment": "a-2", "user_id": "bob", "iteration": 4, "module": "other",
    "isolation": "assignment", "params": {"a": 1}, "method": "max",
}  # fmt: skip
ONBOARD: dict[str, Any] = {
    "first": 5, "signals": ("A", "LATITUDE"), "samples": 6, "rate_hz": 3.0, "gaps": "forbid",
    "budget": None,
}  # fmt: skip


@pytest.mark.parametrize("field", [*CHANGES, *ONBOARD])
def test_an_order_for_something_else_is_found(world: World, field: str) -> None:
    changed = orders(sent(world, SPEC), **{field: {**CHANGES, **ONBOARD}[field]})
    for order in changed if field in CHANGES else changed[:1]:
        with pytest.raises(BadSignature):
            mandate.check_order(world.trust, order)


#: What an orchestrator says by itself: which code is the least, what was before, and when.
ITS_OWN = {"kind", "id", "attempt", "generation", "last", "previous", "timeout_s", "mandate"}


def test_every_field_of_an_order_is_signed_or_said_not_to_be() -> None:
    assert set(OnboardOrder.model_fields) == {*CHANGES, *ONBOARD, *ITS_OWN}
    assert set(OffboardOrder.model_fields) == {*CHANGES, *ITS_OWN, "results"}


def test_an_order_may_be_of_any_iteration_that_was_asked_for(world: World) -> None:
    for iteration in (1, 3):
        first = (iteration - 1) * SPEC.onboard.samples
        for order in orders(sent(world, SPEC), iteration=iteration, first=first):
            mandate.check_order(world.trust, order)


def test_only_the_analyst_himself_vouches_for_what_he_asks(world: World) -> None:
    namesake = Signer(world.pki.enroll(identity.parse("vehicle:ada"), NOW)[0])
    word = mandate.sign(namesake, "a-1", SPEC, AT)
    with pytest.raises(BadSignature, match="is signed by vehicle:ada"):
        mandate.check(world.trust, word, "a-1", "ada", SPEC)
    with pytest.raises(BadSignature, match="has signed"):
        sent(world, SPEC, by="orchestrator:o-1").check_signature(world.trust)
    with pytest.raises(NotSigned, match="identity of ada"):
        Submit(user_id="ada", id="a-1", assignment=SPEC).check_signature(world.trust)


def test_without_an_authority_nobody_is_asked_and_with_one_everybody(world: World) -> None:
    (order, other) = orders(Submit(user_id="ada", id="a-1", assignment=SPEC))
    Vouched().check_order(order)
    here = Vouched(world.trust)
    for unsigned in (order, other):
        with pytest.raises(NotSigned):
            here.check_order(unsigned)


def test_who_is_revoked_has_nothing_done_whenever_he_asked(tmp_path: Path) -> None:
    mine = World.make(tmp_path / "pki", NOW)
    order, _ = orders(sent(mine, SPEC))
    mandate.check_order(mine.trust, order)
    mine.pki.revoke(identity.parse("analyst:ada"), NOW + dt.timedelta(minutes=1))
    listed = mine.trust.read_revoked(mine.pki.folder / "revoked" / "crl.pem")
    mine.trust.take_back(listed)
    with pytest.raises(BadSignature, match="has been revoked"):
        mandate.check_order(mine.trust, order)
