"""A running assignment, and what comes of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, overload

from oodida.connection import REQUEST_S, Connection
from oodida.participation import Standing, standings
from protocol import values
from protocol.account import Gaps
from protocol.assignment import Assignment
from protocol.errors import (
    AssignmentCancelled,
    AssignmentFailed,
    BadProof,
    BadRequest,
    LinkError,
    RequestTimeout,
    ValueRemoved,
    from_code,
)
from protocol.lifecycle import AssignmentState
from protocol.messages import (
    Cancel,
    Change,
    EndEvent,
    Entry,
    Event,
    Head,
    History,
    IterationEvent,
    IterationLedger,
    ListChanges,
    ListParticipation,
    ProgressEvent,
    Prove,
    Resume,
)
from protocol.participation import Participation
from protocol.proof import Proof
from protocol.values import Value

#: Events tell of iterations at once; this often is asked whether one was missed.
POLL_S: Final = 5.0


@dataclass(frozen=True)
class Result:
    """What one vehicle answered in one iteration.

    ``digest`` and ``generation`` name the code that made it, ``outcome`` is how the call ended
    ("value" if it did well), ``seconds`` is how long the vehicle took, window included.
    ``iteration`` is the one that it was made for: the one before, for an answer that came late and
    is combined in this one. ``gaps`` says where its window was interrupted; None: nowhere.
    """

    vehicle: str
    value: Value
    digest: str | None
    generation: int
    outcome: str
    seconds: float
    printed: str = field(default="", repr=False)
    iteration: int = 0
    gaps: Gaps | None = None


@dataclass(frozen=True)
class Iteration:
    """One finished round.

    ``results`` holds the answers: those that were combined (outcome "value"), and failures.
    ``participation`` says of every targeted vehicle whether it is in, and why not. ``removed``: it
    is older than what the cloud keeps, and value and results are gone.
    """

    number: int
    value: Value
    results: list[Result]
    participation: Mapping[str, Participation]
    removed: bool = False


class Run:
    """An assignment that was submitted. Iterating gives its iterations as they come.

    Iterating ends when the assignment has ended, however it did, or is halted; `result` raises if
    it failed or is halted. Both go on after `resume`: the iterator where it was, whoever resumed.
    Both raise CloudAway when nothing was heard of the cloud for the connection's ``patience_s``;
    asked again, they wait again.
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
        self._ledgers: list[IterationLedger] = []
        self._changed = threading.Condition()
        connection.listen(id_, self._on_event, self._catch_up)

    def __repr__(self) -> str:
        state = self._end.state.value if self._end else "running"
        return f"<Run {self.id} {state}, {len(self._iterations)} iterations>"

    def __iter__(self) -> Iterator[Iteration]:
        return _Iterations(self._await)

    def _await(self, number: int) -> Iteration | None:
        return self._iterations[number - 1] if self._wait_for(number, None) else None

    @property
    def iterations(self) -> list[Iteration]:
        """The iterations that have come so far."""
        return list(self._iterations)

    @property
    def ended(self) -> bool:
        """True if there will be no further iteration; a halted one may be resumed."""
        return self._end is not None and not self.halted

    @property
    def halted(self) -> bool:
        """True if it waits for a repair of its module, as far as is known: then `resume` it."""
        return self._end is not None and self._end.state is AssignmentState.HALTED

    @property
    def state(self) -> AssignmentState:
        """Where it stands, as far as is known: "collecting" as long as it runs."""
        return self._end.state if self._end is not None else AssignmentState.COLLECTING

    @property
    def progress(self) -> tuple[int, int, int]:
        """(iteration, vehicles that have answered, vehicles asked) of the iteration under way."""
        p = self._progress
        return (p.iteration, p.answered, p.expected) if p else (len(self._iterations) + 1, 0, 0)

    def result(self, timeout_s: float | None = None) -> Value:
        """The last iteration's value, when the assignment has ended.

        Raises AssignmentFailed with the reason if it failed (its ``participation`` says why each
        vehicle is missing), AssignmentCancelled if it was cancelled, AssignmentHalted if it waits
        for a repair, ValueRemoved if the cloud keeps its value no more, and RequestTimeout if it
        has not ended within ``timeout_s``.
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
        last = self._iterations[-1]
        if last.removed:
            raise ValueRemoved(
                f"the value of iteration {last.number} of {self.id} is older than what this cloud "
                "keeps; `run.participation()` still tells who took part"
            )
        return last.value

    def cancel(self) -> None:
        """End the assignment: vehicles stop what they do for it. No harm if it has ended."""
        self._connection.ask(Cancel(user_id=self._connection.user, assignment=self.id))

    def resume(self) -> None:
        """Go on after a halt: the iteration is begun again, with the code that is current now.

        Deploy the repair first. Raises NotHalted if the assignment is not halted.
        """
        self._connection.ask(Resume(user_id=self._connection.user, assignment=self.id))
        with self._changed:
            self._go_on()
            self._changed.notify_all()

    @overload
    def participation(self, iteration: None = None) -> Mapping[str, Standing]: ...

    @overload
    def participation(self, iteration: int) -> Mapping[str, Participation]: ...

    def participation(
        self, iteration: int | None = None
    ) -> Mapping[str, Standing] | Mapping[str, Participation]:
        """Why each vehicle is in or out: ``run.participation()["car-17"].reason``.

        Of the newest iteration that is closed, each vehicle with its ``history``; or of one
        ``iteration``. The cloud keeps it for ever, also of iterations that failed or halted, and
        when values have been deleted. Raises BadRequest for an iteration that is not closed.
        """
        if iteration is not None:
            return self._ledger_of(iteration)
        # The newest may be an iteration that halted, and was begun again since.
        after = max(0, len(self._ledgers) - 1)
        del self._ledgers[after:]
        for ledger in self._ask_ledgers(self._ledgers[-1].iteration if self._ledgers else 0):
            self._ledgers.append(ledger)
        return standings(self._ledgers)

    def _ledger_of(self, number: int) -> Mapping[str, Participation]:
        if number < 1:
            raise BadRequest(f"an iteration's number is 1 or more, not {number}")
        found = next(self._ask_ledgers(number - 1), None)
        if found is None or found.iteration != number:
            raise BadRequest(f"iteration {number} of the assignment {self.id} is not closed yet")
        return dict(sorted(found.participation.items()))

    def _ask_ledgers(self, after: int) -> Iterator[IterationLedger]:
        user, more = self._connection.user, True
        while more:
            request = ListParticipation(user_id=user, assignment=self.id, after=after)
            reply = self._connection.ask(request)
            for ledger in reply.ledger or []:
                yield ledger
                after = ledger.iteration
            more = reply.more

    def proof(self, iteration: int | None = None) -> Proof:
        """What made the value of an iteration, by default the last one that has come.

        Receipts of the vehicles and of the worker, the values, and the code, all of it signed; it
        can be checked by whoever has the authority's certificate (`Proof.verify`, `oodida verify`).
        Raises BadRequest if the iteration is not done, ValueRemoved if its values are not kept any
        more, and NoProof where there are no certificates.
        """
        number = len(self._iterations) if iteration is None else iteration
        if number < 1:
            none = "no iteration has come yet: give the number of one that is done"
            raise BadRequest(none if iteration is None else "iterations are counted from 1")
        user, after, more = self._connection.user, "", True
        head: Head | None = None
        entries: list[Entry] = []
        while more:
            asked = Prove(user_id=user, assignment=self.id, iteration=number, after=after)
            reply = self._connection.ask(asked)
            head = reply.proof or head
            entries += reply.entries or []
            more = reply.more and bool(reply.entries)
            after = entries[-1].vehicle if entries else ""
        if head is None:
            raise BadProof("the cloud has sent no proof")
        return Proof(head=head, entries=tuple(entries))

    def changes(self, after: int = 0) -> list[Change]:
        """Each change of state of the assignment and its tasks so far, in order.

        ``after`` is the number of the last one that is known already.
        """
        found: list[Change] = []
        more = True
        while more:
            request = ListChanges(user_id=self._connection.user, assignment=self.id, after=after)
            reply = self._connection.ask(request)
            found += reply.changes or []
            after = found[-1].number if found else after
            more = reply.more
        return found

    def _wait_for(self, number: int, until: float | None) -> bool:
        """Wait for an iteration; False if there will be none, or the time is over."""

        def here() -> bool:
            return len(self._iterations) >= number or self._end is not None

        confirmed = False
        while True:
            while not here():
                left = POLL_S if until is None else min(POLL_S, until - time.monotonic())
                if left <= 0:
                    return False
                with self._changed:
                    come = self._changed.wait_for(here, left)
                if not come:
                    self._ask_for_news(left)
            if len(self._iterations) >= number or not self.halted or confirmed:
                return len(self._iterations) >= number
            # Somebody may have resumed it, and the word of it been lost. Asked anew: an answer that
            # is under way already may be older than that.
            confirmed = True
            with contextlib.suppress(LinkError):
                self._connection.do(self._ask(REQUEST_S))
            confirmed = self.halted

    def _ask_for_news(self, timeout_s: float) -> None:
        """Ask whether something was missed; what cannot be asked now is asked later."""
        try:
            self._connection.do(self._catch_up(timeout_s))
        except LinkError:
            self._connection.bear_silence(self.id)

    def catch_up(self) -> None:
        """Ask the cloud what has happened. Raises what it answers with if that is an error."""
        self._connection.do(self._catch_up())

    def forget(self) -> None:
        """Hear no more of it. The assignment goes on."""
        self._connection.unlisten(self.id, self._catch_up)

    def _on_event(self, event: Event) -> None:
        with self._changed:
            if isinstance(event, IterationEvent):
                if self.halted and event.number > len(self._iterations):
                    self._go_on()
                if event.number == len(self._iterations) + 1:
                    self._iterations.append(_iteration(event))
                elif event.number > len(self._iterations) + 1:
                    self._missed()
            elif isinstance(event, ProgressEvent):
                self._progress = event
                if self.halted:
                    self._missed()  # it was resumed, or this is late: the cloud knows
            elif isinstance(event, EndEvent) and event.iterations <= len(self._iterations):
                self._end = event
                if not self.halted:
                    self.forget()
            elif isinstance(event, EndEvent):
                self._missed()
            self._changed.notify_all()

    def _go_on(self) -> None:
        """What was halted runs again."""
        if self.halted:
            self._end = None

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
        more, end = True, False
        while more and not self.ended:
            request = History(
                user_id=self._connection.user, assignment=self.id, after=len(self._iterations)
            )
            reply = await self._connection.ask_async(request, timeout_s)
            for event in reply.history or []:
                self._on_event(event)
                end = end or isinstance(event, EndEvent)
            more = reply.more
        if not end:
            with self._changed:
                self._go_on()
                self._changed.notify_all()


class _Iterations(Iterator[Iteration]):
    """The iterations as they come. It goes on after a halt."""

    def __init__(self, wait: Callable[[int], Iteration | None]) -> None:
        self._wait, self._number = wait, 1

    def __next__(self) -> Iteration:
        found = self._wait(self._number)
        if found is None:
            raise StopIteration
        self._number += 1
        return found


def _iteration(event: IterationEvent) -> Iteration:
    return Iteration(
        number=event.number,
        value=values.unpack(event.value),
        results=[
            Result(
                vehicle=r.vehicle,
                value=values.unpack(r.value),
                digest=r.digest,
                generation=r.generation,
                outcome=r.outcome.value,
                seconds=r.seconds,
                printed=r.printed,
                iteration=r.iteration or event.number,
                gaps=r.gaps,
            )
            for r in event.results
        ],
        participation=dict(sorted(event.participation.items())),
        removed=event.removed,
    )
