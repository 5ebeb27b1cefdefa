"""The journal after every kind of end: what was committed is there, and nothing by halves."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.clock import Stamp
from edge_runtime.journal import EdgeJournal, Journal, JournalFull, StoredOrder, StoredReport
from edge_runtime.journal import StoredSamples as Samples
from protocol.account import Usage
from tests.conftest import until

TASKS = ("a", "b", "c")
#: What a vehicle writes: (verb, task, a number to make it one's own).
WRITES = st.lists(
    st.tuples(
        st.sampled_from(["accept", "samples", "finish", "give up", "cancel", "receipt", "at once"]),
        st.sampled_from(TASKS),
        st.integers(1, 5),
    ),
    min_size=1,
    max_size=12,
)
Write = tuple[str, str, int]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.db")
    yield made
    made.close()


def order(task: str, attempt: int = 1, assignment: str = "x") -> StoredOrder:
    return StoredOrder(task, attempt, assignment, b"{}", "", Stamp("boot", 1.0, 2.0))


def report(id_: str, priority: int = 0) -> StoredReport:
    return StoredReport(id_, priority, 1.0, id_.encode(), "")


def samples(first: int, count: int = 1) -> Samples:
    return Samples(first, Stamp("boot", 1.0, 2.0), 0.0, bytes(8 * count))


async def write(view: EdgeJournal, what: Write) -> None:
    verb, task, number = what
    match verb:
        case "accept":
            await view.accept(order(task, assignment=f"of-{task}"))
        case "samples":
            await asyncio.wrap_future(view.keep_samples(task, 1, samples(number)))
        case "finish":
            usage = Usage(bytes_sent=number)
            await view.finish(task, 1, report(f"report-of-{task}"), f"of-{task}", usage)
        case "at once":
            await view.carried_out(task, 1, 2.0, report(f"report-of-{task}"))
        case "give up":
            await view.finish(task, 1, None)
        case "cancel":
            await view.cancel(f"of-{task}")
        case "receipt":
            view.received([f"report-of-{task}"])
            await view.finish("none", 1, None)  # it is on the disk when this is


State = tuple[object, ...]


def state(view: EdgeJournal) -> State:
    """All that a vehicle reads when it starts."""
    return (
        view.orders(),
        view.reports(),
        [view.has_seen(task, 1) for task in TASKS],
        [len(view.samples(task, 1)) for task in TASKS],
        [view.usage(f"of-{task}") for task in TASKS],
    )


def consistent(view: EdgeJournal) -> None:
    """What holds whenever the power goes."""
    there = {stored.task for stored in view.orders()}
    for task in TASKS:
        if task in there:
            assert view.has_seen(task, 1)
        else:
            assert view.samples(task, 1) == []


def after_power_cut(folder: Path, journal: Journal, cut: int | None = None) -> Journal:
    """What is on the disk now, as another life finds it; the log cut off at a byte."""
    folder.mkdir()
    shutil.copy(journal.path, folder / "journal.db")
    log = Path(f"{journal.path}-wal")
    if log.exists():
        shutil.copy(log, folder / "journal.db-wal")
        if cut is not None:
            os.truncate(folder / "journal.db-wal", cut % (log.stat().st_size + 1))
    return Journal(folder / "journal.db")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES, cut=st.integers(0, 10**9))
def test_wherever_the_log_is_cut_off_the_state_is_one_that_was(
    tmp_path: Path, writes: list[Write], cut: int
) -> None:
    folder = tmp_path / os.urandom(8).hex()
    journal = Journal(folder / "journal.db")
    view = EdgeJournal(journal, "car")

    async def scenario() -> list[State]:
        states = [state(view)]
        for what in writes:
            await write(view, what)
            states.append(state(view.__class__(journal, "car")))
        return states

    states = asyncio.run(scenario())
    whole = after_power_cut(folder / "whole", journal)
    part = after_power_cut(folder / "part", journal, cut)
    try:
        assert state(EdgeJournal(whole, "car")) == states[-1]
        assert state(EdgeJournal(part, "car")) in states
        consistent(EdgeJournal(part, "car"))
    finally:
        for each in (whole, part, journal):
            each.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES)
def test_a_vehicle_sees_nothing_of_what_another_writes_into_the_same_file(
    tmp_path: Path, writes: list[Write]
) -> None:
    journal = Journal(tmp_path / os.urandom(8).hex() / "journal.db")
    one, other = EdgeJournal(journal, "vehicles-one"), EdgeJournal(journal, "vehicles-other")

    async def scenario() -> None:
        await one.accept(order("a"))
        await one.report(report("r"))
        before = state(one)
        for what in writes:
            await write(other, what)
        assert state(one) == before

    asyncio.run(scenario())
    journal.close()


def test_what_was_accepted_once_is_known_when_it_is_done_with(journal: Journal) -> None:
    view = EdgeJournal(journal, "car")

    async def scenario() -> None:
        await view.accept(order("a"))
        await view.finish("a", 1, report("r"))
        await view.forget_old(before=1e12)  # a clock that jumped ahead

    asyncio.run(scenario())
    assert view.orders() == []
    assert view.has_seen("a", 1)
    assert not view.has_seen("a", 2)
    assert view.seen(10) == {("a", 1)}


def test_many_writers_share_a_commit_and_each_hears_of_its_own(journal: Journal) -> None:
    async def scenario() -> None:
        views = [EdgeJournal(journal, f"car-{i}") for i in range(300)]
        await asyncio.gather(*(view.accept(order("a")) for view in views))
        assert all(view.has_seen("a", 1) for view in views)

    asyncio.run(scenario())


def test_one_write_that_cannot_be_done_does_not_take_the_others_along(journal: Journal) -> None:
    async def scenario() -> list[object]:
        good, bad = EdgeJournal(journal, "good"), EdgeJournal(journal, "bad")
        huge = order("a", attempt=2**70)  # more than a column holds
        waiting = (good.accept(order("a")), bad.accept(huge), good.accept(order("b")))
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    one, two, three = asyncio.run(scenario())
    assert (one, three) == (None, None)
    assert isinstance(two, JournalFull)
    assert [stored.task for stored in EdgeJournal(journal, "good").orders()] == ["a", "b"]


def test_what_was_asked_for_is_written_though_the_caller_gives_up(journal: Journal) -> None:
    view = EdgeJournal(journal, "car")

    async def scenario() -> None:
        asking = asyncio.create_task(view.accept(order("a")))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await view.accept(order("b"))

    asyncio.run(scenario())
    assert [stored.task for stored in view.orders()] == ["a", "b"]


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def later_release(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()


def torn(path: Path) -> None:
    kept = Journal(path)
    asyncio.run(EdgeJournal(kept, "car").report(StoredReport("r", 0, 1.0, bytes(50_000), "")))
    kept.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))


@pytest.mark.parametrize("spoil", [garbage, later_release, torn])
def test_what_cannot_be_read_is_put_aside_and_never_stops_the_vehicle(
    tmp_path: Path, spoil: object
) -> None:
    path = tmp_path / "journal.db"
    assert callable(spoil)
    spoil(path)
    journal = Journal(path)
    assert EdgeJournal(journal, "car").orders() == []
    asyncio.run(EdgeJournal(journal, "car").accept(order("a")))
    journal.close()
    assert len(list(tmp_path.glob("journal.aside-*[0-9]"))) == 1
    again = Journal(path)
    assert [stored.task for stored in EdgeJournal(again, "car").orders()] == ["a"]
    again.close()


def test_of_journals_put_aside_the_newest_two_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for _ in range(4):
        garbage(path)
        journal = Journal(path)
        assert EdgeJournal(journal, "car").orders() == []
        journal.close()
        path.unlink()
    assert len(list(tmp_path.glob("journal.aside-*[0-9]"))) == 2


def test_a_journal_that_is_damaged_while_it_is_used_is_replaced(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    view = EdgeJournal(journal, "car")

    async def scenario() -> None:
        for i in range(50):
            await view.report(StoredReport(f"r{i}", 0, 1.0, bytes(20_000), ""))
        connection = sqlite3.connect(journal.path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with journal.path.open("r+b") as file:
            for page in range(1, 40):
                file.seek(page * 4096)
                file.write(os.urandom(4096))
        for _ in range(10):
            try:
                await view.accept(order("a"))
            except JournalFull:
                continue
            if view.has_seen("a", 1):
                return

    asyncio.run(scenario())
    assert [stored.task for stored in view.orders()] == ["a"]
    journal.close()


def test_a_receipt_that_the_disk_did_not_take_is_written_when_it_does(journal: Journal) -> None:
    view = EdgeJournal(journal, "car")
    asyncio.run(view.report(report("r")))
    assert journal._writer is not None
    journal._writer.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # nobody else can write now
    view.received(["r"])
    assert until(lambda: len(journal._left) == 1)
    other.close()
    assert until(lambda: view.reports() == [])
