"""What the catalogue lets pass, and how it says what is wrong."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadParameter, UnknownMethod
from protocol.methods import METHODS, Parameter, check, near_misses


def test_left_out_parameters_get_their_defaults() -> None:
    assert check("onboard", "mean", {}) == {}
    assert check("onboard", "stdev", {}) == {"ddof": 1}
    assert check("offboard", "quantiles", {}) == {"q": [0.25, 0.5, 0.75]}
    assert check("onboard", "histogram", {"bins": 5}) == {"bins": 5, "low": None, "high": None}


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.int64(3), Fraction(3)])
def test_numbers_become_float(value: object) -> None:
    checked = check("onboard", "threshold_exceedance", {"threshold": value})
    assert checked == {"threshold": 3.0}
    assert type(checked["threshold"]) is float


def test_integers_become_int_and_tuples_lists() -> None:
    assert type(check("onboard", "stdev", {"ddof": np.int32(0)})["ddof"]) is int
    assert check("onboard", "quantiles", {"q": (0, 1)}) == {"q": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [
        ("stdev", {"ddof": -1}, "ddof must be an integer from 0 to 1000, not -1"),
        ("stdev", {"ddof": True}, "not True"),
        ("stdev", {"ddof": 1.0}, "not 1.0"),
        ("stdev", {"ddof": None}, "not None"),
        ("stdev", {"ddof": 10**5000}, "not int"),
        ("stdev", {"dof": 1}, "stdev has no parameter 'dof'; it takes ddof"),
        ("mean", {"q": 1}, "mean has no parameter 'q'; it takes no parameters"),
        ("threshold_exceedance", {}, "threshold_exceedance needs threshold, a finite number"),
        ("threshold_exceedance", {"threshold": "120"}, "not '120'"),
        ("threshold_exceedance", {"threshold": math.nan}, "not nan"),
        ("threshold_exceedance", {"threshold": math.inf}, "not inf"),
        ("threshold_exceedance", {"threshold": 10**400}, "a finite number, not 1000"),
        ("rate_of_change", {"interval_s": 0}, "a finite number above 0, not 0"),
        ("zscore_outliers", {"z": False}, "not False"),
        ("quantiles", {"q": 0.5}, "a list of 1 to 1000 finite numbers, each from 0 to 1, not 0.5"),
        ("quantiles", {"q": []}, r"not \[\]"),
        ("quantiles", {"q": [0.5, 1.01]}, r"not \[0.5, 1.01\]"),
        ("quantiles", {"q": [True]}, r"not \[True\]"),
        ("quantiles", {"q": "0.5"}, "not '0.5'"),
        ("quantiles", {"q": [0.5] * 1001}, "1 to 1000"),
        ("histogram", {"bins": 0}, "an integer from 1 to 1000, not 0"),
        ("histogram", {"bins": 1001}, "not 1001"),
        ("histogram", {"low": 1}, "low and high must be given both or not at all"),
        ("histogram", {"high": 1, "low": None}, "both or not at all"),
        ("histogram", {"low": 2, "high": 2}, "low must be less than high, but 2 is not below 2"),
    ],
)
def test_a_bad_parameter_is_one_clear_sentence(
    name: str, params: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadParameter, match=sentence) as caught:
        check("onboard", name, params)
    assert caught.value.code == "bad_parameter"
    assert len(caught.value.message) < 250


@pytest.mark.parametrize(
    ("side", "name", "sentence"),
    [
        ("onboard", "maen", "no onboard method is called 'maen'; did you mean mean"),
        ("onboard", "average", r"is called 'average' \(`oodida methods` lists all\)"),
        ("onboard", "collect", "'collect' is only for the other side, not onboard"),
        ("offboard", "Federated", "did you mean federated_averaging"),
        ("offboard", "x" * 100_000, "'x{60}'"),
    ],
)
def test_an_unknown_method_names_the_near_misses(side: str, name: str, sentence: str) -> None:
    with pytest.raises(UnknownMethod, match=sentence) as caught:
        check(side, name, {})
    assert caught.value.code == "unknown_method"
    assert "`oodida methods` lists all" in caught.value.message


def test_near_misses_are_at_most_three_of_the_known_words() -> None:
    known = ["ENGINE_RPM", "ENGINE_LOAD", "VEHICLE_SPEED", "ENGINE_RUN_TIME", "ENGINE_TORQUE"]
    assert near_misses("speed", known) == ["VEHICLE_SPEED"]
    assert near_misses("engine_rmp", known)[0] == "ENGINE_RPM"
    assert len(near_misses("engine", known)) == 3
    assert near_misses("zzz", known) == []


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
#: Often enough what a parameter may be, and often not.
ANYTHING = SCALARS | st.floats(0, 1) | st.integers(1, 9) | st.lists(st.floats(0, 1), max_size=3)


@given(data=st.data())
def test_what_passes_is_plain_and_passes_again(data: st.DataObject) -> None:
    side = data.draw(st.sampled_from(sorted(METHODS)))
    name = data.draw(st.sampled_from(sorted(METHODS[side])))
    params = {
        parameter.name: data.draw(ANYTHING)
        for parameter in METHODS[side][name].parameters
        if data.draw(st.booleans())
    }
    try:
        checked = check(side, name, params)
    except BadParameter:
        return
    assert checked.keys() == {parameter.name for parameter in METHODS[side][name].parameters}
    assert check(side, name, checked) == checked


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({}, "a finite number"),
        ({"minimum": 1}, "a finite number of at least 1"),
        ({"maximum": 2.5}, "a finite number of at most 2.5"),
        ({"above": 0, "maximum": 9}, "a finite number of at most 9 above 0"),
        ({"minimum": 1, "default": None}, "a finite number of at least 1 or None"),
    ],
)
def test_a_domain_is_told_in_words(bounds: dict[str, Any], words: str) -> None:
    assert Parameter("p", "number", "a made-up one", **bounds).domain == words
