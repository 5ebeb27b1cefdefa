"""What a simulation tells of itself: to people a line, to programs a JSON object a line."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Final

from protocol.errors import OodidaError

#: How often progress is told at most, in seconds.
TELL_S: Final = 0.25


class Teller:
    """Tells how far it is. ``vehicles``: how many there are to be."""

    def __init__(self, vehicles: int, *, as_json: bool) -> None:
        self._vehicles, self._as_json = vehicles, as_json
        self._began = time.monotonic()
        self._next = 0.0

    def connected(self, number: int) -> None:
        """So many have connected."""
        self._progress("connected", number, last=self._vehicles)

    def left(self, number: int) -> None:
        """So many are still to say goodbye."""
        self._progress("left", number, last=0)

    def ready(self, memory_mb: float) -> None:
        """All are there, in so much memory."""
        seconds = time.monotonic() - self._began
        self._tell(
            {
                "event": "ready",
                "vehicles": self._vehicles,
                "seconds": round(seconds, 3),
                "memory_mb": round(memory_mb, 1),
            },
            f"ready: {self._vehicles} vehicles after {seconds:.1f} s, {memory_mb:.0f} MB. "
            "Ctrl-C ends them",
        )

    def failed(self, problem: OodidaError) -> None:
        """It has ended because of an error: to people on standard error, where they look."""
        if self._as_json:
            error = {"code": problem.code, "message": problem.message}
            self._tell({"event": "error", **error}, "")
        else:
            print(f"{problem.code}: {problem}", file=sys.stderr)

    def ended(self) -> None:
        """None is left."""
        self._tell({"event": "ended"}, "ended")

    def _progress(self, event: str, number: int, *, last: int) -> None:
        now = time.monotonic()
        if number != last and now < self._next:
            return
        self._next = now + TELL_S
        told = {"event": event, event: number, "vehicles": self._vehicles}
        self._tell(told, f"{event} {number} of {self._vehicles}")

    def _tell(self, told: dict[str, Any], line: str) -> None:
        try:
            print(json.dumps(told) if self._as_json else line, flush=True)
        except BrokenPipeError:
            # Nobody listens any more, which is no reason not to say goodbye to the cloud. What is
            # still to be written goes nowhere, else the interpreter would complain at its end.
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
