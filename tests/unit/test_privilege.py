"""The privilege score: more is never less, and each step is told."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.assignment import Select
from protocol.limits import LimitsAsked
from protocol.module import Side
from protocol.privilege import HIGHEST, privilege

PLAIN = "def custom_code(x):\n    return 1\n"
SOME = Select.ids("car-1")
#: From little to much.
ENVIRONMENTS = ("minimal", "science", "own")
LIMITS = (LimitsAsked(), LimitsAsked(profile="large"))
SOURCES = (PLAIN, "import os\n" + PLAIN, "import os\n" + PLAIN + "eval('1')\n")
PLACES = ((Side.OFFBOARD, None), (Side.ONBOARD, SOME), (Side.ONBOARD, None))
SIZES = (len(PLACES), len(ENVIRONMENTS), len(LIMITS), len(SOURCES))


def test_the_least_is_1_and_the_most_is_8() -> None:
    least = privilege(Side.OFFBOARD, "minimal", LimitsAsked(), PLAIN, None)
    assert (least.score, least.reasons) == (1, ())
    most = privilege(Side.ONBOARD, "own", LIMITS[1], SOURCES[2], None)
    assert most.score == HIGHEST == 1 + len(most.reasons)


@given(st.tuples(*[st.integers(0, n - 1) for n in SIZES]), st.integers(0, 3))
def test_who_asks_for_more_has_no_lower_score(asked: tuple[int, ...], which: int) -> None:
    more = [*asked]
    more[which] = min(more[which] + 1, SIZES[which] - 1)

    def score(place: int, environment: int, limits: int, source: int) -> int:
        side, vehicles = PLACES[place]
        name = ENVIRONMENTS[environment]
        return privilege(side, name, LIMITS[limits], SOURCES[source], vehicles).score

    assert score(*asked) <= score(*more) <= HIGHEST


def test_every_combination_is_between_1_and_8_and_tells_each_step() -> None:
    for (side, vehicles), name, limits, source in itertools.product(
        PLACES, ENVIRONMENTS, LIMITS, SOURCES
    ):
        found = privilege(side, name, limits, source, vehicles)
        assert found.score == 1 + len(found.reasons)
        assert 1 <= found.score <= HIGHEST


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("from os.path import join\n", "os"),
        ("import concurrent.futures as c\n", "concurrent"),
        ("x = getattr(1, 'real')\n", "getattr"),
        ("x = ().__class__.__subclasses__()\n", "__class__, __subclasses__"),
    ],
)
def test_what_reaches_beyond_computing_is_named(source: str, said: str) -> None:
    found = privilege(Side.OFFBOARD, "minimal", LimitsAsked(), source + PLAIN, None)
    assert found.score == 2
    assert found.reasons[0].endswith(said)


def test_limits_count_by_what_they_grant_and_not_by_their_profile() -> None:
    def score(**asked: object) -> int:
        limits = LimitsAsked.model_validate(asked)
        return privilege(Side.OFFBOARD, "minimal", limits, PLAIN, None).score

    assert score(profile="small") == 1
    assert score(profile="large") == 2
    assert score(profile="somebodys-own") == 2


@given(st.text(max_size=200))
def test_any_text_has_a_score(source: str) -> None:
    assert 1 <= privilege(Side.ONBOARD, "minimal", LimitsAsked(), source, None).score <= HIGHEST
