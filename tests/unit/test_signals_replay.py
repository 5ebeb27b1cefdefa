"""What every replayed source promises: windows, their wrapping, checks and pace."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.signals import Recording, SimulatedDriver, Source, open_source
from edge_runtime.signals.replay import SLICE
from protocol.errors import BadRecording, UnknownSignal

RECORDING = Recording(
    {"SPEED": array("d", range(7)), "RPM": array("d", range(70, 140, 10))}, {"SPEED": "km/h"}
)
SOURCES: dict[str, Source] = {"recording": RECORDING, "driver": SimulatedDriver("us06", seed=4)}


def collect(
    source: Source, signals: Sequence[str], first: int, count: int, rate_hz: float | None = None
) -> dict[str, array[float]]:
    return asyncio.run(source.collect(signals, first=first, count=count, rate_hz=rate_hz))


@pytest.mark.parametrize("kind", SOURCES)
@given(first=st.integers(0, 10**12), parts=st.lists(st.integers(1, 600), min_size=1, max_size=4))
def test_a_window_is_the_windows_it_is_made_of(kind: str, first: int, parts: list[int]) -> None:
    source = SOURCES[kind]
    signal = next(iter(source.signals))
    pieces = array("d")
    for part in parts:
        pieces.extend(collect(source, [signal], first + len(pieces), part)[signal])
    assert collect(source, [signal], first, sum(parts))[signal] == pieces


@given(first=st.integers(0, 10**9), count=st.integers(1, 60))
def test_after_the_last_sample_of_a_recording_comes_the_first(first: int, count: int) -> None:
    window = collect(RECORDING, ["SPEED"], first, count)["SPEED"]
    assert window.tolist() == [i % 7 for i in range(first, first + count)]
    assert len(RECORDING) == 7


@pytest.mark.parametrize("kind", SOURCES)
def test_a_window_has_the_signals_asked_for_and_is_the_callers_own(kind: str) -> None:
    source = SOURCES[kind]
    names = list(source.signals)[:2][::-1]
    window = collect(source, names, 3, 2 * SLICE + 1)
    assert list(window) == names
    assert {len(samples) for samples in window.values()} == {2 * SLICE + 1}
    window[names[0]][0] = -1.0
    assert collect(source, names, 3, 1)[names[0]][0] != -1.0


@pytest.mark.parametrize("kind", SOURCES)
def test_without_a_pace_a_window_is_there_at_once_and_the_same(kind: str) -> None:
    source = SOURCES[kind]
    names = list(source.signals)[:2]
    assert source.at_once(names, first=3, count=20) == collect(source, names, 3, 20)
    assert source.at_once(names, first=3, count=20, rate_hz=1.0) is None
    with pytest.raises(UnknownSignal):
        source.at_once(["SPED"], first=3, count=20)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("SPED", "no signal 'SPED'; did you mean SPEED?"),
        ("speed", "did you mean SPEED?"),
        ("GEAR", "no signal 'GEAR'; `oodida vehicles` lists"),
    ],
)
def test_an_unknown_signal_is_named_with_near_misses(asked: str, sentence: str) -> None:
    with pytest.raises(UnknownSignal, match=sentence) as caught:
        collect(RECORDING, ["RPM", asked], 0, 1)
    assert caught.value.code == "unknown_signal"


@pytest.mark.parametrize(
    ("first", "count", "rate_hz"),
    [(0, 0, None), (-1, 1, None), (0, 1, 0.0), (0, 1, -2.0), (0, 1, math.inf), (0, 1, math.nan)],
)
def test_windows_that_there_are_not_are_refused(
    first: int, count: int, rate_hz: float | None
) -> None:
    with pytest.raises(ValueError, match="samples"):
        collect(RECORDING, ["RPM"], first, count, rate_hz)


def test_a_source_has_no_impossible_pace() -> None:
    with pytest.raises(ValueError, match="a rate of 0 samples per second"):
        Recording({"A": array("d", [1])}, rate_hz=0)


def test_a_window_takes_count_over_rate_seconds() -> None:
    began = time.monotonic()
    collect(RECORDING, ["RPM"], 0, 30, rate_hz=300)
    assert time.monotonic() - began >= 0.099  # clocks have a grain


def test_a_source_replays_at_its_own_pace_unless_told_otherwise() -> None:
    slow = Recording({"A": array("d", [1])}, rate_hz=0.001)
    assert slow.rate_hz == 0.001
    assert collect(slow, ["A"], 0, 10, rate_hz=1e6)["A"].tolist() == [1.0] * 10
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(slow.collect(["A"], first=0, count=1), 0.01))


def test_collecting_leaves_the_event_loop_free_and_can_be_cancelled() -> None:
    async def main() -> tuple[int, bool]:
        driver = SimulatedDriver("udds")
        work = asyncio.create_task(driver.collect(list(driver.signals), first=0, count=1_000_000))
        turns = 0
        while turns < 20 and not work.done():
            await asyncio.sleep(0)
            turns += 1
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return turns, work.cancelled()

    assert asyncio.run(main()) == (20, True)


def test_windows_are_collected_side_by_side() -> None:
    async def main() -> float:
        began = time.monotonic()
        await asyncio.gather(
            *(RECORDING.collect(["RPM"], first=0, count=20, rate_hz=100) for _ in range(50))
        )
        return time.monotonic() - began

    assert asyncio.run(main()) < 50 * 0.2 / 2


def test_open_source_gives_a_recording_or_the_vehicles_own_driver(tmp_path: Path) -> None:
    path = tmp_path / "drive.csv"
    path.write_text("A\n1\n")
    recording = open_source(path, "car-1", rate_hz=5)
    assert (list(recording.signals), recording.rate_hz) == (["A"], 5)
    driver = open_source(None, "car-1")
    assert "VEHICLE_SPEED" in driver.signals
    assert driver.rate_hz is None
    with pytest.raises(BadRecording):
        open_source(str(tmp_path / "none.csv"), "car-1")


def test_a_recording_has_columns_of_one_length() -> None:
    for columns in ({}, {"A": array("d")}, {"A": array("d", [1]), "B": array("d", [1, 2])}):
        with pytest.raises(BadRecording, match="columns of one length"):
            Recording(columns)
