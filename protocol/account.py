"""What a vehicle may spend on an assignment, what it has spent, and what its window lacks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from protocol.outcome import Frozen

_Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=2**53)]


class Usage(Frozen):
    """What was used: processor seconds of modules, bytes of reports sent, containers started."""

    cpu_s: _Seconds = 0.0
    bytes_sent: _Count = 0
    container_starts: _Count = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            cpu_s=self.cpu_s + other.cpu_s,
            bytes_sent=self.bytes_sent + other.bytes_sent,
            container_starts=self.container_starts + other.container_starts,
        )


class Budget(Frozen):
    """What each vehicle may use for an assignment at most, over all its iterations.

    ``cpu_s`` in seconds of processor time, ``bytes_sent`` in bytes of reports,
    ``container_starts`` in containers; None is without bound. The vehicle keeps the account and
    enforces it: a task that would begin with nothing left is not begun.
    """

    cpu_s: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    bytes_sent: Annotated[int, Field(ge=1, le=2**53)] | None = None
    container_starts: Annotated[int, Field(ge=1, le=2**53)] | None = None

    def used_up(self, used: Usage) -> tuple[str, float, float] | None:
        """(what, the budget of it, what was used) if nothing is left of one; else None."""
        for name, most in self:
            spent = getattr(used, name)
            if most is not None and spent >= most:
                return name, most, spent
        return None


class Gaps(Frozen):
    """Where a window was interrupted: how often, and the longest interruption in seconds."""

    count: Annotated[int, Field(ge=1, le=2**31)]
    longest_s: _Seconds
