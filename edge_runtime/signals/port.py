"""The port to signals: what the edge runtime asks of a source."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

#: Told how many samples of a window are in, and the window so far.
Taken = Callable[[int, Mapping[str, "array[float]"]], None]


class Source(Protocol):
    """Where a vehicle's signals come from: a recording, a simulated driver, one day a bus."""

    @property
    def signals(self) -> Mapping[str, str]:
        """The signals there are: name to unit, which may be empty."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """The source's own pace in samples per second; None is without waiting."""
        ...

    def at_once(
        self, signals: Sequence[str], *, first: int, count: int, rate_hz: float | None = None
    ) -> dict[str, array[float]] | None:
        """The window that `collect` would return, if nothing has to be waited for; else None.

        Raises what `collect` does.
        """
        ...

    async def collect(
        self,
        signals: Sequence[str],
        *,
        first: int,
        count: int,
        rate_hz: float | None = None,
        taken: Taken | None = None,
    ) -> dict[str, array[float]]:
        """Return the window of `count` samples of each signal.

        The window begins with sample number ``first``, counted from 0 at the assignment's start.
        A replayed source gives those samples, the same ones each time; a live one cannot go back
        and gives the next. NaN stands for a missing sample. The call lasts count / rate seconds,
        where the rate is ``rate_hz`` or else the source's own; without one it returns at once.
        It leaves the event loop free meanwhile, and can be cancelled.

        ``taken`` is told, about once a second where there is a pace, of the samples that are in:
        how many there are, and the window so far.

        Raises UnknownSignal, and ValueError for a count below 1, a negative first or a rate that
        is not positive.
        """
        ...
