"""Hours of the day at which a vehicle lets nothing be begun. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_SPAN: Final = re.compile(
    r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)", re.ASCII
)
_DAY: Final = 24 * 60


class Span(NamedTuple):
    """From a minute of the day to another, not included; over midnight if that is earlier."""

    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``22:00-06:00``. Raises ValueError."""
        found = _SPAN.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r:.40} is no HH:MM-HH:MM, such as 22:00-06:00")
        hour, minute, to_hour, to_minute = found.groups()
        start = int(hour) * 60 + int(minute)
        end = _DAY if to_hour is None else int(to_hour) * 60 + int(to_minute)
        if start == end:
            raise ValueError(f"{text!r} begins when it ends; the whole day is 00:00-24:00")
        return cls(start, end)

    def holds(self, minute: int) -> bool:
        """True if a minute of the day is within."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return "-".join(f"{at // 60:02}:{at % 60:02}" for at in self)


@dataclass(frozen=True)
class QuietHours:
    """Spans of the day, by the clock of a zone; None is the machine's own."""

    spans: tuple[Span, ...] = ()
    zone: tzinfo | None = None

    def at(self, now: float) -> Span | None:
        """The span that a moment, in seconds since 1970, is in; None if it is in none."""
        if not self.spans:
            return None
        local = datetime.fromtimestamp(now, self.zone)
        minute = local.hour * 60 + local.minute
        return next((span for span in self.spans if span.holds(minute)), None)

    @property
    def clock(self) -> str:
        """Whose clock it is, for people."""
        return "the vehicle's own time" if self.zone is None else str(self.zone)


def zone_of(name: str) -> tzinfo | None:
    """A zone by name: `local`, `UTC`, or one of the tz database. Raises ValueError."""
    if name == "local":
        return None
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"there is no zone {name!r:.60} on this machine; write local, UTC, or Europe/Stockholm"
        ) from None
