"""What trust costs: from changed code to the first result, with all of it on and all of it off.

    .venv/bin/python bench/trust.py [rounds]

On: TLS 1.3 with certificates of everybody, the broker's rules, modules with two signatures that
each vehicle checks before it stores and before it runs them, signed receipts that the cloud checks.
Off: a broker on loopback without certificates, and nothing signed. Both are started again and again
in turn, so that what else happens on the machine happens to both.
"""

from __future__ import annotations

import contextlib
import statistics
import sys

import docker

import oodida
from bench._measure import print_figures, spread
from bench.turnaround import VEHICLES, one_round

#: So often each is started.
BLOCKS = 4


def block(engine: docker.APIClient, rounds: int, *, trust: bool) -> list[tuple[float, float]]:
    """So many rounds of one system, after one that warms the caches up."""
    with oodida.local(dict.fromkeys(VEHICLES), trust=trust) as fleet:
        return [one_round(fleet, engine, number) for number in range(rounds + 1)][1:]


def main(rounds: int) -> None:
    """Measure so many rounds of each."""
    measured: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with contextlib.closing(docker.APIClient(version="auto")) as engine:
        for number in range(BLOCKS):
            for trust in (True, False) if number % 2 else (False, True):
                measured[trust] += block(engine, max(1, rounds // BLOCKS), trust=trust)
    total = {trust: [d + r for d, r in done] for trust, done in measured.items()}
    ratio = statistics.median(total[True]) / statistics.median(total[False])
    print_figures(
        "trust",
        vehicles=len(VEHICLES),
        rounds=len(total[True]),
        with_trust=spread(total[True]),
        without=spread(total[False]),
        deploying_with=spread([d for d, _ in measured[True]]),
        deploying_without=spread([d for d, _ in measured[False]]),
        ratio=round(ratio, 3),
        target_ratio_at_most=1.25,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 24)
