"""Time that no step of the wall clock can bend: deadlines count on the boot clock.

The boot clock counts seconds since the machine started, sleep included. Within one boot it is all
that is asked; over a reboot only the wall clock tells how long the machine was off, and it is not
trusted further than a deadline reaches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Stamp(NamedTuple):
    """A moment: which boot, seconds since it began, and the wall clock's seconds since 1970."""

    boot: str
    since_boot: float
    wall: float


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # without it every start counts as another boot
        return f"process-{time.monotonic_ns()}"


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Clock:
    """The clocks of this machine; each can be given, so that tests can let them jump."""

    boot: str
    since_boot: Callable[[], float] = _since_boot
    wall: Callable[[], float] = time.time

    @classmethod
    def of_this_machine(cls) -> Clock:
        """The real ones."""
        return cls(_boot_id())

    def now(self) -> Stamp:
        """This moment."""
        return Stamp(self.boot, self.since_boot(), self.wall())

    def passed(self, since: Stamp) -> float:
        """Seconds since a moment, never fewer than 0.

        Exact within one boot, whatever the wall clock does. Over a reboot it is the wall clock's
        word: a clock that was set back makes it 0, one that was set ahead makes it too long.
        """
        if since.boot == self.boot:
            return max(0.0, self.since_boot() - since.since_boot)
        return max(0.0, self.wall() - since.wall)

    def left(self, since: Stamp, timeout_s: float) -> float:
        """What is left of a time that began at a moment: 0 to ``timeout_s`` seconds."""
        return min(timeout_s, max(0.0, timeout_s - self.passed(since)))
