"""What is said to who has selected no vehicle."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.authority import Grant
from orchestrator.seen import Seen
from orchestrator.selection import chosen
from protocol.assignment import Select
from protocol.errors import UnknownVehicle
from protocol.roles import Role
from protocol.values import encode

EVERYWHERE = Grant(role=Role.ANALYST)
EU = Grant(role=Role.ANALYST, vehicles={"region": "eu"})


def seen(name: str, *, online: bool = True, **attributes: Any) -> Seen:
    return Seen(name, encode({"attributes": attributes})[0], online=online)


FLEET = {
    one.name: one
    for one in (
        seen("car-1", region="eu", model="a", online=False),
        seen("car-2", region="us", model="secret"),
    )
}


def told(grant: Grant, select: Select, fleet: dict[str, Seen] | None = None) -> str:
    with pytest.raises(UnknownVehicle) as caught:
        chosen("bob", grant, select, FLEET if fleet is None else fleet)
    return caught.value.message


def test_one_that_is_known_is_enough() -> None:
    assert chosen("bob", EVERYWHERE, Select.ids("car-1", "ghost"), FLEET) == ["car-1", "ghost"]


def test_names_that_are_near_are_of_vehicles_that_he_may_use() -> None:
    assert "car-2" in told(EVERYWHERE, Select.ids("car-9"))
    assert "did you mean car-1?" in told(EU, Select.ids("car-9"))
    assert "`oodida vehicles` lists them" in told(EVERYWHERE, Select.ids("lorry"))


def test_values_that_there_are_are_of_vehicles_that_he_may_use() -> None:
    assert "no vehicle has model=b: model is a, secret;" in told(
        EVERYWHERE, Select.where(model="b")
    )
    limited = told(EU, Select.where(model="b", region="eu"))
    assert "no vehicle that bob may use (region=eu) has model=b: model is a;" in limited
    many = {n: seen(n, model=n) for n in "abcdefg"}
    assert "model is a, b, c, d, e, …;" in told(EVERYWHERE, Select.where(model="z"), many)


def test_each_value_exists_and_no_vehicle_has_both() -> None:
    said = told(EVERYWHERE, Select.where(model="a", region="us"))
    assert "no vehicle has model=a and region=us: model is a, secret; region is eu, us;" in said


def test_a_sample_is_drawn_from_those_that_are_online() -> None:
    said = told(EU, Select.sample(1, region="eu"))
    assert "none of the selected vehicles is online now" in said


def test_a_fleet_without_a_vehicle() -> None:
    assert told(EVERYWHERE, Select.all(), {}) == "no vehicle was ever seen"
    assert "(region=eu) was ever seen; an administrator" in told(EU, Select.all(), {})
