"""Talking to a guest program: it comes up, then calls go in and reports come out, within limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from edge_runtime.sandbox import settings
from edge_runtime.sandbox.classify import Seen, Stop, printed_by
from edge_runtime.sandbox.engine import Attached
from edge_runtime.sandbox.frames import Broken, Demultiplexer, Frames, Printed, Stream, framed
from protocol.limits import Limits

#: How long the guest program may take to be up, or to take a call, in seconds.
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
#: How long a guest that is asked to end may take, in seconds.
END_S: Final = 0.5
#: What the supervisor's line may take beside the answer, in bytes.
_REPORT: Final = 4096

Cancelled = Callable[[], bool]


class Conversation:
    """The host's side of one container's streams.

    Args:
        attached: the streams.
        processes: how many a call may have, where the guest has to see to it; 0 where it has not.
        running: asks the engine whether the container runs: a connection on which there is still
            something to send does not end with the container.
    """

    def __init__(self, attached: Attached, running: Callable[[], bool], processes: int = 0) -> None:
        self.printed = Printed(KEPT)  # by the call that is held now, or was held last
        self._attached, self._running, self._processes = attached, running, processes
        self._streams, self._frames = Demultiplexer(), Frames()
        self._output = KEPT  # bytes that may be printed now

    @property
    def quiet(self) -> bool:
        """True if nothing has come since the last exchange, not even the end."""
        return self._attached.quiet

    def close(self) -> None:
        """Ask the guest to end, and let the streams go when it has, or takes too long."""
        self._attached.send(memoryview(framed(b"")), TICK_S)
        deadline = time.monotonic() + END_S
        while (left := deadline - time.monotonic()) > 0:
            if self._attached.receive(left) == b"":
                break
        self._attached.close()

    def wait_up(self, cancelled: Cancelled) -> Seen | None:
        """Wait until the guest is up; what was seen instead, if it did not come up."""
        self._frames.expect(0, frames=2)  # up, and imported
        return self._wait(1, UP_S, cancelled, late=Stop.LATE, ended=None)

    def wait_imported(self, cancelled: Cancelled) -> Seen | None:
        """Wait until its libraries are imported; what was seen instead, if they did not let it."""
        seconds = settings.IMPORT_S
        return self._wait(0, seconds, cancelled, late=Stop.IMPORT_TIME, ended=Stop.IMPORT_END)

    def _wait(
        self, left: int, seconds: float, cancelled: Cancelled, *, late: Stop, ended: Stop | None
    ) -> Seen | None:
        """Wait until no more than so many frames are still to come."""

        def come() -> bool:
            return self._frames.expecting <= left

        try:
            stop = self._until(come, time.monotonic() + seconds, cancelled)
        except Broken as problem:
            return Seen(None, Stop.BROKEN, str(problem))
        if stop is None and come():
            return None
        if stop in (Stop.TIME, Stop.OUTPUT):
            stop = late
        return Seen(None, stop or ended, self.printed.text()[-1000:])

    def exchange(self, request: bytes, limits: Limits, cancelled: Cancelled) -> Seen:
        """Hold one call; return what was seen, when there is an end of whatever kind."""
        answer, output = settings.answer_size(limits), limits.output_kb * 1024
        self.printed, self._output = Printed(KEPT), output
        self._frames.expect(answer + _REPORT)
        numbers = json.dumps([limits.time_s, limits.cpu_s, output, answer, self._processes])
        frames = framed(numbers.encode()) + framed(request)
        try:
            stop = self._send(frames, cancelled) or self._listen(limits, cancelled)
        except Broken as problem:
            return Seen(None, Stop.BROKEN, str(problem))
        report = self._frames.last if stop is None and self._complete() else None
        return Seen(report, stop, "" if report is not None else self.printed.text()[-1000:])

    def _complete(self) -> bool:
        return not self._frames.expecting

    def _send(self, data: bytes, cancelled: Cancelled) -> Stop | None:
        view = memoryview(data)
        deadline, stalled = time.monotonic() + UP_S, 0
        while view:
            if cancelled():
                return Stop.CANCELLED
            if time.monotonic() > deadline:
                return Stop.LATE
            sent = self._attached.send(view, TICK_S)
            if sent is None:  # it takes no more: listening will tell why
                break
            view = view[sent:]
            stalled = 0 if sent else stalled + 1
            if stalled and stalled % _STALLED == 0 and not self._running():
                return Stop.LATE
        return None

    def _listen(self, limits: Limits, cancelled: Cancelled) -> Stop | None:
        deadline = time.monotonic() + limits.time_s + GRACE_S
        stop = self._until(self._complete, deadline, cancelled)
        if stop is None and self._complete():
            # What was printed comes through the engine by a way of its own, perhaps later.
            printed, deadline = printed_by(self._frames.last), time.monotonic() + LAST_WORDS_S
            self._until(lambda: self.printed.total >= printed, deadline, cancelled)
        return stop

    def _until(
        self, condition: Callable[[], bool], deadline: float, cancelled: Cancelled
    ) -> Stop | None:
        """Take what comes until the condition holds or the streams end; else why to stop."""
        while not condition():
            if cancelled():
                return Stop.CANCELLED
            left = deadline - time.monotonic()
            if left <= 0:
                return Stop.TIME
            data = self._attached.receive(min(left, TICK_S))
            if data == b"":
                return None
            if data is not None:
                self._take(data)
            if self.printed.total > self._output:
                return Stop.OUTPUT
        return None

    def _take(self, data: bytes) -> None:
        for stream, part in self._streams.feed(data):
            if stream is Stream.STDERR:
                self.printed.feed(part)
            else:
                self._frames.feed(part)
