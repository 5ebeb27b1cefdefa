"""How much of something is left to somebody who gets some more each second."""

from __future__ import annotations

from typing import NamedTuple


class Rate(NamedTuple):
    """So much a second, and so much at once after a quiet time."""

    per_s: float
    burst: float


class Bucket(NamedTuple):
    """What was left at a time, in seconds of whatever clock."""

    left: float
    at: float

    def now(self, rate: Rate, now: float) -> Bucket:
        """What is left now. A clock that was set back gives nothing and takes nothing."""
        passed = now - self.at
        if passed <= 0:
            return self
        left = self.left + passed * rate.per_s
        return Bucket(min(rate.burst, left), now)

    def without(self, cost: float) -> Bucket | None:
        """What is left after this; None if there is not so much."""
        return Bucket(self.left - cost, self.at) if self.left >= cost else None

    def less(self, cost: float) -> Bucket:
        """What is left after this was used already; it may be less than nothing."""
        return Bucket(self.left - cost, self.at)

    def wait_s(self, rate: Rate, cost: float) -> float:
        """For how long so much will not be there, in seconds."""
        return max(0.0, (cost - self.left) / rate.per_s)
