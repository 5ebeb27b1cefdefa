"""How much of what one sender may have: so that one who floods does not delay the others."""

from __future__ import annotations

import argparse
from typing import Final, NamedTuple

from orchestrator.bucket import Rate

MB: Final = 2**20
#: At once after a quiet time, so many seconds' worth: who was without a network has much to say.
BURST_S: Final = 10.0
#: Bytes of one sender: so many a second, and so many at once. A wheel's parts come one by one.
TRAFFIC: Final = Rate(per_s=32 * MB, burst=512 * MB)
#: Seconds of the processor that one sender's messages may take to be read and answered: what is
#: small to send can be much to read. Half of one, and so much at once.
WORK: Final = Rate(per_s=0.5, burst=5.0)
#: Presences of one vehicle or worker, which tells of each connection.
PRESENCES: Final = Rate(per_s=1.0, burst=60.0)
#: Workers are few and are the cloud's own, and each speaks for a whole fleet's tasks.
WORKER_FACTOR: Final = 10.0


class Limits(NamedTuple):
    """What one sender may have, by default more than any honest use needs.

    Requests a second of an analyst, reports a second of a vehicle; assignments of an analyst that
    have not ended; bytes of an analyst that are stored: modules, wheels, values.
    """

    requests_per_s: float = 100.0
    reports_per_s: float = 500.0
    open_assignments: int = 1000
    stored_bytes: int = 4096 * MB

    def rate(self, family: str, channel: str) -> Rate:
        """How often messages may come on a topic."""
        if channel == "presence":
            return PRESENCES
        per_s = self.requests_per_s if family == "analysts" else self.reports_per_s
        if family == "workers":
            per_s *= WORKER_FACTOR
        return Rate(per_s, max(1.0, per_s * BURST_S))


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The options of a program that keeps to them."""
    most = Limits()
    reports = "reports a second of one vehicle; of a worker, ten times as many"
    assignments = "assignments of one analyst that have not ended"
    stored = "modules, wheels and values of one analyst, in MB"
    for option, default, what in (
        ("requests-per-s", most.requests_per_s, "requests a second of one analyst"),
        ("reports-per-s", most.reports_per_s, reports),
        ("open-assignments", most.open_assignments, assignments),
        ("stored-mb", most.stored_bytes // MB, stored),
    ):
        parser.add_argument(
            f"--{option}", type=type(default), default=default, metavar="NUMBER",
            help=f"at most so many {what} (default: %(default)s)",
        )  # fmt: skip


def limits_of(options: argparse.Namespace) -> Limits:
    """What was asked for."""
    return Limits(
        max(0.1, options.requests_per_s),
        max(0.1, options.reports_per_s),
        options.open_assignments,
        options.stored_mb * MB,
    )
