"""A running assignment, and what comes of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from oodida.connection import REQUEST_S, Connection
from protocol import values
from protocol.assignment import Assignment
from protocol.errors import (
    AssignmentCancelled,
    AssignmentFailed,
    LinkError,
    RequestTimeout,
    from_code,
)
from protocol.lifecycle import AssignmentState
from protocol.messages import (
    Cancel,
    EndEvent,
    Event,
    History,
    IterationEvent,
    ProgressEvent,
)
from protocol.participation import Participation
from protocol.values import Value

#: Events tell of iterations at once; this often is asked whether one was missed.
POLL_S: Final = 5.0


@dataclass(frozen=True)
class Result:
    """What one vehicle answered in one iteration.

    ``digest`` and ``generation`` name the code that made it, ``outcome`` is how the call ended
    ("value" if it did well), ``seconds`` is how long the vehicle took, window included.
    """

    vehicle: str
    value: Value
    digest: str | None
    generation: int
    outcome: str
    seconds: float
    printed: str = field(default="", repr=False)


@dataclass(frozen=True)
class Iteration:
    """One finished round.

    ``results`` holds the answers: those that were combined (outcome "value"), and failures.
    ``participation`` says of every targeted vehicle whether it is in, and why not.
    """

    number: int
    value: Value
    results: list[Result]
    participation: Mapping[str, Participation]


class Run:
    """An assignment that was submitted. Iterating gives its iterations as they come.

    Iterating ends when the assignment has ended, however it did; `result` raises if it failed.
    """

    def __init__(
        self, connection: Connection, id_: str, assignment: Assignment | None = None
    ) -> None:
        self.id = id_
        self.assignment = assignment
        self._connection = connection
        self._iterations: list[Iteration] = []
        self._progress: ProgressEvent | None = None
        self._end: EndEvent | None = None
        self._asking = False
        self._changed = threading.Condition()
        connection.listen(id_, self._on_event, self._catch_up)

    def __repr__(self) -> str:
        state = self._end.state.value if self._end else "running"
        return f"<Run {self.id} {state}, {len(self._iterations)} iterations>"

    def __iter__(self) -> Iterator[Iteration]:
        number = 0
        while self._wait_for(number + 1, None):
            yield self._iterations[number]
            number += 1

    @property
    def iterations(self) -> list[Iteration]:
        """The iterations that have come so far."""
        return list(self._iterations)

    @property
    def ended(self) -> bool:
        """True if there will be no further iteration."""
        return self._end is not None

    @property
    def progress(self) -> tuple[int, int, int]:
        """(iteration, vehicles that have answered, vehicles asked) of the iteration under way."""
        p = self._progress
        return (p.iteration, p.answered, p.expected) if p else (len(self._iterations) + 1, 0, 0)

    def result(self, timeout_s: float | None = None) -> Value:
        """The last iteration's value, when the assignment has ended.

        Raises AssignmentFailed with the reason if it failed (its ``participation`` says why each
        vehicle is missing), AssignmentCancelled if it was cancelled, and RequestTimeout
        if it has not ended within ``timeout_s``.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        number = len(self._iterations) + 1
        while self._wait_for(number, until):
            number = len(self._iterations) + 1
        end = self._end
        if end is None:
            raise RequestTimeout(f"the assignment {self.id} has not ended within {timeout_s:g} s")
        if end.error is not None:
            error = from_code(end.error.code, end.error.message, end.error.details)
            if not isinstance(error, AssignmentFailed):  # whatever the reason, it is one kind
                code, error = error.code, AssignmentFailed(error.message, **error.details)
                error.details["reason_code"] = code
            raise error
        if end.state is AssignmentState.CANCELLED:
            raise AssignmentCancelled
        return self._iterations[-1].value

    def cancel(self) -> None:
        """End the assignment: vehicles stop what they do for it. No harm if it has ended."""
        self._connection.ask(Cancel(user_id=self._connection.user, assignment=self.id))

    def _wait_for(self, number: int, until: float | None) -> bool:
        """Wait for an iteration; False if there will be none, or the time is over."""

        def here() -> bool:
            return len(self._iterations) >= number or self._end is not None

        while not here():
            left = POLL_S if until is None else min(POLL_S, until - time.monotonic())
            if left <= 0:
                return False
            with self._changed:
                come = self._changed.wait_for(here, left)
            if not come:
                with contextlib.suppress(LinkError):  # what cannot be asked now is asked later
                    self._connection.do(self._catch_up(left))
        return len(self._iterations) >= number

    def catch_up(self) -> None:
        """Ask the cloud what has happened. Raises what it answers with if that is an error."""
        self._connection.do(self._catch_up())

    def forget(self) -> None:
        """Hear no more of it. The assignment goes on."""
        self._connection.unlisten(self.id, self._catch_up)

    def _on_event(self, event: Event) -> None:
        with self._changed:
            if isinstance(event, IterationEvent):
                if event.number == len(self._iterations) + 1:
                    self._iterations.append(_iteration(event))
                elif event.number > len(self._iterations) + 1:
                    self._missed()
            elif isinstance(event, ProgressEvent):
                self._progress = event
            elif isinstance(event, EndEvent) and event.iterations <= len(self._iterations):
                self._end = event
                self.forget()
            elif isinstance(event, EndEvent):
                self._missed()
            self._changed.notify_all()

    def _missed(self) -> None:
        """An event was lost: ask for it at once, unless that is being done."""
        if not self._asking:
            self._connection.start(self._catch_up())

    async def _catch_up(self, timeout_s: float = REQUEST_S) -> None:
        if self._asking:
            return
        self._asking = True
        try:
            await self._ask(timeout_s)
        finally:
            self._asking = False

    async def _ask(self, timeout_s: float) -> None:
        more = True
        while more and self._end is None:
            request = History(
                user_id=self._connection.user, assignment=self.id, after=len(self._iterations)
            )
            reply = await self._connection.ask_async(request, timeout_s)
            for event in reply.history or []:
                self._on_event(event)
            more = reply.more


def _iteration(event: IterationEvent) -> Iteration:
    return Iteration(
        number=event.number,
        value=values.unpack(values.check(event.value)),
        results=[
            Result(
                vehicle=r.vehicle,
                value=values.unpack(values.check(r.value)),
                digest=r.digest,
                generation=r.generation,
                outcome=r.outcome.value,
                seconds=r.seconds,
                printed=r.printed,
            )
            for r in event.results
        ],
        participation=dict(sorted(event.participation.items())),
    )
