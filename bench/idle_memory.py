"""Memory of one idle edge runtime process: proportional set size, in MB.

    .venv/bin/python bench/idle_memory.py [runs]

Measured when it is connected and waits for its first order, and again when it waits after a
built-in method and a custom module, which load NumPy and the engine's client library.
"""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

import oodida
from bench._measure import MODULE, print_figures


def pss_mb(pid: int) -> float:
    """Proportional set size: private pages, and a share of each that is shared."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise LookupError("the kernel tells no proportional set size")
    return int(found[1]) * 1024 / 1e6


def process_of(name: str) -> int:
    """The process of the vehicle of this name."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if b"edge_runtime" in words and f"--name={name}".encode() in words:
            return int(path.parent.name)
    raise LookupError(f"no process of {name}")


def main(runs: int) -> None:
    """Start a fleet of one, so many times."""
    fresh, used = [], []
    for number in range(runs):
        name = f"idle-{number}"
        with oodida.local({name: None}) as fleet:
            pid = process_of(name)
            fresh.append(pss_mb(pid))
            fleet.deploy(MODULE.read_text(), name="module")
            for onboard in (
                oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=50),
                oodida.Onboard("custom", module="module", signals="VEHICLE_SPEED", samples=50),
            ):
                run = fleet.submit(
                    oodida.Assignment(onboard=onboard, offboard=oodida.Offboard("mean"))
                )
                run.result()
            used.append(pss_mb(pid))
    print_figures(
        "idle_memory",
        runs=runs,
        idle_mb=round(statistics.median(fresh), 1),
        idle_after_work_mb=round(statistics.median(used), 1),
        all_idle_mb=[round(m, 1) for m in fresh],
        all_after_work_mb=[round(m, 1) for m in used],
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
