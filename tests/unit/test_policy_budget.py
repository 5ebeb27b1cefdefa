"""What a vehicle's policy lets be used in a day: never exceeded, whatever the order of things."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future
from contextlib import ExitStack, closing
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.done import withheld
from edge_runtime.journal import EdgeJournal, Journal, JournalFull
from edge_runtime.journal.schema import SCHEMA, VERSION
from edge_runtime.policy.account import NOTHING, DayAccount
from edge_runtime.policy.day import Day
from protocol.account import Budget, Usage
from protocol.errors import PolicyBudget
from protocol.lifecycle import TaskState
from protocol.messages import TaskReport
from protocol.outcome import Exceeded, Kind, Limit, Outcome

DAY = 86_400.0
BUDGET = Budget(container_starts=6, cpu_s=10.0, bytes_sent=500)


class Memory:
    """A journal's day in memory, which outlives the account."""

    def __init__(self) -> None:
        self.kept: tuple[int, Usage] | None = None

    def day(self) -> tuple[int, Usage] | None:
        return self.kept

    def keep_day(self, day: int, usage: Usage) -> Future[None]:
        self.kept = day, usage
        done: Future[None] = Future()
        done.set_result(None)
        return done


class Clock:
    """A wall clock that is set."""

    def __init__(self) -> None:
        self.now = 20_000 * DAY + 43_200

    def __call__(self) -> float:
        return self.now


CALLS = st.tuples(st.just("call"), st.integers(1, 5), st.floats(0, 1))
ENDS = st.tuples(st.just("end"), st.integers(0, 3), st.floats(0, 1))
ANSWERS = st.tuples(st.just("answer"), st.integers(1, 300), st.floats(0, 1))
BACK = st.tuples(st.just("back"), st.integers(1, 86_400), st.floats(0, 1))
STEPS = st.one_of(CALLS, ENDS, ANSWERS, BACK, st.just(("killed", 0, 0.0)))


@given(st.lists(STEPS, max_size=40))
def test_a_days_budget_is_never_exceeded_whatever_the_order(
    steps: list[tuple[str, int, float]],
) -> None:
    # Time does not go on here, it is only set back: it is one day, and nothing comes back in it.
    memory, clock = Memory(), Clock()
    account = DayAccount(cast("EdgeJournal", memory), clock)
    used, running = NOTHING, []
    for step, number, share in steps:
        match step:
            case "call":
                stack = ExitStack()
                try:
                    grant = stack.enter_context(account.call(BUDGET, number))
                except PolicyBudget:
                    continue
                assert 1 <= grant.cpu_s <= number
                running.append((stack, grant, share))
            case "end" if running:
                stack, grant, part = running.pop(number % len(running))
                took = Usage(cpu_s=grant.cpu_s * part, container_starts=1)
                grant.used, used = took, used + took
                stack.close()
            case "answer":
                report = Usage(bytes_sent=number)
                if account.answer(BUDGET, report, withhold=True) is None:
                    used = used + report
            case "back":
                clock.now = max(clock.now - number, 19_999 * DAY + 43_200)
            case "killed":  # what ran may have used all that it was granted
                for _, grant, _ in running:
                    used = used + Usage(cpu_s=grant.cpu_s, container_starts=1)
                running = []
                account = DayAccount(cast("EdgeJournal", memory), clock)
        assert used.container_starts <= 6
        assert used.cpu_s <= 10.0 + 1e-6
        assert used.bytes_sent <= 500


def test_many_threads_get_no_more_than_there_is() -> None:
    account = DayAccount(cast("EdgeJournal", Memory()), Clock())
    begin, got = threading.Barrier(16), []

    def call() -> None:
        begin.wait()
        try:
            with account.call(Budget(container_starts=5), 1) as grant:
                got.append(grant)
                grant.used = Usage(container_starts=1)
        except PolicyBudget:
            pass

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 5


DAYS = st.builds(
    Day,
    st.integers(19_000, 21_000),
    st.builds(Usage, cpu_s=st.floats(0, 100), container_starts=st.integers(0, 9)),
)


