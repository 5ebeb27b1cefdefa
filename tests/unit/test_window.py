"""A window that is interrupted anywhere is the one that was not, and says where it was."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.clock import Clock, Stamp
from edge_runtime.journal import EdgeJournal, Journal, StoredOrder
from edge_runtime.signals import Recording
from edge_runtime.signals.port import Taken
from edge_runtime.window import Interrupted, Window, collect, pack, restore
from protocol.messages import OnboardOrder

COUNT = 20
SIGNALS = ("A", "B")


class Killed(Exception):
    """The power is gone."""


class Drive:
    """A recording at 1 Hz whose time is told, not waited for; it may lose its power."""

    def __init__(self, kill_at: int | None = None, tell_every: int = 3) -> None:
        self._samples = Recording(
            {"A": array("d", range(7)), "B": array("d", range(100, 107))}, rate_hz=None
        )
        self.signals: Mapping[str, str] = self._samples.signals
        self.rate_hz: float | None = 1.0
        self._kill_at, self._every = kill_at, tell_every
        self.now = 0.0
        self.journal: EdgeJournal | None = None

    @property
    def clock(self) -> Clock:
        return Clock("boot", lambda: self.now, lambda: 0.0)

    def at_once(self, *_: object, **__: object) -> None:
        return None

    async def collect(
        self, signals: Sequence[str], *, first: int, count: int, rate_hz: float | None = None,
        taken: Taken | None = None,
    ) -> dict[str, array[float]]:  # fmt: skip
        whole = await self._samples.collect(signals, first=first, count=count, rate_hz=None)
        for done in range(1, count + 1):
            self.now += 1.0 / (rate_hz or 1.0)
            if self._kill_at == done:
                raise Killed
            if taken is not None and (done % self._every == 0 or done == count):
                taken(done, {name: samples[:done] for name, samples in whole.items()})
                if self.journal is not None:
                    await self.journal.forget_old(0.0)  # until what was taken is on the disk
        return whole


def ordered(gaps: Literal["allow", "forbid"] = "allow") -> OnboardOrder:
    return OnboardOrder(
        id="t", assignment="x", iteration=1, user_id="ada", method="mean", signals=SIGNALS,
        samples=COUNT, first=3, timeout_s=1000, gaps=gaps,
    )  # fmt: skip


async def accept(view: EdgeJournal) -> None:
    await view.accept(StoredOrder("t", 1, "x", b"", "", Stamp("boot", 0.0, 0.0)))


async def whole_window() -> dict[str, array[float]]:
    return await Drive().collect(SIGNALS, first=3, count=COUNT)


def live(path: Path, drive: Drive, order: OnboardOrder, left_s: float = 1000.0) -> Window:
    """One life of a vehicle: what its window came to. Raises Killed."""
    journal = Journal(path)

    async def scenario() -> Window:
        view = drive.journal = EdgeJournal(journal, "car")
        if not view.has_seen("t", 1):
            await accept(view)
        return await collect(drive, view, drive.clock, order, left_s)

    try:
        return asyncio.run(scenario())
    finally:
        journal.close()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.tuples(st.integers(1, COUNT), st.floats(0, 100)), max_size=4))
def test_killed_anywhere_and_gone_on_with_it_equals_the_whole(
    tmp_path: Path, kills: list[tuple[int, float]]
) -> None:
    path = tmp_path / os.urandom(8).hex() / "journal.db"
    now = 0.0
    for kill_at, off_s in kills:
        drive = Drive(kill_at)
        drive.now = now
        try:
            live(path, drive, ordered())
        except Killed:
            now = drive.now + off_s
            continue
        break  # less was missing than it lived for
    else:
        drive = Drive()
        drive.now = now
        window = live(path, drive, ordered())
        assert window.samples == asyncio.run(whole_window())
        if window.gaps is not None:
            assert window.gaps.count <= len(kills)
            assert window.gaps.longest_s <= drive.now + 1


def test_the_longest_gap_is_from_the_last_sample_kept_to_the_first_one_after(
    tmp_path: Path,
) -> None:
    path, drive = tmp_path / "journal.db", Drive(kill_at=11)
    with pytest.raises(Killed):
        live(path, drive, ordered())  # nine samples are kept, at 9 s
    again = Drive()
    again.now = 30.0  # the tenth comes at 31 s
    gaps = live(path, again, ordered()).gaps
    assert gaps is not None
    assert gaps.count == 1
    assert gaps.longest_s == pytest.approx(22.0)


def test_where_gaps_are_forbidden_it_is_collected_once_more(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with pytest.raises(Killed):
        live(path, Drive(kill_at=11), ordered("forbid"))
    window = live(path, Drive(), ordered("forbid"), left_s=COUNT)
    assert window.gaps is None
    assert window.samples == asyncio.run(whole_window())


def test_where_gaps_are_forbidden_and_time_is_short_the_reason_says_so(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with pytest.raises(Killed):
        live(path, Drive(kill_at=11), ordered("forbid"))
    with pytest.raises(Interrupted, match=r"takes 20 s: only 19\.0 s are left"):
        live(path, Drive(), ordered("forbid"), left_s=COUNT - 1)


@given(st.lists(st.integers(1, 6), max_size=6), st.data())
def test_parts_that_do_not_follow_on_each_other_are_not_used(
    sizes: list[int], data: st.DataObject
) -> None:
    from edge_runtime.journal import StoredSamples

    window = {name: array("d", range(COUNT * 2)) for name in SIGNALS}
    parts, start = [], 0
    for size in sizes:
        packed = pack(window, start, start + size)
        parts.append(StoredSamples(start, Stamp("boot", 1.0, 1.0), 0.0, packed))
        start += size
    if parts:
        lost = data.draw(st.integers(0, len(parts) - 1))
        kept = restore(parts[:lost] + parts[lost + 1 :], SIGNALS, COUNT * 2)
        assert kept.count == parts[lost].first
    kept = restore(parts, SIGNALS, COUNT * 2)
    assert kept.samples == {name: window[name][:start] for name in SIGNALS}
