"""Runs one seed: a world, its faults, its assignments; and looks at what is there afterwards."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from protocol.module import Side
from tests.chaos import evidence, faults, invariants, journals, logs
from tests.chaos.analyst import HEAL_S, Analyst
from tests.chaos.evidence import Evidence
from tests.chaos.report import Report
from tests.chaos.schedule import Ask, AskKind, Fault, Schedule
from tests.chaos.world import World

Tell = Callable[[str], None]


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
        analyst = Analyst(schedule, world.fleet, tell)
        _live(analyst, world, report)
        _look(analyst, world, report)
        if world.database is not None and (report.violations or keep):
            evidence.copy(world.store_url, world.folder / "store.db")
    report.notes += world.notes
    _wait(lambda: not world.left(), 10)
    report.violations += [f"{thing} is left" for thing in world.left()]
    report.seconds = time.monotonic() - began
    if report.violations or keep:
        report.notes.append(f"logs and store of seed {schedule.seed} are in {world.folder}")
    else:
        world.forget()
    return report


def _live(analyst: Analyst, world: World, report: Report) -> None:
    """The time of the schedule, and until all is mended and every assignment has ended."""
    schedule = analyst.schedule
    analyst.prepare()
    with ThreadPoolExecutor(len(schedule.asks) + 1, thread_name_prefix="analyst") as threads:
        work = [threads.submit(analyst.submit, ask) for ask in schedule.asks]
        work.append(threads.submit(analyst.replace))
        try:
            _break(analyst, world, report)
            world.heal()
            analyst.say("all is mended")
            for future in work:
                future.result()
        finally:
            analyst.over.set()
    # The cloud may still take somebody for online who is about to come back, so once may not do.
    missing: list[str] = ["everybody"]
    last = time.monotonic() + HEAL_S
    while missing and time.monotonic() < last:
        missing = _missing(analyst, world)
    if missing:
        report.violations.append(f"after it healed, no part was taken by {missing}")


def _break(analyst: Analyst, world: World, report: Report) -> None:
    """Let everything go wrong that the schedule says, and mend each in its time."""
    draw = random.Random(f"faults {analyst.schedule.seed}")  # noqa: S311
    numbers = count()
    steps: list[tuple[float, int, Fault, bool]] = [
        (fault.at_s, next(numbers), fault, True) for fault in analyst.schedule.faults
    ]
    heapq.heapify(steps)
    while steps:
        at, _, fault, begins = heapq.heappop(steps)
        analyst.at(at)
        if not begins:
            faults.mend(world, fault)
            analyst.say(f"{fault.kind} {fault.part} is mended")
            continue
        if faults.begin(world, fault, draw):
            report.faults[fault.kind] += 1
            analyst.say(f"{fault.kind} {fault.part}")
        # Mended as long after its true beginning as the schedule says.
        ends = time.monotonic() - analyst.started + fault.for_s
        heapq.heappush(steps, (ends, next(numbers), fault, False))


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition that takes its time itself; False if it has not come about."""
    last, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < last:
        if condition():
            return True
        pause.wait(0.1)
    return False


def _missing(analyst: Analyst, world: World) -> list[str]:
    """Who takes no part once all is mended, though everybody is asked."""
    size = analyst.schedule.size
    _wait(world.whole, 20)
    missing: set[str] = set()
    proofs: dict[AskKind, tuple[str, ...]] = {
        "built_in": size.vehicle_names,
        "custom": size.sandboxed_names,
    }
    for kind, names in proofs.items():
        before = len(analyst.asked)
        analyst.submit(Ask(0.0, kind, iterations=1, deadline_s=10.0, seed=0))
        included = {
            vehicle
            for asked in analyst.asked[before:]
            for iteration in asked.run.iterations
            for vehicle, p in iteration.participation.items()
            if p.status == "included"
        }
        missing |= set(names) - included
    return sorted(missing)


def _look(analyst: Analyst, world: World, report: Report) -> None:
    """Gather the evidence, and say what does not hold."""

    def quiet() -> bool:
        world.missing()  # a turn of the cloud, in which it forgets what was sent
        waits = any(journals.waiting(world.folder))
        return not waits and not Evidence.read(world.store_url).outbox

    _wait(quiet, 30)
    report.violations += journals.waiting(world.folder)
    report.violations += journals.damaged(world.folder)
    seen = Evidence.read(world.store_url)
    report.violations += invariants.violations(seen)
    report.violations += analyst.told(seen)
    report.violations += analyst.problems
    report.halted = analyst.halts
    for part in world.parts.values():
        report.violations += [f"{part.name} ended by itself, with {how}" for how in part.fell]
    report.violations += [f"{name} does not run" for name in world.died()]
    excused = [(name, "disk") for name in world.disks]
    if world.database is not None:
        excused += [(name, "store") for name in analyst.schedule.size.orchestrator_names]
    report.violations += logs.complaints(world.folder / "logs", excused)
    report.doubled, report.delayed = world.network.doubled(), world.network.delayed()
    report.assignments = len(seen.assignments)
    report.iterations = sum(i.done for i in seen.iterations)
    report.results = sum(t.side == Side.ONBOARD and t.state == "succeeded" for t in seen.tasks)
    report.late = invariants.late_results(seen)
    report.failed.update(asked.reason[:160] for asked in analyst.asked if asked.ended == "failed")