@given(DAYS, st.floats(0, 3e9))
def test_a_clock_that_goes_back_gives_nothing_back(day: Day, now: float) -> None:
    shown = int(now // DAY)
    after = day.at(now)
    if shown <= day.number:
        assert after.used == day.used
    else:
        assert after == Day(shown, NOTHING)
    # A day behind it is a midnight that comes twice; further, the clock was wrong before.
    assert after.number == (day.number if shown == day.number - 1 else shown)


def test_a_new_day_has_the_whole_budget_but_for_what_still_runs() -> None:
    memory, clock = Memory(), Clock()
    account = DayAccount(cast("EdgeJournal", memory), clock)
    with account.call(BUDGET, 4):
        clock.now += DAY
        with account.call(BUDGET, 9) as grant:
            assert grant.cpu_s == 6
    assert memory.kept == (20_001, Usage(cpu_s=10, container_starts=2))


def test_nothing_is_begun_once_something_is_used_up() -> None:
    account = DayAccount(cast("EdgeJournal", Memory()), Clock())
    account.look(BUDGET)
    assert account.answer(BUDGET, Usage(cpu_s=12.0, bytes_sent=1), withhold=False) is None
    with pytest.raises(PolicyBudget, match="10 s of processor time be used a day, and 12 are"):
        account.look(BUDGET)
    account.look(Budget())


def test_a_call_that_hits_what_the_day_had_left_says_so() -> None:
    account = DayAccount(cast("EdgeJournal", Memory()), Clock())
    hit = Outcome(
        kind=Kind.LIMIT_EXCEEDED,
        exceeded=Exceeded(limit=Limit.CPU, configured=2, seen=2.1, unit="s"),
        cpu_s=2.0,
        starts=1,
    )
    with account.call(Budget(cpu_s=2.5), 5) as grant:
        assert grant.cpu_s == 2
        told = grant.take(hit)
    assert told.exceeded is not None
    assert told.exceeded.limit is Limit.BUDGET
    assert "the vehicle's policy had left for today" in told.describe()
    with account.call(Budget(cpu_s=100), 5) as grant:
        assert grant.take(hit) == hit


def test_a_result_that_does_not_fit_is_withheld_and_its_refusal_goes_out() -> None:
    account = DayAccount(cast("EdgeJournal", Memory()), Clock())
    refusal = account.answer(BUDGET, Usage(bytes_sent=501), withhold=True)
    assert refusal is not None
    report = TaskReport(
        id="r1", task="t1", attempt=1, state=TaskState.SUCCEEDED, digest=64 * "a",
        outcome=Outcome(kind=Kind.VALUE, value=[1.0] * 99), usage=Usage(cpu_s=1.0),
    )  # fmt: skip
    told = withheld(report, refusal)
    assert (told.state, told.outcome.kind) == (TaskState.REJECTED, Kind.REFUSED)
    assert (told.outcome.code, told.outcome.value) == ("policy_budget", None)
    assert (told.digest, told.receipt, told.usage) == (None, None, report.usage)
    assert account.answer(BUDGET, Usage(bytes_sent=600), withhold=False) is None


def test_what_was_used_survives_a_restart_and_is_each_vehicles_own(tmp_path: Path) -> None:
    clock = Clock()
    with closing(Journal(tmp_path / "journal.db")) as journal:
        account = DayAccount(EdgeJournal(journal, "vehicles-car-1"), clock)
        with account.call(BUDGET, 4) as grant:
            grant.used = Usage(cpu_s=1.5, container_starts=1)
    with closing(Journal(tmp_path / "journal.db")) as journal:
        edge = EdgeJournal(journal, "vehicles-car-1")
        assert edge.day() == (20_000, Usage(cpu_s=1.5, container_starts=1))
        with DayAccount(edge, clock).call(BUDGET, 10) as grant:
            assert grant.cpu_s == 8
        assert EdgeJournal(journal, "vehicles-car-2").day() is None


def test_a_journal_of_the_release_before_gets_the_table_and_keeps_what_it_has(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(f"{SCHEMA} PRAGMA user_version=1;")
        old.execute("INSERT INTO sessions VALUES ('vehicles-car-1', 7)")
    with closing(Journal(path)) as journal:
        edge = EdgeJournal(journal, "vehicles-car-1")
        assert (edge.sessions(), edge.day()) == (7, None)
        edge.keep_day(1, NOTHING).result(10)
        assert edge.day() == (1, NOTHING)
        assert journal.read("PRAGMA user_version", ()) == [(VERSION,)]
    assert list(tmp_path.glob("*aside*")) == []


def test_without_an_account_nothing_is_begun() -> None:
    class Full(Memory):
        def day(self) -> tuple[int, Usage] | None:
            raise JournalFull

    account = DayAccount(cast("EdgeJournal", Full()), Clock())
    with pytest.raises(PolicyBudget, match="cannot keep the account"):
        account.look(BUDGET)
    with pytest.raises(PolicyBudget), account.call(BUDGET, 1):
        raise AssertionError
    assert account.answer(BUDGET, NOTHING, withhold=True) is not None


def test_an_account_that_the_disk_does_not_take_promises_nothing() -> None:
    class Full(Memory):
        def keep_day(self, day: int, usage: Usage) -> Future[None]:
            del day, usage
            failed: Future[None] = Future()
            failed.set_exception(JournalFull())
            return failed

    account = DayAccount(cast("EdgeJournal", Full()), Clock())
    for _ in range(20):
        with pytest.raises(PolicyBudget, match="cannot keep"), account.call(BUDGET, 1):
            raise AssertionError
    account.look(BUDGET)  # nothing was used by it
