"""The analyst: asks, replaces, resumes, and sees everything through to its end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

import oodida
from protocol.errors import (
    AssignmentCancelled,
    AssignmentFailed,
    AssignmentHalted,
    NotHalted,
    OodidaError,
)
from tests.chaos import asks
from tests.chaos.asks import ADD, LOOK
from tests.chaos.evidence import Evidence
from tests.chaos.schedule import Ask, Schedule

#: How long the system may take to be whole again once everything is mended, in seconds.
HEAL_S: Final = 90.0
#: How long is waited before asking again what the cloud could not take, in seconds.
AGAIN_S: Final = 0.5
SANDBOXED: Final = oodida.Select.where(sandbox=True)
T = TypeVar("T")


@dataclass
class Asked:
    """An assignment that was submitted, and how its end was told."""

    ask: Ask
    run: oodida.Run
    ended: str = ""
    reason: str = ""
    halted: bool = False


@dataclass
class Analyst:
    """Whoever asks. ``started`` is when the schedule began; ``over`` is set when all is mended."""

    schedule: Schedule
    fleet: oodida.Fleet
    tell: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)
    asked: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    repaired: threading.Event = field(default_factory=threading.Event)
    halts: int = 0
    tag: int = 1  # of the newest module that does not crash
    problems: list[str] = field(default_factory=list)

    def say(self, what: str) -> None:
        """Tell what happens, with its time."""
        self.tell(f"{time.monotonic() - self.started:6.2f} s  {what}")

    def at(self, seconds: float) -> None:
        """Wait for a time of the schedule, unless it is all over before."""
        self.over.wait(max(0.0, self.started + seconds - time.monotonic()))

    def prepare(self) -> None:
        """Deploy both modules, and begin."""
        self.fleet.deploy(asks.look(1), LOOK, vehicles=SANDBOXED)
        self.fleet.deploy(asks.add(), ADD, to="cloud", example=asks.EXAMPLE)
        self.repaired.set()
        self.started = time.monotonic()

    def replace(self) -> None:
        """Make every replacement of the schedule, in its order, each until the cloud has it."""
        for step in self.schedule.replacements:
            self.at(step.at_s)
            if step.crashes:
                self.repaired.clear()
            source = asks.look(step.tag, crashes=step.crashes)
            self._insist(partial(self.fleet.deploy, source, LOOK, vehicles=SANDBOXED, wait=False))
            self.say(f"{step} is taken")
            if not step.crashes:
                self.tag = step.tag
                self.repaired.set()

    def submit(self, ask: Ask) -> None:
        """Submit an assignment in its time, and see it through to its end."""
        self.at(ask.at_s)
        spec = asks.assignment(ask, self.schedule.size.vehicles)
        run = self._insist(lambda: self.fleet.submit(spec))
        if run is None:
            self.problems.append(f"{ask} was never taken")
            return
        asked = Asked(ask, run)
        self.asked.append(asked)
        if ask.kind == "cancelled":
            next(iter(run), None)
            self._insist(run.cancel)
        # Twice its time for each iteration, on-board and off-board, and the time to mend it all.
        patience = 2 * ask.deadline_s * ask.iterations + self.schedule.size.seconds + HEAL_S
        while not asked.ended:
            self._see(asked, patience)
        self.say(f"{ask.kind} {asked.ended}")

    def _see(self, asked: Asked, patience: float) -> None:
        """See how an assignment ends; one that halts goes on when the module is repaired."""
        try:
            asked.run.result(patience)
            asked.ended = "succeeded"
        except AssignmentCancelled:
            asked.ended = "cancelled"
        except AssignmentHalted:
            self.halts += 1
            self.say(f"{asked.ask.kind} halted")
            self.repaired.wait(patience)
            if asked.halted:  # the repair was refused: nobody could try it while all was down
                source = asks.look(self.tag)
                self._insist(partial(self.fleet.deploy, source, LOOK, vehicles=SANDBOXED))
            asked.halted = True
            self._insist(lambda: _resume(asked.run))
        except AssignmentFailed as failure:
            asked.ended, asked.reason = "failed", failure.message
        except OodidaError as problem:
            asked.ended, asked.reason = "lost", problem.message

    def _insist(self, ask: Callable[[], T]) -> T | None:
        """Ask until it is taken; None if that does not come about long after all is mended."""
        last = time.monotonic() + self.schedule.size.seconds + HEAL_S
        while time.monotonic() < last:
            try:
                return ask()
            except OodidaError as problem:
                self.say(f"asked again: {problem.code}: {problem.message[:100]}")
                threading.Event().wait(AGAIN_S)
        return None

    def told(self, seen: Evidence) -> list[str]:
        """What the analyst was told is what the store says."""
        found = []
        rows = {row.id: row for row in seen.assignments}
        for asked in self.asked:
            row = rows.get(asked.run.id)
            if row is None or row.state != asked.ended:
                state = row.state if row is not None else "not there"
                found.append(f"{asked.ask}: told {asked.ended} {asked.reason}, and it is {state}")
            stored = {
                i.number: i for i in seen.iterations if i.assignment == asked.run.id and i.done
            }
            found += [
                f"{asked.ask}: told another value of iteration {iteration.number}"
                for iteration in asked.run.iterations
                if not asks.same(iteration.value, stored[iteration.number].value)
            ]
            if asked.ended == "succeeded" and len(asked.run.iterations) != len(stored):
                found.append(f"{asked.ask}: told of {len(asked.run.iterations)} of {len(stored)}")
        return found


def _resume(run: oodida.Run) -> bool:
    with contextlib.suppress(NotHalted):  # it was resumed, and the answer was lost
        run.resume()
    return True
