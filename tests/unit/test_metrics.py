"""Instruments, and what a scraper is told of them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from edge_runtime import metrics as edge
from orchestrator import metrics as cloud
from protocol.errors import SetupError
from protocol.metrics import Counter, Gauge, Histogram, Instrument, Wsgi, gather, reading
from protocol.monitor import monitored
from tests.conftest import ROOT

ALL = [*cloud.INSTRUMENTS, *edge.INSTRUMENTS]


def ask(told: Wsgi) -> str:
    status: list[str] = []

    def start(line: str, _headers: Any) -> None:
        status.append(line)

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""}
    text = b"".join(told(environ, start)).decode()
    assert status == ["200 OK"]
    return text


def test_nothing_is_counted_until_somebody_asks() -> None:
    counter, sizes = Counter("a_total", "A.", ("kind",)), Histogram("b_seconds", "B.")
    counter.add("x")
    sizes.observe(1.0)
    assert 'a_total{kind="x"}' not in ask(gather([counter, sizes]))


def test_what_is_counted_is_told() -> None:
    counter, sizes = Counter("a_total", "A.", ("kind",)), Histogram("b_seconds", "B.", buckets=(1,))
    told = gather([counter, sizes])
    counter.add("x")
    counter.add("x", by=2)
    for size in (0.5, 5):
        sizes.observe(size)
    text = ask(told)
    assert 'a_total{kind="x"} 3.0' in text
    assert 'b_seconds_bucket{le="1.0"} 1.0' in text
    assert "b_seconds_count 2.0" in text
    assert "process_resident_memory_bytes" in text


def test_a_gauge_is_the_sum_of_its_sources_and_one_that_fails_is_left_out() -> None:
    gauge = Gauge("c", "C.", ("role",))

    def broken() -> float:
        raise OSError("gone")

    def workers(count: float) -> dict[tuple[str, ...], float]:
        return {("worker",): count}

    one, two = {gauge: lambda: workers(1)}, {gauge: lambda: workers(2)}
    with reading(one), reading(two), reading({gauge: broken}):
        assert 'c{role="worker"} 3.0' in ask(gather([gauge]))
    assert not gauge.sources


@pytest.mark.parametrize("instrument", ALL, ids=lambda instrument: instrument.name)
def test_names_are_as_the_ecosystem_writes_them(instrument: Instrument) -> None:
    assert re.fullmatch(r"oodida_(orchestrator|edge)(_[a-z]+)+", instrument.name)
    assert instrument.name.endswith("_total") == isinstance(instrument, Counter)
    assert instrument.text.endswith(".")
    # Of vehicles, users and assignments there is no end; a label is of a closed set.
    assert set(instrument.labels) <= {
        "channel", "role", "kind", "mode", "code", "state", "result", "outcome", "what",
    }  # fmt: skip


def test_no_name_is_given_twice() -> None:
    assert len({instrument.name for instrument in ALL}) == len(ALL)


@pytest.mark.parametrize("instrument", ALL, ids=lambda instrument: instrument.name)
def test_the_reference_has_each_as_it_is(instrument: Instrument) -> None:
    labels = ", ".join(f"`{label}`" for label in instrument.labels) or "–"  # noqa: RUF001
    row = f"| `{instrument.name}` | {instrument.kind} | {labels} | {instrument.text} |"
    assert row in (ROOT / "docs" / "reference" / "metrics.md").read_text().splitlines()


def test_the_reference_has_no_other() -> None:
    told = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    named = set(re.findall(r"^\| `(oodida_[a-z_]+)`", told, re.MULTILINE))
    assert named == {instrument.name for instrument in ALL}


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.org", "10.1"])  # noqa: S104
def test_nobody_listens_beyond_this_machine_unless_it_is_said(host: str) -> None:
    async def listen() -> None:
        async with monitored(f"{host}:0", (), {}):
            raise AssertionError(host)

    with pytest.raises(SetupError, match="--metrics-in-the-clear"):
        asyncio.run(listen())


@pytest.mark.parametrize("where", ["0", "127.0.0.1:0", "localhost:0", ":0"])
def test_on_this_machine_nothing_has_to_be_said(where: str) -> None:
    async def listen() -> int:
        async with monitored(where, (), {}) as found:
            assert found is not None
            return found.port

    assert asyncio.run(listen()) > 0
