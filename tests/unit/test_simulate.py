"""Which vehicles are simulated, where, and what stops it before it starts."""

from __future__ import annotations

import asyncio
import datetime as dt
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.simulate import descriptors
from edge_runtime.simulate.__main__ import main
from edge_runtime.simulate.plan import Plan, processes_for
from edge_runtime.simulate.taken import refuse_taken
from oodida.pki import Pki
from protocol import identity
from protocol.errors import BadIdentity, SetupError


def plan(count: int, first: int = 1) -> Plan:
    return Plan(
        "mqtt://h:1", Path(), count, first, attributes={"model": ("golf", "polo"), "y": (1,)}
    )


@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 100_000))
def test_parts_are_the_same_vehicles_and_of_one_size(count: int, parts: int, first: int) -> None:
    whole = plan(count, first)
    shared = list(whole.shared_among(parts))
    assert [n for part in shared for n in part.numbers] == list(whole.numbers)
    sizes = {part.count for part in shared}
    assert max(sizes) - min(sizes) <= 1
    assert 0 not in sizes
    assert len(shared) == min(count, parts)


def test_a_vehicle_is_the_same_in_whatever_part_it_is() -> None:
    whole = plan(10)
    for part in whole.shared_among(3):
        for number in part.numbers:
            assert part.name(number) == whole.name(number)
            assert part.attributes_of(number) == whole.attributes_of(number)
    assert whole.name(7) == "sim-00007"
    assert [whole.attributes_of(n)["model"] for n in (1, 2, 3)] == ["golf", "polo", "golf"]


@pytest.mark.parametrize(
    ("vehicles", "cores", "processes"), [(1, 8, 1), (2501, 8, 2), (10**6, 4, 4)]
)
def test_processes_are_no_more_than_cores(vehicles: int, cores: int, processes: int) -> None:
    assert processes_for(vehicles, cores) == processes


def test_too_low_a_limit_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 1000))
    with pytest.raises(SetupError, match="--processes"):
        descriptors.allow(1001, 801)


def test_a_low_limit_is_raised_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 1000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    descriptors.allow(50, 10)
    descriptors.allow(900, 700)
    assert asked == [(900, 1000)]


@pytest.mark.parametrize("words", [["--prefix", "a/b"], ["--prefix", "x" * 64]])
def test_names_that_cannot_be_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--vehicles", "3", "--url", "mqtt://127.0.0.1:9", *words]) == 1
    assert "makes no names" in capsys.readouterr().err


def test_a_broker_that_asks_for_certificates_is_told_before_anything_starts(
    tmp_path: Path,
) -> None:
    plan = Plan(url="mqtts://broker.example:8883", folder=Path("none"), count=2, first=4)
    with pytest.raises(
        BadIdentity, match=r"enroll vehicle sim- --count 5 --pki FOLDER.*--identities"
    ):
        asyncio.run(refuse_taken(plan))
    pki = Pki.init(tmp_path / "pki", ["broker.example"], dt.datetime.now(dt.UTC))
    pki.enroll(identity.of("vehicle", "sim-00005"), dt.datetime.now(dt.UTC))
    at = tmp_path / "pki" / "identities" / "vehicle"
    with pytest.raises(BadIdentity, match=r"1 of 2 vehicles .* such as sim-00004"):
        asyncio.run(refuse_taken(replace(plan, identities=at)))
    one = replace(plan, identities=at, first=5, count=1)
    asyncio.run(refuse_taken(one))
    assert one.identity(5) == at / "sim-00005"
    with pytest.raises(BadIdentity, match="has no TLS"):
        asyncio.run(refuse_taken(replace(one, url="mqtt://127.0.0.1:1883")))
