"""The table of system calls: each decided once and with a reason, and rendered for the engine."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from edge_runtime.sandbox import seccomp

TABLE: Final = tomllib.loads(seccomp.TABLE.read_text())
PROFILE: Final = json.loads(seccomp.profile())
ALLOWED: Final = [call for group in TABLE["allow"] for call in group["calls"]]
REFUSED: Final = [call for key in ("removed", "both") for g in TABLE[key] for call in g["calls"]]
REASONED: Final = [*TABLE["removed"], *TABLE["both"]]
NAMED: Final = {name for rule in PROFILE["syscalls"] for name in rule["names"]}
RULES: Final = {
    name: [rule for rule in PROFILE["syscalls"] if name in rule["names"]] for name in NAMED
}


def test_each_call_is_decided_once() -> None:
    decided = Counter([*ALLOWED, *REFUSED, *TABLE["narrowed"], *TABLE["answered"]])
    assert [call for call, times in decided.items() if times > 1] == []


@pytest.mark.parametrize("group", REASONED, ids=lambda group: group["calls"][0])
def test_each_refusal_has_a_reason(group: Mapping[str, Any]) -> None:
    assert group["reason"].endswith(".")
    assert group["calls"]


@pytest.mark.parametrize("call", [*TABLE["narrowed"], *TABLE["answered"]])
def test_each_exception_has_a_reason(call: str) -> None:
    how = (TABLE["narrowed"] | TABLE["answered"])[call]
    assert how["reason"].endswith(".")


def test_what_is_not_named_is_refused() -> None:
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"
    assert PROFILE["defaultErrnoRet"] == 1
    assert set(RULES) == {*ALLOWED, *TABLE["narrowed"], *TABLE["answered"]}
    assert not set(RULES) & set(REFUSED)


@pytest.mark.parametrize("call", ALLOWED)
def test_allowed(call: str) -> None:
    assert [set(rule) for rule in RULES[call]] == [{"names", "action"}]
    assert RULES[call][0]["action"] == "SCMP_ACT_ALLOW"


def test_no_entry_for_other_programs_of_the_same_processor() -> None:
    assert {entry["architecture"] for entry in PROFILE["archMap"]} == {
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_AARCH64",
    }
    assert all(entry["subArchitectures"] == [] for entry in PROFILE["archMap"])
    assert "architectures" not in PROFILE  # the engine takes one of the two, and refuses both


@pytest.mark.parametrize("call", TABLE["narrowed"])
def test_a_narrowed_call_is_never_free(call: str) -> None:
    for rule in RULES[call]:
        assert rule["action"] == "SCMP_ACT_ALLOW"
        assert {a["index"] for a in rule["args"]} == {
            where["argument"] for where in TABLE["narrowed"][call]["where"]
        }


def _passes(call: str, *arguments: int) -> bool:
    """As the kernel runs the filter: one rule of which all conditions hold."""
    return any(
        all(arguments[a["index"]] & a["value"] == a["valueTwo"] for a in rule["args"])
        for rule in RULES[call]
    )


@pytest.mark.parametrize("family", range(50))
def test_no_socket_but_local_ones(family: int) -> None:
    assert _passes("socket", family, 1, 0) == (family == 1)
    assert _passes("socketpair", family, 1, 0) == (family == 1)


def test_the_upper_half_of_an_int_does_not_count() -> None:
    assert not _passes("socket", 0x1_0000_0028)
    assert _passes("socket", 0xDEAD_0000_0001)
    assert not _passes("prlimit64", 0x1_0000_0001)


@pytest.mark.parametrize("flag", [1 << bit for bit in range(32)])
def test_no_namespace_by_clone(flag: int) -> None:
    spaces = {0x2_0000} | {1 << bit for bit in range(25, 31)}
    assert _passes("clone", flag | 17) == (flag not in spaces | {0x8000})


def test_all_combinations_of_conditions() -> None:
    where = TABLE["narrowed"]["setsockopt"]["where"]
    wanted = set(itertools.product(*(condition["is"] for condition in where)))
    found = {tuple(a["valueTwo"] for a in rule["args"]) for rule in RULES["setsockopt"]}
    assert found == wanted
    assert _passes("setsockopt", 3, 1, 2)
    assert not _passes("setsockopt", 3, 1, 26)
    assert not _passes("setsockopt", 3, 6, 2)


def test_clone3_is_not_there() -> None:
    assert [(r["action"], r["errnoRet"]) for r in RULES["clone3"]] == [("SCMP_ACT_ERRNO", 38)]


def test_each_refused_call_is_made_by_the_attacks() -> None:
    path = Path(__file__).parent.parent / "attack" / "numbers_x86_64.toml"
    numbers = tomllib.loads(path.read_text())
    assert {*REFUSED, *TABLE["narrowed"], *TABLE["answered"]} == set(numbers)
    assert len(set(numbers.values())) == len(numbers)


def test_it_is_made_once() -> None:
    assert seccomp.profile() is seccomp.profile()
    assert "\n" not in seccomp.profile()
