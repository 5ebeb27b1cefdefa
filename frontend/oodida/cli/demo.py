"""The demonstration: code travels to vehicles, and is replaced in the middle of an assignment."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, Final

from rich.rule import Rule
from rich.syntax import Syntax

from oodida.cli import show
from oodida.connecting import connect
from oodida.local import local
from oodida.run import Iteration, Run
from protocol.assignment import Assignment, Offboard, Onboard
from protocol.errors import AssignmentFailed, BadRequest

ITERATIONS: Final = 8
RATE_HZ: Final = 40.0
SAMPLES: Final = 30
#: After which iteration Ada deploys her repair.
REPLACED_AFTER: Final = 3

FIRST: Final = '''\
"""How hard does this driver brake? The hardest deceleration in m/s2."""


def custom_code(window):
    speeds = [v / 3.6 for v in window]              # km/h at 1 Hz
    return max(a - b for a, b in zip(speeds, speeds[1:]))
'''
SECOND: Final = '''\
"""How hard does this driver brake? Now the share of samples beyond 1 m/s2."""


def custom_code(window):
    speeds = [v / 3.6 for v in window]              # km/h at 1 Hz
    drops = [a - b for a, b in zip(speeds, speeds[1:])]
    return sum(d > 1.0 for d in drops) / len(drops)
'''
RECORDINGS: Final = ("drive1.csv", "live1.csv", "ufpe1.csv")


def demo(recordings: Path | None, *, as_json: bool) -> None:
    """Run it. ``recordings`` is a folder of CSV files; None looks where they may lie."""
    story = _Story(as_json=as_json)
    vehicles = _vehicles(recordings)
    story.step(
        "A fleet on this machine",
        "Broker in a container; orchestrator, an off-board worker and three vehicles as processes.",
        *(
            f"{name} replays {path or 'its own driver on an EPA cycle'}"
            for name, path in vehicles.items()
        ),
    )
    started = time.monotonic()
    with local(vehicles, user="ada", others=["bob"], rate_hz=RATE_HZ, progress=story.note) as ada:
        story.fact("fleet_up_s", time.monotonic() - started)
        folder = ada.identity.with_name("bob") if ada.identity is not None else None
        with connect(ada.url, user="bob", identity=folder) as bob:
            story.step(
                "Bob starts an assignment of his own", "The mean speed, for as long as Ada works."
            )
            watched = _Watched(bob.submit(_bobs()))
            story.step("Ada deploys a module of hers")
            story.code(FIRST)
            first = story.timed("deployed_s", lambda: ada.deploy(FIRST, "harsh_braking"))
            story.note(f"verified in the cloud's sandbox; {_states(first.states)}")
            run = ada.submit(_adas())
            story.step(
                "It runs on every vehicle, each call in a fresh container",
                "Watch the code's digest: it is part of every result.",
            )
            second = None
            for iteration in run:
                story.iteration(iteration)
                if iteration.number == REPLACED_AFTER:
                    story.step("Ada replaces it while it runs, nothing is restarted")
                    story.code(SECOND)
                    second = story.timed("replaced_s", lambda: ada.deploy(SECOND, "harsh_braking"))
                    story.note(f"generation {second.generation}; {_states(second.states)}")
            run.result()
            watched.stop()
            story.end(first.digest, second.digest if second else "", run.iterations, watched)


def _adas() -> Assignment:
    return Assignment(
        onboard=Onboard("custom", module="harsh_braking", signals="VEHICLE_SPEED", samples=SAMPLES),
        offboard=Offboard("max"),
        iterations=ITERATIONS,
    )


def _bobs() -> Assignment:
    return Assignment(
        onboard=Onboard("mean", signals="VEHICLE_SPEED", samples=SAMPLES // 2),
        offboard=Offboard("mean"),
        iterations=10_000,
    )


def _vehicles(recordings: Path | None) -> dict[str, Path | None]:
    given = recordings or os.environ.get("OODIDA_RECORDINGS")
    folder = Path(given) if given else Path("../shared/data/carobd")
    files = [folder / name for name in RECORDINGS if (folder / name).is_file()]
    if len(files) < len(RECORDINGS):
        files = sorted(folder.glob("*.csv"))[:3] if folder.is_dir() else []
    if recordings is not None and not files:
        raise BadRequest(f"{recordings} holds no CSV recording")
    return {f"car-{i + 1}": files[i] if i < len(files) else None for i in range(3)}


def _states(states: dict[str, str]) -> str:
    return ", ".join(f"{vehicle} {state}" for vehicle, state in states.items())


class _Watched:
    """Bob's assignment, followed in a thread: when each iteration came."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.times: list[float] = []
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        for _ in self.run:
            self.times.append(time.monotonic())

    def stop(self) -> None:
        self.run.cancel()
        self._thread.join()

    @property
    def longest_gap_s(self) -> float:
        return max((b - a for a, b in zip(self.times, self.times[1:], strict=False)), default=0.0)


class _Story:
    """What is told on the way: for people as it happens, for programs at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._facts: dict[str, Any] = {}
        self._number = 0

    def step(self, title: str, *lines: str) -> None:
        if self._json:
            return
        self._number += 1
        show.out.print()
        show.out.print(Rule(f"{self._number}. {title}", align="left", style="cyan"))
        for line in lines:
            show.out.print(show.text(line))

    def note(self, line: str) -> None:
        if not self._json:
            show.out.print(show.text(f"  {line}"), style="dim")

    def code(self, source: str) -> None:
        if not self._json:
            show.out.print(Syntax(source, "python", background_color="default"))

    def fact(self, name: str, value: Any) -> None:
        self._facts[name] = value

    def timed(self, name: str, work: Any) -> Any:
        started = time.monotonic()
        done = work()
        self.fact(name, time.monotonic() - started)
        self.note(f"took {self._facts[name]:.2f} s")
        return done

    def iteration(self, iteration: Iteration) -> None:
        if not self._json:
            show.out.print(show.iteration_line(iteration))

    def end(self, first: str, second: str, iterations: list[Iteration], bob: _Watched) -> None:
        mixed = [i.number for i in iterations if len({r.digest for r in i.results}) > 1]
        codes = [i.results[0].digest for i in iterations]
        if mixed or codes[0] != first or codes[-1] != second:
            raise AssignmentFailed(f"the replacement did not go as it should: {codes}, {mixed}")
        self._facts |= {
            "iterations": [show.iteration(i) for i in iterations],
            "bobs_iterations": len(bob.run.iterations),
            "bobs_longest_gap_s": bob.longest_gap_s,
        }
        if self._json:
            show.as_json(self._facts)
            return
        self.step(
            "What happened",
            f"{codes.count(first)} iterations with {first[:12]}, then {codes.count(second)} with "
            f"{second[:12]}; in none were results of both mixed.",
            f"Deploying took {self._facts['deployed_s']:.2f} s, replacing "
            f"{self._facts['replaced_s']:.2f} s; nothing was restarted.",
            f"Bob's assignment went on: {len(bob.run.iterations)} iterations, the longest pause "
            f"between two {bob.longest_gap_s:.2f} s.",
        )
