"""``python -m tests.chaos``: break a whole system at random points, and look at what is there."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from tests.chaos.driver import run
from tests.chaos.report import Report
from tests.chaos.schedule import FULL, SHORT, Schedule


def main() -> int:
    """Run the seeds that are asked for; the exit status says whether everything held."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Runs assignments over a fleet of real parts while it kills, cuts, slows, "
        "doubles and fills whatever the seed says; then checks that nothing was lost or doubled.",
        epilog="A seed that failed: --seed N. The last line is JSON.",
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 1 (default: 1)")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--vehicles", type=int, help="how many vehicles (default: 20)")
    parser.add_argument("--orchestrators", type=int, help="how many orchestrators (default: 2)")
    parser.add_argument("--short", action="store_true", help="a smaller system, for a shorter time")
    parser.add_argument(
        "--store",
        choices=("sqlite", "postgresql", "both"),
        default="both",
        help="both: odd seeds on SQLite, even ones on PostgreSQL (default)",
    )
    parser.add_argument("--keep", action="store_true", help="keep logs, store and journals")
    parser.add_argument("--dry-run", action="store_true", help="show the schedule, and do nothing")
    options = parser.parse_args()
    size = SHORT if options.short else FULL
    for name in ("vehicles", "orchestrators"):
        if (given := getattr(options, name)) is not None:
            size = replace(size, **{name: given})
    seeds = [options.seed] if options.seed is not None else list(range(1, options.seeds + 1))
    total = Report()
    for number in seeds:
        schedule = Schedule.of(number, size)
        print(f"== seed {number}\n{schedule}")
        if options.dry_run:
            continue
        store = options.store
        if store == "both":
            store = "sqlite" if number % 2 else "postgresql"
        report = run(schedule, store=store, tell=_tell, keep=options.keep)
        print(report, flush=True)
        total.add(report)
    if len(seeds) > 1 and not options.dry_run:
        print(f"== all of them\n{total}")
    print(total.json())
    return 1 if total.violations else 0


def _tell(line: str) -> None:
    print(f"   {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
