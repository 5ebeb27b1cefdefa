"""The specification language: what may be asked, and who is selected."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.assignment import Assignment, Attribute, Offboard, Onboard, Select
from protocol.errors import BadParameter, BadRequest, UnknownMethod

LOOSE: Any = Assignment  # what is checked here is what the types forbid


class Known(NamedTuple):
    attributes: dict[str, Attribute]
    online: bool


FLEET = {
    "car-1": Known({"model": "etios", "year": 2014}, online=True),
    "car-2": Known({"model": "corolla", "year": 2014}, online=True),
    "car-3": Known({"model": "etios", "year": 2020}, online=False),
}


def mean(**changes: Any) -> Onboard:
    return Onboard("mean", **{"signals": "SPEED", "samples": 10, **changes})


def test_all_selects_every_known_vehicle() -> None:
    assert Select.all().choose(FLEET) == ["car-1", "car-2", "car-3"]


def test_ids_keep_the_unknown_so_that_the_participation_can_name_them() -> None:
    assert Select.ids("ghost", "car-1").choose(FLEET) == ["car-1", "ghost"]
    assert Select.ids(["car-1", "car-1"]).choose(FLEET) == ["car-1"]


def test_where_selects_by_every_attribute_given() -> None:
    assert Select.where(model="etios").choose(FLEET) == ["car-1", "car-3"]
    assert Select.where(model="etios", year=2014).choose(FLEET) == ["car-1"]
    assert Select.where(colour="red").choose(FLEET) == []


@given(st.integers(1, 50), st.integers(), st.sets(st.from_regex("[a-z]{1,8}", fullmatch=True)))
def test_a_sample_is_seeded_and_of_vehicles_that_are_online(
    size: int, seed: int, names: set[str]
) -> None:
    fleet = {name: Known({}, online=len(name) % 2 == 0) for name in names}
    drawn = Select.sample(size, seed=seed).choose(fleet)
    assert drawn == Select.sample(size, seed=seed).choose(fleet)
    assert len(drawn) == min(size, sum(k.online for k in fleet.values()))
    assert all(fleet[name].online for name in drawn)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: mean(samples=0), BadRequest, "samples"),
        (lambda: mean(samples=2.5), BadRequest, "samples"),
        (lambda: mean(samples="many"), BadRequest, "samples"),
        (lambda: mean(samples=True), BadRequest, "samples"),
        (lambda: mean(signals=[]), BadRequest, "signals"),
        (lambda: mean(signals=["A", "A"]), BadRequest, "twice"),
        (lambda: mean(rate_hz=0), BadRequest, "rate_hz"),
        (lambda: mean(rate_hz=float("nan")), BadRequest, "rate_hz"),
        (lambda: mean(module="m"), BadRequest, "custom"),
        (lambda: mean(quantile=3), BadParameter, "quantile"),
        (lambda: Onboard("maen", signals="A", samples=1), UnknownMethod, "mean"),
        (lambda: Onboard("custom", signals="A", samples=1), BadRequest, "module"),
        (lambda: Onboard("custom", module="a b", signals="A", samples=1), BadRequest, "module"),
        (lambda: Onboard("custom", module="m", signals="A", samples=1, q=1), BadRequest, "param"),
        (lambda: Offboard("federated"), UnknownMethod, "federated"),
        (lambda: Select.ids("a/b"), BadRequest, "names"),
        (Select.ids, BadRequest, "names"),
        (lambda: Select.sample(0), BadRequest, "size"),
        (
            lambda: Assignment(onboard=mean(), offboard=Offboard("mean"), iterations=0),
            BadRequest,
            "i",
        ),
        (
            lambda: Assignment(onboard=mean(), offboard=Offboard("mean"), deadline_s=0),
            BadRequest,
            "d",
        ),
        (lambda: LOOSE(onboard=mean(), offboard="mean"), BadRequest, "offboard"),
        (
            lambda: LOOSE(onboard=mean(), offboard=Offboard("mean"), colour=1),
            BadRequest,
            "col",
        ),
        (
            lambda: Assignment(onboard=mean(), offboard=Offboard("mean"), digest="0" * 64),
            BadRequest,
            "pinned",
        ),
    ],
)
def test_what_is_no_request_is_one_error_that_names_the_place(
    make: Any, error: type[BadRequest], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        make()
    assert caught.value.code == error.code


def test_parameters_of_a_method_may_be_given_by_name() -> None:
    given_by_name = Onboard("quantiles", signals="A", samples=5, q=[0.1, 0.9])
    assert given_by_name.params == {"q": [0.1, 0.9]}
    assert given_by_name == Onboard("quantiles", signals="A", samples=5, params={"q": [0.1, 0.9]})


def test_an_assignment_survives_its_own_json() -> None:
    spec = Assignment(
        vehicles=Select.sample(2, seed=7, model="etios"),
        onboard=Onboard("custom", module="m", signals=["A", "B"], samples=3, rate_hz=2),
        offboard=Offboard("quantiles", q=[0.5]),
        iterations=4,
        consistency="newest",
        deadline_s=1,
    )
    assert Assignment.model_validate(spec.model_dump(mode="json")) == spec
