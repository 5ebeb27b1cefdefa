"""A short run with one seed over a small system; `make chaos` runs more, over 20 vehicles."""

from __future__ import annotations

import pytest

from tests.chaos.driver import run
from tests.chaos.schedule import SHORT, Schedule

#: It kills broker, orchestrator, worker and vehicle, freezes one, and spoils the network.
SEED = 63


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_doubled(engine: None) -> None:  # noqa: ARG001
    schedule = Schedule.of(SEED, SHORT)
    print(schedule)
    report = run(schedule)
    print(report)
    assert report.violations == []
    assert report.faults.total() > 0
    assert report.iterations > 0
