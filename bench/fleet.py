"""One iteration of a built-in method over a whole simulated fleet, all on this machine.

    .venv/bin/python bench/fleet.py [--vehicles 100,1000,10000] [--runs 5] [--store sqlite|postgres]

From `submit` to the iteration at the analyst's library: an order to each vehicle, a window of ten
samples, the mean, the journal, a report from each, committed, combined by a worker. Beside each
size, as many bare paho clients exchange as many orders and reports on the same broker.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import oodida
from bench import _bare
from bench._broker import broker
from bench._cloud import Cloud, cloud, end_on_termination, rows, say, until, vehicles
from bench._measure import print_figures, spread

ASSIGNMENT = oodida.Assignment(
    onboard=oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=10),
    offboard=oodida.Offboard("mean"),
    deadline_s=120,
)


def iteration(fleet: oodida.Fleet, system: Cloud, number: int) -> float:
    """The seconds that one took. RuntimeError if a report was lost or doubled."""
    began = time.perf_counter()
    run = fleet.submit(ASSIGNMENT)
    (found,) = iter(run)
    seconds = time.perf_counter() - began
    included = sum(p.status == "included" for p in found.participation.values())
    if (len(found.results), included) != (number, number):
        raise RuntimeError(f"{len(found.results)} results, {included} included, of {number}")
    run.result()
    stored = rows(
        system.store,
        "SELECT count(*), count(DISTINCT edge) FROM tasks"
        " WHERE assignment = :id AND side = 'onboard' AND state = 'succeeded'",
        id=run.id,
    )
    if stored is None or tuple(stored[0]) != (number, number):
        raise RuntimeError(f"the store has {stored} for {number} reports")
    return seconds


def size(options: argparse.Namespace, number: int) -> dict[str, Any]:
    """The figures for a fleet of one size."""
    with broker() as url:
        with cloud(url, options.store) as system:
            say(f"{number} vehicles: connecting")
            with vehicles(url, number, options.processes) as told:
                until(lambda: system.online("vehicles") == number, "all are known")
                with oodida.connect(url, "bench") as fleet:
                    took = []
                    for run in range(options.runs + 1):  # the first warms up
                        cpu = system.cpu_s
                        took.append(iteration(fleet, system, number))
                        cpu = system.cpu_s - cpu
                        say(f"{number} vehicles, run {run}: {took[-1]:.2f} s, {cpu:.2f} s of CPU")
                peak = system.peak_mb
        bare = _bare.exchange(url, number, options.runs + 1)
        say(f"{number} bare clients: {' '.join(f'{s:.2f}' for s in bare)} s")
    ours, theirs = statistics.median(took[1:]), statistics.median(bare[1:])
    return {
        "vehicles": number,
        "iteration": spread(took[1:]),
        "bare_clients": spread(bare[1:]),
        "times_bare": round(ours / theirs, 2),
        "orchestrator_peak_mb": round(peak, 1),
        "connecting_s": told["seconds"],
        "connected_per_s": round(number / told["seconds"]),
        "vehicle_kb": round(told["memory_mb"] * 1000 / number, 1),
    }


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vehicles", default="100,1000,10000", help="sizes, with commas between")
    parser.add_argument("--runs", type=int, default=5, help="iterations of each size")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--processes", type=int, help="processes that share the vehicles")
    options = parser.parse_args()
    end_on_termination()
    sizes = [size(options, int(n)) for n in options.vehicles.split(",")]
    medians = {s["vehicles"]: s["iteration"]["median_ms"] for s in sizes}
    print_figures(
        "fleet",
        store=options.store,
        sizes=sizes,
        median_s={str(n): round(ms / 1000, 3) for n, ms in medians.items()},
        largest_to_second=(
            round(medians[max(medians)] / sorted(medians.values())[-2], 2)
            if len(medians) > 1
            else None
        ),
    )


if __name__ == "__main__":
    main()
