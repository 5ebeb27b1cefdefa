"""Which day it is for a budget, and what was used in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from protocol.account import Budget, Usage
from protocol.errors import PolicyBudget

_DAY_S: Final = 86_400
#: By how many days a clock may go back before it is believed that it was wrong before.
SET_BACK: Final = 1
_UNITS: Final = {
    "cpu_s": "s of processor time",
    "bytes_sent": "bytes of reports",
    "container_starts": "container starts",
}


@dataclass(frozen=True)
class Day:
    """A day by number, in UTC since 1970, and what was used in it; ``promised`` is under way."""

    number: int
    used: Usage
    promised: Usage = field(default_factory=Usage)

    @property
    def taken(self) -> Usage:
        """What was used or may be, by what is under way."""
        return self.used + self.promised

    def at(self, now: float) -> Day:
        """The day at a moment, in seconds since 1970, with what was used in it.

        A clock that goes back gives nothing back: up to a day, it is still this day; further, the
        clock was wrong before, and what was used counts for the day that it shows now.
        """
        number = int(now // _DAY_S)
        if number > self.number:
            return Day(number, Usage(), self.promised)
        if number < self.number - SET_BACK:
            return replace(self, number=number)
        return self

    def refusal(self, budget: Budget) -> PolicyBudget | None:
        """Why nothing more may be begun; None if something is left of everything."""
        over = budget.used_up(self.taken)
        if over is None:
            return None
        what, most, taken = over
        return PolicyBudget(
            f"the vehicle's policy lets {most:g} {_UNITS[what]} be used a day, and {taken:g} are "
            "used or promised; the day ends at 00:00 UTC"
        )

    def cpu_left(self, budget: Budget) -> float | None:
        """Seconds of processor time that may still be promised; None without bound."""
        return None if budget.cpu_s is None else max(0.0, budget.cpu_s - self.taken.cpu_s)

    def bytes_left(self, budget: Budget) -> int | None:
        """Bytes of reports that may still be sent; None without bound."""
        most = budget.bytes_sent
        return None if most is None else max(0, most - self.taken.bytes_sent)

    def promise(self, what: Usage) -> Day:
        """The same, with something under way that may use so much."""
        return replace(self, promised=self.promised + what)

    def settle(self, promised: Usage, used: Usage) -> Day:
        """The same, with something ended for which so much was promised, and which used so much."""
        left = Usage(
            cpu_s=max(0.0, self.promised.cpu_s - promised.cpu_s),
            bytes_sent=self.promised.bytes_sent - promised.bytes_sent,
            container_starts=self.promised.container_starts - promised.container_starts,
        )
        return replace(self, used=self.used + used, promised=left)
