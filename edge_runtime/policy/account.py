"""The account of a day: what all assignments together have used, and what is promised to calls."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from edge_runtime.done import of_budget
from edge_runtime.journal import EdgeJournal, JournalFull
from edge_runtime.policy.day import Day
from protocol.account import Budget, Usage
from protocol.errors import PolicyBudget
from protocol.outcome import Outcome

log = logging.getLogger(__name__)

NOTHING: Final = Usage()


def bounded(budget: Budget) -> bool:
    """True if anything is bounded. Asked for each order: comparing budgets takes longer."""
    return not (budget.cpu_s is budget.bytes_sent is budget.container_starts is None)


@dataclass
class Grant:
    """What one call may use. ``used`` is what it did use; unless it is told, all that it might."""

    cpu_s: int
    left_s: float | None = None
    used: Usage | None = None

    def take(self, outcome: Outcome) -> Outcome:
        """Count a call, and return how it ended: at the day's end of the budget, if that was it."""
        self.used = Usage(cpu_s=outcome.cpu_s, container_starts=outcome.starts)
        if self.left_s is None:
            return outcome
        return of_budget(outcome, self.left_s, "the vehicle's policy had left for today")


class DayAccount:
    """What is used in a day, over restarts. Safe from several threads.

    What a call may use is kept before it begins, so that a power cut gives nothing back. While the
    policy sets no budget, nothing is counted.
    """

    def __init__(self, journal: EdgeJournal, wall: Callable[[], float]) -> None:
        self._journal, self._wall = journal, wall
        self._lock = threading.Lock()
        self._day: Day | None = None

    def look(self, budget: Budget) -> None:
        """Raise PolicyBudget if nothing is left, or if it is not known what is."""
        if not bounded(budget):
            return
        with self._lock:
            refusal = self._now().refusal(budget)
        if refusal is not None:
            raise refusal

    @contextmanager
    def call(self, budget: Budget, cpu_s: int) -> Iterator[Grant]:
        """A call of a module that asks for so much. Raises PolicyBudget if it cannot be had."""
        if not bounded(budget):
            yield Grant(cpu_s)
            return
        grant, promised = self._promise(budget, cpu_s)
        try:
            yield grant
        finally:
            with self._lock:
                self._day = self._now().settle(promised, grant.used or promised)
                self._keep(self._day)

    def _promise(self, budget: Budget, cpu_s: int) -> tuple[Grant, Usage]:
        with self._lock:
            day = self._now()
            refusal = day.refusal(budget)
            if refusal is not None:
                raise refusal
            left = day.cpu_left(budget)
            if left is not None and left < 1:
                raise PolicyBudget(
                    f"the vehicle's policy lets {budget.cpu_s:g} s of processor time be used a "
                    "day, and less than the second is left that a call takes; the day ends at "
                    "00:00 UTC"
                )
            granted = cpu_s if left is None else min(cpu_s, math.floor(left))
            promised = Usage(cpu_s=granted, container_starts=1)
            self._day = day.promise(promised)
            written = self._keep(self._day)
        try:
            written.result()
        except JournalFull as problem:
            with self._lock:
                self._day = self._now().settle(promised, NOTHING)
            raise _unknown(problem) from None
        return Grant(granted, left if granted < cpu_s else None), promised

    def answer(self, budget: Budget, used: Usage, *, withhold: bool) -> PolicyBudget | None:
        """Count a report that is about to be sent; with ``withhold``, not if it does not fit.

        Then why it does not. ``used`` is its size, and what was not counted with a call.
        """
        if not bounded(budget):
            return None
        with self._lock:
            try:
                day = self._now()
            except PolicyBudget as unknown:
                return unknown if withhold else None
            left = day.bytes_left(budget)
            if withhold and left is not None and used.bytes_sent > left:
                return PolicyBudget(
                    f"the vehicle's policy lets {budget.bytes_sent} bytes of reports be sent a "
                    f"day; {left} are left, and the result takes {used.bytes_sent}; the day ends "
                    "at 00:00 UTC"
                )
            self._day = day.settle(NOTHING, used)
            self._keep(self._day)
        return None

    def _now(self) -> Day:
        """Today. Raises PolicyBudget if it cannot be read what was used."""
        if self._day is None:
            try:
                kept = self._journal.day()
            except JournalFull as problem:
                raise _unknown(problem) from None
            self._day = Day(*kept) if kept is not None else Day(0, NOTHING)
        self._day = self._day.at(self._wall())
        return self._day

    def _keep(self, day: Day) -> Future[None]:
        return self._journal.keep_day(day.number, day.taken)


def _unknown(problem: JournalFull) -> PolicyBudget:
    log.warning("the account of the day cannot be kept: %s", problem)
    return PolicyBudget(
        "the vehicle's policy sets a budget for a day, and the vehicle cannot keep the account of "
        f"it: {problem.message}"
    )
