"""Limits as data: profiles in a file, what may be asked for, and a vehicle's own maximum."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadLimits
from protocol.limits import SHIPPED, Limits, LimitsAsked, Profiles

PROFILES = Profiles.read()
NAMES = sorted(Limits.model_fields)


def test_the_default_profile_says_everything_and_every_line_has_a_comment() -> None:
    tables = tomllib.loads(SHIPPED.read_text())
    assert set(tables["default"]) == set(NAMES)
    lines = SHIPPED.read_text().split("\n\n")[1].splitlines()[1:]
    assert len(lines) == len(NAMES)
    assert all(line.partition("#")[2].strip() for line in lines)


def test_what_nobody_says_is_as_in_the_default_profile() -> None:
    assert PROFILES.profiles["default"] == Limits()
    assert Limits(memory_mb=64).time_s == Limits().time_s


def test_a_deployment_asks_for_a_profile_and_lowers_single_limits() -> None:
    asked = LimitsAsked(profile="large", lower={"time_s": 3, "memory_mb": 1000})
    limits, notes = PROFILES.granted(asked)
    assert (limits.time_s, limits.memory_mb) == (3, 1000)
    assert limits.cpus == PROFILES.profiles["large"].cpus
    assert notes == ()


def test_the_vehicles_own_maximum_wins_and_says_so() -> None:
    small = PROFILES.with_maximum({"memory_mb": 256, "time_s": 5})
    limits, notes = small.granted(LimitsAsked(profile="large"))
    assert (limits.memory_mb, limits.time_s) == (256, 5)
    assert notes == ("time_s is 5 here, not 120", "memory_mb is 256 here, not 2048")
    assert small.granted(LimitsAsked(lower={"time_s": 4, "memory_mb": 200}))[1] == ()


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (LimitsAsked(profile="huge"), "no profile 'huge'"),
        (LimitsAsked(lower={"time_s": 11}), "only be lowered: the profile default has 10, not 11"),
        (LimitsAsked(lower={"processes": 1}), "processes"),
        (LimitsAsked(lower={"memory_mb": 100.5}), "memory_mb"),
    ],
)
def test_what_cannot_be_granted(asked: LimitsAsked, what: str) -> None:
    with pytest.raises(BadLimits, match=what):
        PROFILES.granted(asked)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lower": {"tim_s": 1}}, {"profile": "maximum"}, {"profile": "a/b"}, {"profile": ""},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for(wrong: dict[str, object]) -> None:
    with pytest.raises(BadLimits):
        LimitsAsked.model_validate(wrong)


@given(
    st.dictionaries(st.sampled_from(NAMES), st.floats(0.001, 1e7), max_size=12),
    st.dictionaries(st.sampled_from(NAMES), st.floats(0.001, 1e7), max_size=12),
    st.sampled_from(sorted(PROFILES.profiles)),
)
def test_nothing_is_granted_beyond_maximum_profile_or_request(
    lower: dict[str, float], most: dict[str, float], profile: str
) -> None:
    try:
        profiles = PROFILES.with_maximum(most)
        limits, notes = profiles.granted(LimitsAsked(profile=profile, lower=lower))
    except BadLimits:
        return
    for name in NAMES:
        granted = getattr(limits, name)
        assert granted <= getattr(profiles.maximum, name)
        assert granted <= getattr(profiles.profiles[profile], name)
        assert granted <= lower.get(name, granted)
        told = any(note.startswith(f"{name} is") for note in notes)
        asked = lower.get(name, getattr(profiles.profiles[profile], name))
        assert told == (granted < asked)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no profile"),
        ("x = 1", "no profile"),
        ("[default]\ntime_s = 'x'", "default.time_s"),
        ("[default]\nnonsense = 1", "default.nonsense"),
        ("[default\n", "cannot be read"),
        ("[default]\n[a.b]\ntime_s = 1", "a.b"),
        ("#" * 70_000, "bytes"),
    ],
)
def test_a_file_of_profiles_is_read_or_refused_with_the_place(
    tmp_path: Path, text: str, what: str
) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text(text)
    with pytest.raises(BadLimits, match=what):
        Profiles.read(file)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text("[default]\ntime_s = 4.0\n[night]\nmemory_mb = 300\n[maximum]\ntime_s = 3.0\n")
    own = Profiles.read(file)
    assert own.granted(LimitsAsked(profile="night"))[0].memory_mb == 300
    assert own.granted(LimitsAsked())[0].time_s == 3
