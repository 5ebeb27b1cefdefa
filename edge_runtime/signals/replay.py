"""What sources that can be read from any sample on have in common: checks and pace."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from array import array
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from edge_runtime.signals.port import Taken
from protocol.errors import UnknownSignal
from protocol.methods import near_misses

#: Samples of one signal that are made before other tasks get their turn: a few milliseconds.
SLICE: Final = 500
#: How often somebody is told of the samples that are in, in seconds.
TELL_S: Final = 1.0


class Replay(ABC):
    """A source whose samples are a function of their number."""

    def __init__(self, signals: Mapping[str, str], rate_hz: float | None) -> None:
        _check_rate(rate_hz)
        self._signals = MappingProxyType(dict(signals))
        self._rate_hz = rate_hz

    @property
    def signals(self) -> Mapping[str, str]:
        """The signals there are: name to unit, which may be empty."""
        return self._signals

    @property
    def rate_hz(self) -> float | None:
        """The pace of the replay in samples per second; None is without waiting."""
        return self._rate_hz

    @abstractmethod
    def samples(self, signal: str, first: int, count: int) -> array[float]:
        """Return samples first to first + count - 1 of a signal that there is, in its unit."""

    def at_once(
        self, signals: Sequence[str], *, first: int, count: int, rate_hz: float | None = None
    ) -> dict[str, array[float]] | None:
        """Return a window of each signal if there is no pace; see `port.Source`."""
        if self._pace(signals, first, count, rate_hz) is not None:
            return None
        return {signal: self.samples(signal, first, count) for signal in signals}

    def _pace(
        self, signals: Sequence[str], first: int, count: int, rate_hz: float | None
    ) -> float | None:
        """The pace of a window in samples per second. Raises what `collect` does."""
        for signal in signals:
            if signal not in self._signals:
                raise _unknown(signal, self._signals)
        if count < 1 or first < 0:
            raise ValueError(f"no window has {count} samples from number {first} on")
        _check_rate(rate_hz)
        return self._rate_hz if rate_hz is None else rate_hz

    async def collect(
        self,
        signals: Sequence[str],
        *,
        first: int,
        count: int,
        rate_hz: float | None = None,
        taken: Taken | None = None,
    ) -> dict[str, array[float]]:
        """Return a window of each signal at the pace of the rate; see `port.Source`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        pace = self._pace(signals, first, count, rate_hz)
        window = {signal: array("d") for signal in signals}
        # With a pace, so many at a time that somebody can be told each second.
        step = count if pace is None else max(1, math.ceil(pace * TELL_S))
        for done in range(0, count, step):
            upto = min(done + step, count)
            for signal, gathered in window.items():
                for start in range(done, upto, SLICE):
                    number = min(SLICE, upto - start)
                    gathered.extend(self.samples(signal, first + start, number))
                    await asyncio.sleep(0)
            if pace is not None:
                # To the moment of the sample, so that the time of the work above does not add up.
                await asyncio.sleep(began + upto / pace - loop.time())
                if taken is not None:
                    taken(upto, window)
        return window


def _check_rate(rate_hz: float | None) -> None:
    if rate_hz is not None and not 0 < rate_hz < math.inf:
        raise ValueError(f"a rate of {rate_hz} samples per second is not positive and finite")


def _unknown(signal: str, known: Mapping[str, str]) -> UnknownSignal:
    close = near_misses(signal, known)
    hint = f"did you mean {' or '.join(close)}?" if close else "`oodida vehicles` lists what it has"
    return UnknownSignal(f"this vehicle has no signal {signal[:60]!r}; {hint}", near_misses=close)
