"""The outbox: what goes first, what has to go, and what a full disk leaves in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime import reporter as sending
from edge_runtime.clock import Stamp
from edge_runtime.journal import EdgeJournal, Journal, StoredOrder
from edge_runtime.outbox import MODULE, PROGRESS, RESULT, Bounds, Ended, excess
from edge_runtime.reporter import Reporter
from protocol import messages
from protocol.account import Usage
from protocol.lifecycle import TaskState
from protocol.link import Link, Outgoing
from protocol.messages import REPORT, ModuleReport, TaskReport
from protocol.module import Side
from protocol.outcome import Kind, Outcome
from tests.conftest import until

DAY = 86_400.0


class Entry(NamedTuple):
    priority: int
    since: float
    size: int


ENTRIES = st.lists(
    st.builds(Entry, st.sampled_from([RESULT, MODULE, PROGRESS]), st.floats(0, 20 * DAY),
              st.integers(1, 100)),
    max_size=30,
)  # fmt: skip


@given(ENTRIES, st.integers(1, 1000))
def test_what_stays_is_within_bounds_and_nothing_goes_without_need(
    entries: list[Entry], size: int
) -> None:
    now, bounds = 20 * DAY, Bounds(size, days=7)
    gone = excess(entries, bounds, now)
    left = list(entries)
    for entry in gone:
        left.remove(entry)
    assert sum(entry.size for entry in left) <= size
    assert all(entry.since >= 13 * DAY for entry in left)
    in_time = [entry for entry in gone if entry.since >= 13 * DAY]
    if in_time:  # the last one that went was needed, and nothing that stays should have gone first
        assert sum(entry.size for entry in left) + in_time[-1].size > size
        worst = max((-entry.priority, entry.since) for entry in in_time)
        assert all((-entry.priority, entry.since) >= worst for entry in left)


def task_report(id_: str, text: str = "") -> TaskReport:
    return TaskReport(
        id=id_, task=f"task-{id_}", attempt=1, state=TaskState.FAILED,
        outcome=Outcome(kind=Kind.ENGINE_FAILURE, printed=text),
    )  # fmt: skip


def module_report(id_: str) -> ModuleReport:
    return ModuleReport(
        id=id_, user_id="ada", name="m", side=Side.ONBOARD, generation=1, digest=64 * "a",
        state="ready",
    )  # fmt: skip


class Wire:
    """A link that is up, and notes what goes over it."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.more = asyncio.Event()

    async def wait_up(self) -> None:
        pass

    async def publish_many(self, outgoing: Sequence[Outgoing]) -> list[None]:
        for message in outgoing:
            self.sent.append(messages.decode(REPORT, message.payload, message.content_type).id)  # type: ignore[union-attr]
        self.more.set()
        return [None for _ in outgoing]


async def sent_by(reporter: Reporter, count: int) -> list[str]:
    """The first reports that it sends."""
    wire = Wire()
    running = asyncio.create_task(reporter.run(cast("Link", wire)))
    async with asyncio.timeout(10):
        while len(wire.sent) < count:
            await wire.more.wait()
            wire.more.clear()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return wire.sent


def test_results_go_out_before_states_of_modules_in_this_life_and_the_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")

    async def one_life() -> list[str]:
        reporter = Reporter("topic", EdgeJournal(journal, "car"))
        await reporter.report("module", module_report("module"))
        await reporter.report("result", task_report("result"))
        return await sent_by(reporter, 2)

    async def the_next() -> list[str]:
        reporter = Reporter("topic", EdgeJournal(journal, "car"))
        reporter.load()
        return await sent_by(reporter, 2)

    assert asyncio.run(one_life()) == ["result", "module"]
    assert asyncio.run(the_next()) == ["result", "module"]
    journal.close()


def test_what_is_dropped_is_out_of_the_journal_too(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")

    async def scenario() -> None:
        reporter = Reporter("topic", EdgeJournal(journal, "car"), Bounds(size=12_000))
        for i in range(4):
            await reporter.report(f"r{i}", task_report(f"r{i}", "x" * 5000))
        assert reporter.unsent == 2

    asyncio.run(scenario())
    journal.close()
    again = Journal(tmp_path / "journal.db")
    assert [report.id for report, _ in EdgeJournal(again, "car").reports()] == ["r2", "r3"]
    again.close()


def test_more_waits_on_the_disk_than_is_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "HELD", 10_000)
    journal = Journal(tmp_path / "journal.db")

    async def scenario() -> list[str]:
        reporter = Reporter("topic", EdgeJournal(journal, "car"))
        for i in range(20):
            await reporter.report(f"r{i}", task_report(f"r{i}", "x" * 5000))
        assert reporter._held <= 10_000
        return await sent_by(reporter, 20)

    assert sorted(asyncio.run(scenario())) == sorted(f"r{i}" for i in range(20))
    journal.close()


def test_what_the_disk_did_not_take_is_written_down_later_with_the_end_of_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "KEEP_AGAIN_S", 0.01)
    journal = Journal(tmp_path / "journal.db")
    view = EdgeJournal(journal, "car")

    async def scenario() -> None:
        await view.accept(StoredOrder("t", 1, "x", b"", "", Stamp("boot", 1.0, 1.0)))
        reporter = Reporter("topic", view)
        assert journal._writer is not None
        (size,) = journal._writer.execute("PRAGMA page_count").fetchone()
        journal._writer.execute(f"PRAGMA max_page_count={size}")  # no room for more
        written = messages.encode(task_report("r", "x" * 16_000))
        await reporter.ended(Ended("t", 1, "x", Usage(cpu_s=1)), "r", *written)
        assert reporter.unsent == 1
        assert view.reports() == []
        journal._writer.execute("PRAGMA max_page_count=100000")
        assert await asyncio.to_thread(until, lambda: bool(view.reports()))
        assert view.orders() == []
        assert view.usage("x").cpu_s == 1
        await reporter.close()

    asyncio.run(scenario())
    journal.close()
