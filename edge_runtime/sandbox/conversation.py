"""One exchange with a container: the request in, what it says out, within the limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from edge_runtime.sandbox import settings
from edge_runtime.sandbox.classify import Seen, Stop, printed_by
from edge_runtime.sandbox.engine import Attached
from edge_runtime.sandbox.frames import Broken, Demultiplexer, Frames, Printed, Stream, framed
from edge_runtime.sandbox.limits import Limits

#: How long the guest program may take to be up, with its libraries, in seconds.
UP_S: Final = 60.0
#: How much later than the guest's the host's own clock ends a call, in seconds.
GRACE_S: Final = 1.5
#: How often a cancellation is looked for, in seconds.
TICK_S: Final = 0.05
#: After how many of these without taking a byte a guest is looked after.
_STALLED: Final = 10
#: How long the engine may take to pass on what was printed before the report, in seconds.
LAST_WORDS_S: Final = 1.0
#: Bytes of what was printed that are kept; with the note on what was not they fit an outcome.
KEPT: Final = 16_000
#: What the supervisor's line may take beside the answer, in bytes.
_REPORT: Final = 4096


class Conversation:
    """Talks to one container until it has answered or has to be stopped.

    Args:
        request: what the guest program reads.
        limits: of the call.
        cancelled: tells whether nobody waits for the outcome any more.
    """

    def __init__(self, request: bytes, limits: Limits, cancelled: Callable[[], bool]) -> None:
        self.printed = Printed(KEPT)
        self._request = framed(request)
        self._limits, self._cancelled = limits, cancelled
        self._streams = Demultiplexer()
        # The first frame says that the guest is up, the second is its report.
        self._frames = Frames(0, settings.answer_size(limits) + _REPORT)

    @property
    def size(self) -> int:
        """Bytes that the guest has to read."""
        return len(self._request)

    def hold(self, attached: Attached, running: Callable[[], bool]) -> Seen:
        """Return what was seen, when there is an end of whatever kind.

        ``running`` asks the engine whether the container runs: a connection on which there is
        still something to send does not end with the container.
        """
        try:
            stop = self._send(attached, running) or self._listen(attached)
        except Broken as problem:
            return Seen(None, Stop.BROKEN, str(problem))
        report = self._report() if stop is None else None
        detail = self.printed.text()[-1000:] if report is None else ""
        return Seen(report, stop, detail)

    def _send(self, attached: Attached, running: Callable[[], bool]) -> Stop | None:
        view = memoryview(self._request)
        deadline, stalled = time.monotonic() + UP_S, 0
        while view:
            if self._cancelled():
                return Stop.CANCELLED
            if time.monotonic() > deadline:
                return Stop.LATE
            sent = attached.send(view, TICK_S)
            if sent is None:  # it takes no more: listening will tell why
                break
            view = view[sent:]
            stalled = 0 if sent else stalled + 1
            if stalled and stalled % _STALLED == 0 and not running():
                return Stop.LATE
        return None

    def _listen(self, attached: Attached) -> Stop | None:
        stop = self._until(attached, lambda: self._up, time.monotonic() + UP_S)
        if stop is not None:
            return Stop.LATE if stop is Stop.TIME else stop
        deadline = time.monotonic() + self._limits.time_s + GRACE_S
        stop = self._until(attached, lambda: self._report() is not None, deadline)
        report = self._report()
        if stop is None and report is not None:
            # What was printed comes through the engine by a way of its own, perhaps later.
            printed, deadline = printed_by(report), time.monotonic() + LAST_WORDS_S
            self._until(attached, lambda: self.printed.total >= printed, deadline)
        return stop

    @property
    def _up(self) -> bool:
        return len(self._frames.complete) > 0

    def _report(self) -> bytes | None:
        return self._frames.complete[1] if len(self._frames.complete) > 1 else None

    def _until(
        self, attached: Attached, condition: Callable[[], bool], deadline: float
    ) -> Stop | None:
        """Take what comes until the condition holds or the streams end; else why to stop."""
        while not condition():
            if self._cancelled():
                return Stop.CANCELLED
            left = deadline - time.monotonic()
            if left <= 0:
                return Stop.TIME
            data = attached.receive(min(left, TICK_S))
            if data == b"":
                return None
            if data is not None:
                self._take(data)
            if self.printed.total > self._limits.output_kb * 1024:
                return Stop.OUTPUT
        return None

    def _take(self, data: bytes) -> None:
        for stream, part in self._streams.feed(data):
            if stream is Stream.STDERR:
                self.printed.feed(part)
            else:
                self._frames.feed(part)
