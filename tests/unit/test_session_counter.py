"""The number of a connection: never used twice, and the highest for whoever came last."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_runtime.journal import EdgeJournal, Journal
from edge_runtime.session_counter import SESSIONS_AHEAD, SessionCounter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the wall clock says."""
    now = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def counter(journal: Journal) -> SessionCounter:
    """As a new life of a vehicle begins."""
    made = SessionCounter(EdgeJournal(journal, "vehicles-car-1"))
    made.recall()
    return made


def test_no_number_is_used_twice_over_restarts_though_the_clock_stands(
    tmp_path: Path, clock: list[float]
) -> None:
    used = []
    for life in range(4):
        journal = Journal(tmp_path / "journal.db")
        made = counter(journal)
        used += [made.next() for _ in range(SESSIONS_AHEAD * 2)]
        journal.close()
        clock[0] -= 100 * life  # a step back is no reason either
    assert used == sorted(set(used))


def test_whoever_connected_last_has_the_highest_number(tmp_path: Path, clock: list[float]) -> None:
    """Two with a journal each, by mistake: the one that is there must not be taken for old."""
    journals = [Journal(tmp_path / f"{n}.db") for n in (1, 2)]
    first, second = map(counter, journals)
    used = []
    for one in (first, second, first, second):
        used.append(one.next())
        clock[0] += 60
    assert used == sorted(set(used))
    for journal in journals:
        journal.close()
