"""What the doctor thinks of what an engine says, without any engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.doctor import judge, trials
from edge_runtime.doctor.judge import Version
from protocol import values
from protocol.finding import Level
from protocol.outcome import Exceeded, Kind, Limit, Outcome

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1.1.5+ds1", (1, 1, 5)),
        ("v1.3.0-rc.1", (1, 3, 0)),
        ("20.10.24+dfsg1", (20, 10, 24)),
        ("6.18.44-fc-v669", (6, 18, 44)),
        ("6.1-arm64", (6, 1, 0)),
        ("unknown", None),
        ("", None),
    ],
)
def test_versions_as_distributions_write_them(
    text: str, numbers: tuple[int, int, int] | None
) -> None:
    assert Version.of(text) == numbers


@given(
    st.integers(0, 999), st.integers(0, 999), st.integers(0, 999), st.text("-+~.rcv", max_size=4)
)
def test_a_version_is_read_back(major: int, minor: int, patch: int, rest: str) -> None:
    assert Version.of(f"v{major}.{minor}.{patch}{rest}") == (major, minor, patch)


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("1.1.5+ds1", WARNING),
        ("1.1.15", WARNING),
        ("1.2.7", WARNING),
        ("1.2.8", OK),
        ("1.2.9+ds1", OK),
        ("1.3.0", WARNING),
        ("1.3.2", WARNING),
        ("1.3.3", OK),
        ("1.4.0-rc.2", WARNING),
        ("1.4.0-rc.3", OK),
        ("1.4.0", OK),
        ("2.0.0", OK),
        ("", WARNING),
    ],
)
def test_runc_is_known_by_its_holes(version: str, level: Level) -> None:
    found = judge.runc({"Engine": "1", "runc": version})
    assert found.level is level
    assert bool(found.todo) == (level is not OK)


def test_an_engine_without_runc_is_said_to_have_none() -> None:
    found = judge.runc({"crun": "1.8"})
    assert (found.level, "crun 1.8" in found.seen) == (WARNING, True)


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("20.10.24+dfsg1", OK),
        ("28.2.2", OK),
        ("20.10.9", PROBLEM),
        ("19.3", PROBLEM),
        ("x", WARNING),
    ],
)
def test_the_engine_is_new_enough(version: str, level: Level) -> None:
    assert judge.engine(version, "1.41").level is level


@pytest.mark.parametrize(
    ("version", "own", "level"),
    [("24.0.9", True, OK), ("24.0.9", False, WARNING), ("25.0.0", False, OK), ("", False, WARNING)],
)
def test_io_uring_is_closed_by_our_profile_or_by_a_new_engine(
    version: str, own: bool, level: Level
) -> None:
    assert judge.io_uring(version, own_profile=own).level is level


@pytest.mark.parametrize(
    ("release", "level"), [("6.1.0-18-amd64", OK), ("5.4.0", WARNING), ("?", WARNING)]
)
def test_kernels_grow_old(release: str, level: Level) -> None:
    assert judge.kernel(release).level is level


ABLE = {"MemoryLimit": True, "SwapLimit": True, "PidsLimit": True, "CpuCfsQuota": True}


@pytest.mark.parametrize(
    ("info", "level", "word"),
    [
        (ABLE, OK, ""),
        ({}, OK, ""),  # not said: then what is tried decides
        ({**ABLE, "SwapLimit": False}, WARNING, "swap"),
        ({**ABLE, "MemoryLimit": False}, PROBLEM, "memory"),
        ({**ABLE, "PidsLimit": False, "SwapLimit": False}, PROBLEM, "swap, processes"),
    ],
)
def test_limits_that_the_engine_does_without(info: dict[str, Any], level: Level, word: str) -> None:
    found = judge.support(info)
    assert (found.level, word in found.seen) == (level, True)


def test_settings_of_the_engine() -> None:
    assert judge.seccomp(["name=apparmor", "name=seccomp,profile=default"]).level is OK
    assert judge.seccomp(["name=apparmor"]).level is PROBLEM
    assert judge.cgroups("2", "systemd").level is OK
    assert judge.cgroups("2", "none").level is PROBLEM
    assert judge.gvisor(["runc"], None).level is OK
    assert judge.gvisor(["runc"], "runsc").level is PROBLEM
    assert judge.gvisor(["runc", "runsc"], "runsc").level is OK


@pytest.mark.parametrize(
    ("wanted", "role", "level"),
    [
        ({}, "vehicle", WARNING),
        ({"minimal": "a:1"}, "vehicle", OK),
        ({"minimal": "a:1"}, "worker", WARNING),
        ({"minimal": "a:1", "science": "host:5000/b"}, "worker", OK),
        ({"minimal": "a:1", "science": "b@sha256:00"}, "vehicle", OK),
        ({"minimal": "a:2"}, "vehicle", PROBLEM),
        ({"minimal": "a"}, "vehicle", PROBLEM),
    ],
)
def test_images_are_here(wanted: dict[str, str], role: str, level: Level) -> None:
    present = {"a:1", "host:5000/b:latest", "b@sha256:00"}
    assert judge.images(wanted, present, role).level is level


def test_room() -> None:
    mb = 2**20
    found = [judge.disk(free, "/x").level for free in (100 * mb, 1000 * mb, 9000 * mb, None)]
    assert found == [PROBLEM, WARNING, OK, WARNING]
    found = [judge.memory(8000 * mb, free).level for free in (100 * mb, 300 * mb, 900 * mb, None)]
    assert found == [PROBLEM, WARNING, OK, OK]
    assert judge.memory(64 * mb, None).level is PROBLEM


@pytest.mark.parametrize(
    ("host", "there", "may", "tls", "level", "todo"),
    [
        ("unix:///x", True, True, False, OK, ""),
        ("unix:///x", True, False, False, PROBLEM, "usermod -aG docker ada"),
        ("unix:///x", False, False, False, PROBLEM, "start the engine"),
        ("tcp://host:2375", False, False, False, WARNING, "TLS"),
        ("tcp://host:2376", False, False, True, OK, ""),
        ("ssh://host", False, False, False, OK, ""),
    ],
)
def test_the_engine_can_be_used_by_us_and_not_by_everybody(
    host: str, there: bool, may: bool, tls: bool, level: Level, todo: str
) -> None:
    found = judge.address(host, there=there, may_write=may, user="ada", tls=tls)
    assert found.level is level
    assert todo in found.todo


#: For each trial how its call ends where the limit holds, and how where it does not.
HELD: dict[str, Any] = {
    "a call": ([1.0, 2.0], [1.0]),
    "limit of memory": (Limit.MEMORY, 24),
    "limit of processes": (Limit.PROCESSES, 40),
    "limit of time": (Limit.TIME, None),
    "limit of processor time": (Limit.CPU, None),
    "limit of output": (Limit.OUTPUT, None),
    "disk": (
        {"wrote": [], "mb": 2, "files": 31},
        {"wrote": ["/etc"], "mb": 2, "files": 31},
        {"wrote": [], "mb": 8, "files": 31},
        {"wrote": [], "mb": 1, "files": 100},
    ),
    "network": (
        {"cards": [], "reached": False},
        {"cards": ["eth0"], "reached": False},
        {"cards": [], "reached": True},
    ),
    "rights": (
        {"Uid": "65534", "CapEff": "0" * 16, "NoNewPrivs": "1"},
        {"Uid": "0", "CapEff": "0" * 16, "NoNewPrivs": "1"},
        {"Uid": "65534", "CapEff": "0" * 15 + "1", "NoNewPrivs": "1"},
        {"Uid": "65534", "CapEff": "0" * 16, "NoNewPrivs": "0"},
    ),
    "io_uring": (-1, 3),
}


def ended(how: Any) -> Outcome:
    if isinstance(how, Limit):
        exceeded = Exceeded(limit=how, configured=1, unit="s")
        return Outcome(kind=Kind.LIMIT_EXCEEDED, exceeded=exceeded)
    return Outcome(kind=Kind.VALUE, value=values.pack(how))


@pytest.mark.parametrize("trial", trials.TRIALS, ids=lambda trial: trial.name)
def test_each_trial_tells_a_limit_that_holds_from_one_that_does_not(trial: trials.Trial) -> None:
    holds, *not_so = HELD[trial.name]
    assert trial.wrong(ended(holds)) == ""
    crashed = Outcome(kind=Kind.MODULE_ERROR, reason="it crashed")
    for outcome in [crashed, *map(ended, not_so)]:
        assert trial.wrong(outcome)
    if isinstance(holds, Limit):
        other = Limit.TIME if holds is not Limit.TIME else Limit.MEMORY
        assert trial.wrong(ended(other))
