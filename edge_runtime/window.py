"""A window that fills: what is in is kept in the journal, so that ignition off does not lose it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from edge_runtime.clock import Clock, Stamp
from edge_runtime.journal import EdgeJournal, StoredSamples
from edge_runtime.signals import Source
from protocol.account import Gaps
from protocol.errors import OodidaError, UnknownSignal
from protocol.messages import OnboardOrder
from protocol.result_receipt import WindowRead

_ITEM: Final = array("d").itemsize


class Interrupted(OodidaError):
    """The window was interrupted, which is forbidden here, and there is no time for another."""

    code = "window_interrupted"


@dataclass
class Window:
    """The samples of each signal, where they were interrupted, and when the first was awaited.

    ``began`` is in seconds since 1970.
    """

    samples: dict[str, array[float]]
    gaps: Gaps | None = None
    began: float = 0.0


@dataclass
class Kept:
    """What the journal holds of a window, and how it was interrupted so far."""

    samples: dict[str, array[float]]
    last: Stamp | None = None
    interruptions: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many samples of each signal there are."""
        return min((len(s) for s in self.samples.values()), default=0)


def restore(parts: Sequence[StoredSamples], signals: Sequence[str], most: int) -> Kept:
    """What is kept of a window of at most ``most`` samples. Pure.

    A part that does not follow on the one before, or is not whole, ends what can be used.
    """
    kept = Kept({signal: array("d") for signal in signals})
    for part in parts:
        number, rest = divmod(len(part.data), _ITEM * len(signals))
        if rest or not number or part.first != kept.count or kept.count + number > most:
            break
        size = number * _ITEM
        for i, signal in enumerate(signals):
            kept.samples[signal].frombytes(part.data[i * size : (i + 1) * size])
        kept.last = part.stamp
        if part.gap_s > 0:
            kept.interruptions.append(part.gap_s)
    return kept


def pack(window: Mapping[str, array[float]], start: int, stop: int) -> bytes:
    """Samples number ``start`` to ``stop`` of each signal, in the order of the signals."""
    return b"".join(samples[start:stop].tobytes() for samples in window.values())


async def collect(
    source: Source | None, journal: EdgeJournal, clock: Clock, order: OnboardOrder, left_s: float
) -> Window:
    """Fill an order's window, or go on where it was interrupted.

    ``left_s`` is the time that the order has left, in seconds. Raises UnknownSignal, and
    Interrupted where the assignment forbids gaps.
    """
    if source is None:
        raise UnknownSignal("a worker has no signals")
    names = [order.signals] if isinstance(order.signals, str) else list(order.signals)
    parts = journal.samples(order.id, order.attempt)
    kept = restore(parts, names, order.samples)
    began = parts[0].stamp.wall if kept.count else clock.now().wall
    gap_s = 0.0
    pace = source.rate_hz if order.rate_hz is None else order.rate_hz
    if kept.last is not None:
        gap_s = clock.passed(kept.last) + (1 / pace if pace else 0.0)  # the next is still to come
        if order.gaps == "forbid":
            if pace and order.samples / pace > left_s:
                raise Interrupted(
                    f"its window was interrupted for {gap_s:.1f} s, which the assignment forbids, "
                    f"and to collect it once more takes {order.samples / pace:g} s: "
                    f"only {left_s:.1f} s are left"
                )
            await journal.forget_samples(order.id, order.attempt)
            kept, gap_s = Kept({name: array("d") for name in names}), 0.0
            began = clock.now().wall
    done = kept.count
    interruptions = [*kept.interruptions, *([gap_s] if gap_s > 0 and done < order.samples else [])]
    if done < order.samples:
        checkpoint = _Checkpoint(journal, clock, order, done, gap_s)
        rest = await source.collect(
            names,
            first=order.first + done,
            count=order.samples - done,
            rate_hz=order.rate_hz,
            taken=checkpoint,
        )
        for name in names:
            kept.samples[name].extend(rest[name])
    gaps = None
    if interruptions:
        gaps = Gaps(count=len(interruptions), longest_s=max(interruptions))
    return Window(kept.samples, gaps, began)


def window_read(order: OnboardOrder, began: float, ended: float, gaps: Gaps | None) -> WindowRead:
    """What a receipt says of an order's window. A clock that was set back ends it as it began."""
    names = (order.signals,) if isinstance(order.signals, str) else order.signals
    return WindowRead(
        signals=names,
        first=order.first,
        count=order.samples,
        began=max(0.0, began),
        ended=max(0.0, began, ended),
        gaps=gaps,
    )


class _Checkpoint:
    """Keeps the samples of a window as they come; what the disk did not take comes with the next.

    ``done`` is how many were there before, ``gap_s`` the interruption after them in seconds.
    """

    def __init__(
        self, journal: EdgeJournal, clock: Clock, order: OnboardOrder, done: int, gap_s: float
    ) -> None:
        self._journal, self._clock, self._order = journal, clock, order
        self._done, self._gap_s = done, gap_s
        self._stored = self._asked = 0
        self._writing: Future[None] | None = None

    def __call__(self, number: int, window: Mapping[str, array[float]]) -> None:
        """There are ``number`` samples of each signal in this window now."""
        order = self._order
        if self._writing is not None:
            if not self._writing.done():
                return  # the disk is slow: what is in now comes with what follows
            if self._writing.exception() is None:
                self._stored = self._asked
        if self._done + number >= order.samples:
            return  # the answer follows at once
        part = StoredSamples(
            first=self._done + self._stored,
            stamp=self._clock.now(),
            gap_s=0.0 if self._stored else self._gap_s,
            data=pack(window, self._stored, number),
        )
        self._writing = self._journal.keep_samples(order.id, order.attempt, part)
        self._asked = number
