"""Words on the command line become a request, or a clear error."""

from __future__ import annotations

from typing import Any

import pytest

from oodida.alike import alike
from oodida.cli.words import (
    assignment_from,
    attributes_from,
    budget_from,
    halt_from,
    options,
    quorum_from,
    select_from,
)
from protocol.account import Budget
from protocol.errors import BadRequest


@pytest.mark.parametrize(
    ("word", "meant"),
    [(None, None), ("1", 1), ("20", 20), ("1.0", 1.0), ("0.8", 0.8), ("80%", 0.8)],
)
def test_a_quorum_is_a_number_or_a_share(word: str | None, meant: float | None) -> None:
    found = quorum_from(word)
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(("word", "meant"), [("never", None), ("0.3", 0.3), ("30%", 0.3)])
def test_halting_is_a_share_or_never(word: str, meant: float | None) -> None:
    assert halt_from(word) == meant


def test_a_budget_names_what_it_bounds() -> None:
    assert budget_from(None) is None
    words = "cpu_s=1.5, bytes_sent=10,container_starts=3"
    assert budget_from(words) == Budget(cpu_s=1.5, bytes_sent=10, container_starts=3)


def test_an_attribute_names_its_vehicle() -> None:
    words = ["car-1:region=eu", "car-1:year=2014", "car-2:note=a:b=c", "car-2:leased=true"]
    assert attributes_from(words) == {
        "car-1": {"region": "eu", "year": 2014},
        "car-2": {"note": "a:b=c", "leased": True},
    }
    assert attributes_from(None) == {}


@pytest.mark.parametrize("word", ["region=eu", ":region=eu", "car-1:region", "car-1:r=[1]"])
def test_what_is_no_attribute_of_a_vehicle_is_refused(word: str) -> None:
    with pytest.raises(BadRequest):
        attributes_from([word])


@pytest.mark.parametrize("word", ["many", "", "0x2", "1e"])
def test_what_is_no_number_is_refused_with_what_would_be(word: str) -> None:
    with pytest.raises(BadRequest, match="80%"):
        quorum_from(word)
    with pytest.raises(BadRequest, match="never"):
        halt_from(word)


@pytest.mark.parametrize("word", ["cpu_s", "cpu_s=0", "memory=1", "container_starts=1.5"])
def test_a_budget_of_something_else_is_refused(word: str) -> None:
    with pytest.raises(BadRequest):
        budget_from(word)


@pytest.mark.parametrize("word", ["150%", "1.5", "0", "-1", "0%", "nan", "-0.5"])
def test_a_share_or_number_that_cannot_be_is_told_in_the_options_words(word: str) -> None:
    with pytest.raises(BadRequest, match=r"^--quorum"):
        quorum_from(word)


@pytest.mark.parametrize("word", ["150%", "0", "-0.1", "nan", "inf"])
def test_a_share_to_halt_at_is_above_none_and_at_most_all(word: str) -> None:
    with pytest.raises(BadRequest, match=r"^--halt-on-failure"):
        halt_from(word)


def test_what_names_nothing_is_told_in_the_options_words() -> None:
    with pytest.raises(BadRequest, match=r"^--ids names no vehicle"):
        select_from(" , ", None, None, 0)
    with pytest.raises(BadRequest, match=r"^--onboard 'custom:' names no module"):
        assignment_from("custom:", "A", 1, "mean", None, None, rate_hz=None)
    with pytest.raises(BadRequest, match=r"^--offboard 'custom:a/b' names no module"):
        assignment_from("mean", "A", 1, "custom:a/b", None, None, rate_hz=None)


def test_those_of_whom_the_same_is_told_are_told_together() -> None:
    told = {f"car-{n}": "refused" for n in range(1, 7)} | {"van": "late", "bus": "late"}
    assert list(alike(told)) == [
        ("car-1, car-2, car-3, car-4, ... (6)", "refused"),
        ("van, bus", "late"),
    ]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"onboard": ""}, "--onboard takes .* custom:MODULE .given: nothing"),
        ({"onboard": "custom"}, "--onboard 'custom' names no module"),
        ({"samples": 0}, "--samples takes .*given: 0"),
        ({"signals": " , "}, "--signals takes .*given: nothing"),
        ({"iterations": 0}, "--iterations takes"),
        ({"deadline_s": 0.0}, "--deadline takes"),
        ({"rate_hz": 0.0}, "--rate-hz takes"),
        ({"isolation": "both"}, "--isolation takes call or assignment"),
        ({"gaps": "some"}, "--gaps takes allow or forbid"),
        ({"late": "later"}, "--late takes drop or next"),
        ({"consistency": "none"}, "--consistency takes .*given: 'none'"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_option(wrong: dict[str, Any], told: str) -> None:
    fine: dict[str, Any] = {
        "onboard": "mean", "signals": "A", "samples": 5, "offboard": "collect", "param": None,
        "offboard_param": None, "rate_hz": None,
    }  # fmt: skip
    with pytest.raises(BadRequest, match=told), options():
        assignment_from(**{**fine, **wrong})


@pytest.mark.parametrize("ids", ["car 1", "car-1,-"])
def test_ids_are_names_of_vehicles(ids: str) -> None:
    with pytest.raises(BadRequest, match="--ids takes"), options():
        select_from(ids, None, None, 0)


def test_what_no_option_is_about_is_said_as_it_is() -> None:
    with pytest.raises(BadRequest, match="a signal is named twice"), options():
        assignment_from("mean", "A,A", 5, "collect", None, None, rate_hz=None)
