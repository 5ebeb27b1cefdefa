"""What a sandboxed call costs, against what a user would use instead. All in one run.

    .venv/bin/python bench/sandbox.py [rounds]

Two modules: the one of 20 lines, and one that fits a line with scikit-learn. A warm call takes a
container that waits; the paper's mechanism spawns a process and reloads the module; `docker run`
starts a container by hand. Then how many calls a second are sustained, with everything removed,
against what the bare engine creates, starts and removes; and how many within one assignment.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench._baselines import bare_engine, docker_run, spawning
from bench._measure import MODULE, print_figures, spread
from edge_runtime.sandbox import Call, PoolSettings, Sandbox
from images.build import ensure
from protocol import values

LEARNING = Path(__file__).parent / "module_with_scikit_learn.txt"
WINDOW = [float(i % 50) for i in range(50)]
#: Calls at once where they are sustained, as an edge runtime has by default.
AT_ONCE = 4
SUSTAINED = 120


def timed(call: Callable[[], Any]) -> float:
    """Seconds that one call takes. It has to give a result."""
    started = time.perf_counter()
    if call() is None:
        raise RuntimeError("no result")
    return time.perf_counter() - started


def warm(sandbox: Sandbox, call: Call) -> float:
    """Seconds of one call with a container that waits."""
    while not sandbox.ready:
        time.sleep(0.05)
    time.sleep(0.2)  # the engine is done with the one before
    return timed(lambda: value(sandbox, call))


def value(sandbox: Sandbox, call: Call) -> Any:
    """The value of a call, which must have one."""
    outcome = sandbox.run(call)
    if not outcome.ok:
        raise RuntimeError(outcome.describe())
    return values.unpack(outcome.value)


def calls(images: dict[str, str], environment: str, source: str, rounds: int) -> dict[str, Any]:
    """Warm calls of a module against both baselines, taken in turns."""
    call = Call(source=source, environment=environment, argument=WINDOW)
    by_hand = docker_run(images[environment], source, WINDOW)
    ours: list[float] = []
    spawn: list[float] = []
    run: list[float] = []
    with (
        spawning(images[environment], source, WINDOW) as by_spawn,
        Sandbox(images, "bench", pool=PoolSettings(minimum=1)) as sandbox,
    ):
        expected = value(sandbox, call)
        if by_spawn()[1] != expected or by_hand() != expected:
            raise RuntimeError("the baselines compute something else")
        for _ in range(rounds):
            ours.append(warm(sandbox, call))
            spawn.append(by_spawn()[0])
            run.append(timed(by_hand))
    middle = statistics.median(ours)
    return {
        "warm_call": spread(ours),
        "spawn_with_reload": spread(spawn),
        "docker_run": spread(run),
        "warm_call_to_spawn": round(middle / statistics.median(spawn), 3),
        "warm_call_to_docker_run": round(middle / statistics.median(run), 3),
    }


def sustained(images: dict[str, str], source: str, rounds: int) -> dict[str, Any]:
    """Calls a second with a container each, all of them removed, and what the bare engine does."""
    call = Call(source=source, environment="minimal", argument=WINDOW)
    ours: list[float] = []
    same: list[float] = []
    trivial: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        with Sandbox(images, "bench") as sandbox, ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda _: value(sandbox, call), range(SUSTAINED)))
        ours.append(SUSTAINED / (time.perf_counter() - started))
        same.append(bare_engine(images["minimal"], SUSTAINED, AT_ONCE, trivial=False))
        trivial.append(bare_engine(images["minimal"], SUSTAINED, AT_ONCE, trivial=True))
    return {
        "calls_a_second": [round(rate, 2) for rate in ours],
        "same_containers_without_a_call": [round(rate, 2) for rate in same],
        "containers_with_an_idle_interpreter": [round(rate, 2) for rate in trivial],
        "ratio": ratio(ours, same),
        "ratio_to_idle_interpreter": ratio(ours, trivial),
    }


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios, each of two runs that followed each other."""
    return round(statistics.median(o / t for o, t in zip(ours, theirs, strict=True)), 3)


def within_an_assignment(
    images: dict[str, str], environment: str, source: str, rounds: int
) -> dict[str, Any]:
    """Calls a second, one after the other, in one assignment's container."""
    call = Call(source=source, environment=environment, argument=WINDOW)
    rates = []
    with Sandbox(images, "bench") as sandbox, sandbox.session(environment) as session:
        for number in range(rounds + 1):
            started = time.perf_counter()
            for _ in range(100):
                outcome = session.run(call)
                if not outcome.ok:
                    raise RuntimeError(outcome.describe())
            if number:
                rates.append(100 / (time.perf_counter() - started))
    return {"calls_a_second": round(statistics.median(rates), 1)}


def main(rounds: int) -> None:
    """Measure."""
    images = {name: ensure(f"sandbox-{name}") for name in ("minimal", "science")}
    small, learning = MODULE.read_text(), LEARNING.read_text()
    print_figures(
        "sandbox",
        rounds=rounds,
        module_of_20_lines=calls(images, "minimal", small, rounds),
        module_with_scikit_learn=calls(images, "science", learning, max(3, rounds // 2)),
        sustained=sustained(images, small, max(3, rounds // 5)),
        isolation_assignment={
            "module_of_20_lines": within_an_assignment(images, "minimal", small, 5),
            "module_with_scikit_learn": within_an_assignment(images, "science", learning, 3),
        },
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
