"""Runs one seed: a world, its faults, its assignments; and looks at what is there afterwards."""

from __future__ import annotations

import contextlib
import heapq
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Final, TypeVar

import oodida
from protocol.errors import (
    AssignmentCancelled,
    AssignmentFailed,
    AssignmentHalted,
    NotHalted,
    OodidaError,
)
from protocol.module import Side
from tests.chaos import asks, faults, invariants, journals, logs
from tests.chaos.asks import ADD, LOOK
from tests.chaos.evidence import Evidence
from tests.chaos.report import Report
from tests.chaos.schedule import Ask, AskKind, Fault, Schedule
from tests.chaos.world import World

#: How long the system may take to be whole again once everything is mended, in seconds.
HEAL_S: Final = 90.0
#: How long an analyst waits before asking again what the cloud could not take, in seconds.
AGAIN_S: Final = 0.5
Tell = Callable[[str], None]
T = TypeVar("T")


@dataclass
class _Asked:
    """An assignment that was submitted, and how its end was told to the analyst."""

    ask: Ask
    run: oodida.Run
    ended: str = ""
    reason: str = ""


@dataclass
class _Seed:
    """One seed under way."""

    schedule: Schedule
    world: World
    tell: Tell
    report: Report
    asked: list[_Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    repaired: threading.Event = field(default_factory=threading.Event)
    started: float = 0.0

    def say(self, what: str) -> None:
        """Tell what happens, with its time."""
        self.tell(f"{time.monotonic() - self.started:6.2f} s  {what}")

    # --- the analyst --------------------------------------------------------------------------

    def replace(self) -> None:
        """Make every replacement of the schedule, in its order, each until the cloud has it."""
        for step in self.schedule.replacements:
            self._at(step.at_s)
            if step.crashes:
                self.repaired.clear()
            source = asks.look(step.tag, crashes=step.crashes)
            self._insist(
                partial(
                    self.world.fleet.deploy,
                    source, LOOK, vehicles=oodida.Select.where(sandbox=True), wait=False,
                )
            )  # fmt: skip
            self.say(f"{step} is taken")
            if not step.crashes:
                self.repaired.set()

    def submit(self, ask: Ask) -> None:
        """Submit an assignment in its time, and see it through to its end."""
        self._at(ask.at_s)
        spec = asks.assignment(ask, self.schedule.size.vehicles)
        run = self._insist(lambda: self.world.fleet.submit(spec))
        if run is None:
            self.report.violations.append(f"{ask} was never taken")
            return
        asked = _Asked(ask, run)
        self.asked.append(asked)
        if ask.kind == "cancelled":
            next(iter(run), None)
            self._insist(run.cancel)
        # Twice its time for each iteration, on-board and off-board, and the time to mend it all.
        patience = 2 * ask.deadline_s * ask.iterations + self.schedule.size.seconds + HEAL_S
        while not asked.ended:
            self._see(asked, patience)
        self.say(f"{ask.kind} {asked.ended}")

    def _see(self, asked: _Asked, patience: float) -> None:
        """See how an assignment ends; one that halts goes on when the module is repaired."""
        try:
            asked.run.result(patience)
            asked.ended = "succeeded"
        except AssignmentCancelled:
            asked.ended = "cancelled"
        except AssignmentHalted:
            self.report.halted += 1
            self.say(f"{asked.ask.kind} halted")
            self.repaired.wait(patience)
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

    def _at(self, seconds: float) -> None:
        """Wait for a time of the schedule, unless it is all over before."""
        self.over.wait(max(0.0, self.started + seconds - time.monotonic()))

    # --- the faults ---------------------------------------------------------------------------

    def break_things(self) -> None:
        """Let everything go wrong that the schedule says, and mend each in its time."""
        draw = random.Random(f"faults {self.schedule.seed}")  # noqa: S311
        numbers = count()
        steps: list[tuple[float, int, Fault, bool]] = [
            (fault.at_s, next(numbers), fault, True) for fault in self.schedule.faults
        ]
        heapq.heapify(steps)
        while steps:
            at, _, fault, begins = heapq.heappop(steps)
            self._at(at)
            if not begins:
                faults.mend(self.world, fault)
                self.say(f"{fault.kind} {fault.part} is mended")
                continue
            if faults.begin(self.world, fault, draw):
                self.report.faults[fault.kind] += 1
                self.say(f"{fault.kind} {fault.part}")
            # Mended as long after its true beginning as the schedule says.
            ends = time.monotonic() - self.started + fault.for_s
            heapq.heappush(steps, (ends, next(numbers), fault, False))


def run(
    schedule: Schedule, *, store: str = "sqlite", tell: Tell = print, keep: bool = False
) -> Report:
    """Run a schedule on a world of its own.

    Nothing is left of it but a report, and with ``keep`` its logs, its store and its journals.
    """
    began = time.monotonic()
    report = Report([schedule.seed])
    tell(f"seed {schedule.seed}: starting {schedule.size.vehicles} vehicles on {store}")
    world = World(schedule.size, schedule.seed, store=store, small_disks=schedule.small_disks)
    with world:
        seed = _Seed(schedule, world, tell, report)
        _live(seed)
        _look(seed)
    report.notes += world.notes
    _wait(lambda: not world.left(), 10)
    report.violations += [f"{thing} is left" for thing in world.left()]
    report.seconds = time.monotonic() - began
    if report.violations or keep:
        report.notes.append(f"logs and store of seed {schedule.seed} are in {world.folder}")
    else:
        world.forget()
    return report


def _live(seed: _Seed) -> None:
    """The time of the schedule, and until all is mended and every assignment has ended."""
    world, schedule = seed.world, seed.schedule
    world.fleet.deploy(asks.look(1), LOOK, vehicles=oodida.Select.where(sandbox=True))
    world.fleet.deploy(asks.add(), ADD, to="cloud", example=asks.EXAMPLE)
    seed.repaired.set()
    seed.started = time.monotonic()
    with ThreadPoolExecutor(len(schedule.asks) + 1, thread_name_prefix="analyst") as threads:
        work = [threads.submit(seed.submit, ask) for ask in schedule.asks]
        work.append(threads.submit(seed.replace))
        try:
            seed.break_things()
            world.heal()
            seed.say("all is mended")
            for future in work:
                future.result()
        finally:
            seed.over.set()
    # The cloud may still take somebody for online who is about to come back, so once may not do.
    missing: list[str] = ["everybody"]
    last = time.monotonic() + HEAL_S
    while missing and time.monotonic() < last:
        missing = _missing(seed)
    if missing:
        seed.report.violations.append(f"after it healed, no part was taken by {missing}")


def _resume(run: oodida.Run) -> bool:
    with contextlib.suppress(NotHalted):  # it was resumed, and the answer was lost
        run.resume()
    return True


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition that takes its time itself; False if it has not come about."""
    last, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < last:
        if condition():
            return True
        pause.wait(0.1)
    return False


def _missing(seed: _Seed) -> list[str]:
    """Who takes no part once all is mended, though everybody is asked."""
    size = seed.schedule.size
    _wait(seed.world.whole, 20)
    missing: set[str] = set()
    proofs: dict[AskKind, tuple[str, ...]] = {
        "built_in": size.vehicle_names,
        "custom": size.sandboxed_names,
    }
    for kind, names in proofs.items():
        before = len(seed.asked)
        seed.submit(Ask(0.0, kind, iterations=1, deadline_s=10.0, seed=0))
        included = {
            vehicle
            for asked in seed.asked[before:]
            for iteration in asked.run.iterations
            for vehicle, p in iteration.participation.items()
            if p.status == "included"
        }
        missing |= set(names) - included
    return sorted(missing)


def _look(seed: _Seed) -> None:
    """Gather the evidence, and say what does not hold."""
    world, report = seed.world, seed.report

    def quiet() -> bool:
        world.missing()  # a turn of the cloud, in which it forgets what was sent
        waits = any(journals.waiting(world.folder))
        return not waits and not Evidence.read(world.store_url).outbox

    _wait(quiet, 30)
    report.violations += journals.waiting(world.folder)
    report.violations += journals.damaged(world.folder)
    seen = Evidence.read(world.store_url)
    report.violations += invariants.violations(seen)
    report.violations += _told(seed, seen)
    for part in world.parts.values():
        report.violations += [f"{part.name} ended by itself, with {how}" for how in part.fell]
    report.violations += [f"{name} does not run" for name in world.died()]
    excused = [(name, "disk") for name in world.disks]
    if world.database is not None:
        excused += [(name, "store") for name in seed.schedule.size.orchestrator_names]
    report.violations += logs.complaints(world.folder / "logs", excused)
    report.doubled, report.delayed = world.network.doubled(), world.network.delayed()
    report.assignments = len(seen.assignments)
    report.iterations = sum(i.done for i in seen.iterations)
    report.results = sum(t.side == Side.ONBOARD and t.state == "succeeded" for t in seen.tasks)
    report.late = invariants.late_results(seen)
    report.failed.update(asked.reason[:160] for asked in seed.asked if asked.ended == "failed")


def _told(seed: _Seed, seen: Evidence) -> list[str]:
    """What the analyst was told is what the store says."""
    found = []
    rows = {row.id: row for row in seen.assignments}
    for asked in seed.asked:
        row = rows.get(asked.run.id)
        if row is None or row.state != asked.ended:
            state = row.state if row is not None else "not there"
            found.append(f"{asked.ask}: told {asked.ended} {asked.reason}, and it is {state}")
        stored = {i.number: i for i in seen.iterations if i.assignment == asked.run.id and i.done}
        found += [
            f"{asked.ask}: told another value of iteration {iteration.number}"
            for iteration in asked.run.iterations
            if not asks.same(iteration.value, stored[iteration.number].value)
        ]
        if asked.ended == "succeeded" and len(asked.run.iterations) != len(stored):
            found.append(f"{asked.ask}: told of {len(asked.run.iterations)} of {len(stored)}")
    return found
