"""From a changed module to the first combined result at the analyst, with three vehicles.

    .venv/bin/python bench/turnaround.py [rounds]

Each round changes the module, deploys it (tried on the analyst's side, verified in the cloud's
sandbox, ready on every vehicle), submits an assignment of one iteration and waits for its value.
A round begins when worker and vehicles have a container ready again, as they have a moment after
the round before.
"""

from __future__ import annotations

import contextlib
import sys
import time

import docker

import oodida
from bench._measure import MODULE, print_figures, spread

#: A used container is removed after a second, and replaced before that.
STEADY_S = 2.0
VEHICLES = ("car-1", "car-2", "car-3")
OWNERS = ("worker-worker-1", *(f"vehicle-{name}" for name in VEHICLES))


def wait_until_ready(engine: docker.APIClient) -> None:
    """Wait until worker and vehicles have their containers ready, and what was used is removed."""
    seen, since = None, time.monotonic()
    while seen is None or time.monotonic() - since < STEADY_S:
        now = []
        for owner in OWNERS:
            wanted = {"label": f"io.oodida.owner={owner}"}
            now.append({(c["Id"], c["State"]) for c in engine.containers(all=True, filters=wanted)})
        if now != seen or not all(now) or any(s != "running" for each in now for _, s in each):
            seen, since = now, time.monotonic()
        time.sleep(0.1)


def one_round(fleet: oodida.Fleet, engine: docker.APIClient, number: int) -> tuple[float, float]:
    """Seconds of deploying a module that differs by `number`, and of its first iteration."""
    changed = MODULE.read_text().replace("LIMIT = 1.5", f"LIMIT = {1.5 + number / 1000}")
    wait_until_ready(engine)
    started = time.perf_counter()
    deployment = fleet.deploy(changed, name="module")
    deployed = time.perf_counter()
    run = fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("custom", module="module", signals="VEHICLE_SPEED", samples=50),
            offboard=oodida.Offboard("mean"),
        )
    )
    run.result()
    ended = time.perf_counter()
    (iteration,) = run.iterations
    if {r.digest for r in iteration.results} != {deployment.digest}:
        raise RuntimeError("the result is not of the code that was just deployed")
    return deployed - started, ended - deployed


def main(rounds: int) -> None:
    """Measure so many rounds, after one that warms the caches up."""
    total, deploying, running = [], [], []
    with (
        contextlib.closing(docker.APIClient(version="auto")) as engine,
        oodida.local(dict.fromkeys(VEHICLES)) as fleet,
    ):
        for number in range(rounds + 1):
            deploy, run = one_round(fleet, engine, number)
            if number:
                total.append(deploy + run)
                deploying.append(deploy)
                running.append(run)
    print_figures(
        "turnaround",
        vehicles=3,
        rounds=rounds,
        containers="warm",
        changed_to_first_result=spread(total),
        of_which_deploying=spread(deploying),
        of_which_first_iteration=spread(running),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
