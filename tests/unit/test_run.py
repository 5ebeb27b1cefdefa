"""A run makes up for events that were lost, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from oodida.run import Run
from protocol.errors import AssignmentHalted
from protocol.lifecycle import AssignmentState
from protocol.messages import (
    EndEvent,
    ErrorReply,
    Event,
    History,
    IterationEvent,
    ProgressEvent,
    Reply,
)


class Wire:
    """What a run needs of a connection: it keeps what happened, and answers for it."""

    user = "ada"

    def __init__(self) -> None:
        self.happened: list[Event] = []
        self.asked: list[int] = []

    def listen(self, *_: Any) -> None:
        """Events are handed over by the test."""

    def unlisten(self, *_: Any) -> None:
        """The same."""

    def do(self, work: Coroutine[Any, Any, None], _timeout_s: float | None = None) -> None:
        asyncio.run(work)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run(work)

    async def ask_async(self, request: History, _timeout_s: float) -> Reply:
        self.asked.append(request.after)
        later = [e for e in self.happened if getattr(e, "number", 10**9) > request.after]
        return Reply(history=later)


def iteration(number: int) -> IterationEvent:
    return IterationEvent(assignment="a", number=number, value=number, results=[], participation={})


def end(iterations: int) -> EndEvent:
    return EndEvent(assignment="a", state=AssignmentState.SUCCEEDED, iterations=iterations)


def halted(iterations: int) -> EndEvent:
    error = ErrorReply(code="halted", message="it fails on too many")
    state = AssignmentState.HALTED
    return EndEvent(assignment="a", state=state, iterations=iterations, error=error)


def test_a_lost_iteration_is_asked_for_when_a_later_one_comes() -> None:
    wire: Any = Wire()
    run = Run(wire, "a")
    wire.happened = [iteration(1), iteration(2), iteration(3)]
    run._on_event(iteration(1))
    run._on_event(iteration(3))  # the second was lost
    assert [i.number for i in run.iterations] == [1, 2, 3]
    assert wire.asked == [1]


def test_a_lost_iteration_is_asked_for_when_the_end_comes() -> None:
    wire: Any = Wire()
    run = Run(wire, "a")
    wire.happened = [iteration(1), iteration(2), end(2)]
    run._on_event(iteration(1))
    run._on_event(end(2))
    assert [i.value for i in run] == [1, 2]
    assert run.result() == 2


def test_an_event_that_comes_twice_or_late_changes_nothing() -> None:
    wire: Any = Wire()
    run = Run(wire, "a")
    for event in (iteration(1), iteration(1), iteration(2), iteration(1), end(2), end(2)):
        run._on_event(event)
    assert [i.number for i in run] == [1, 2]
    assert wire.asked == []


def test_a_halted_run_goes_on_when_somebody_resumes_it() -> None:
    wire: Any = Wire()
    run = Run(wire, "a")
    wire.happened = [iteration(1), halted(1)]
    for event in wire.happened:
        run._on_event(event)
    iterations = iter(run)
    assert [i.number for i in iterations] == [1]
    assert run.halted
    assert not run.ended
    with pytest.raises(AssignmentHalted):
        run.result()
    wire.happened = [iteration(1), iteration(2), end(2)]  # and the run was told nothing of it
    assert run.result() == 2
    assert [i.number for i in iterations] == [2]
    assert run.state == "succeeded"


def test_progress_of_a_halted_run_is_believed_when_the_cloud_confirms_it() -> None:
    wire: Any = Wire()
    run = Run(wire, "a")
    wire.happened = [halted(0)]
    run._on_event(halted(0))
    progress = ProgressEvent(assignment="a", iteration=1, answered=1, expected=2)
    run._on_event(progress)  # it was sent before the halt
    assert run.state == "halted"
    wire.happened = []
    run._on_event(progress)
    assert run.state == "collecting"


def test_an_answer_that_was_asked_for_before_the_resumption_does_not_end_the_iterations() -> None:
    wire: Any = Wire()
    run = Run(wire, "a")
    run._on_event(iteration(1))
    wire.happened = [iteration(1), halted(1)]
    old = run._ask(1)  # it is under way, and will tell of the halt
    run._asking = True
    run._on_event(halted(1))
    wire.happened = [iteration(1), iteration(2), end(2)]  # somebody has resumed it
    iterations = iter(run)
    assert [next(iterations).number, next(iterations).number] == [1, 2]
    old.close()
