"""How long an honest analyst waits for an answer while others flood.

    .venv/bin/python bench/flood.py [--requests 100]

One orchestrator on SQLite. An analyst asks, one request after the other, for his assignments:
in quiet, while another analyst floods with requests, while a vehicle floods with reports, and with
reports of 1.2 MB that are much to read.
Cores that are busy make anybody wait: so in the same run it is asked, too, while as fast as it goes
messages are sent to a topic that nobody reads (`elsewhere`), and that is what is compared with. Who
floods is a process of its own. What is told are the answers' times, how many messages the flood
had, and how many honest requests failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import oodida
from bench._broker import broker
from bench._cloud import cloud, end_on_termination, say
from bench._measure import print_figures, spread
from protocol import messages, topics
from protocol.errors import OodidaError
from protocol.link import WIDE, Link, Outgoing
from protocol.messages import ListAssignments, StateReport

FLOODS = {
    "quiet": (),
    "elsewhere": ("elsewhere",),
    "analyst": ("analyst",),
    "vehicle": ("vehicle",),
    "large": ("large",),
}
TOGETHER = {"large": 4}


def one(who: str) -> Outgoing:
    """What a flood is made of."""
    if who == "elsewhere":
        return Outgoing(topics.events("eve", "nobody"), b"x" * 100)
    if who == "analyst":
        written = messages.encode(ListAssignments(user_id="eve"))
        return Outgoing(
            topics.requests("eve"), *written, response_topic=topics.replies("eve", "c-1"),
            correlation=b"1",
        )  # fmt: skip
    if who == "large":  # as many items as are read at all
        return Outgoing(topics.reports("vehicles", "evil-car"), b"[" + b"[[]]," * 240_000 + b"1]")
    report: Any = {"task": "no-task", "attempt": 1, "state": "running"}
    written = messages.encode(StateReport.model_validate(report))
    return Outgoing(topics.reports("vehicles", "evil-car"), *written)


async def flood(url: str, who: str) -> None:
    """Send as fast as the broker takes it until standard input ends; say how many it took."""
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    sent, together = 0, TOGETHER.get(who, 1000)
    async with Link(url, f"flood-{who}", publish_window=WIDE) as link:
        while not ended.done():
            problems = await link.publish_many([one(who)] * together)
            sent += sum(problem is None for problem in problems)
            if sent == together:
                print("under way", flush=True)
    print(sent, flush=True)


@contextlib.contextmanager
def flooding(url: str, who: str, told: dict[str, int]) -> Iterator[None]:
    """A flood by another process, under way; what it sent is told afterwards."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.flood", "--flood", who, "--url", url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        try:
            process.stdout.readline()
            yield
        finally:
            process.stdin.close()
            told[who] = int(process.stdout.read().split()[-1])
            process.wait(60)


def asked(fleet: oodida.Fleet, number: int) -> tuple[list[float], int]:
    """The times of answers in seconds, and how many there were none of."""
    times, failed = [], 0
    for _ in range(number):
        began = time.perf_counter()
        try:
            fleet.assignments()
        except OodidaError:
            failed += 1
        times.append(time.perf_counter() - began)
    return times, failed


def measure(url: str, number: int) -> dict[str, Any]:
    """The times with each flood, on a cloud that runs."""
    found: dict[str, Any] = {}
    with oodida.connect(url, "ada") as fleet:
        asked(fleet, 10)
        for name, by in FLOODS.items():
            sent: dict[str, int] = {}
            began = time.perf_counter()
            with contextlib.ExitStack() as stack:
                for who in by:
                    stack.enter_context(flooding(url, who, sent))
                times, failed = asked(fleet, number)
            seconds = time.perf_counter() - began
            told = spread(times)
            del told["runs_ms"]
            rate = round(sum(sent.values()) / seconds)
            found[name] = {**told, "failed": failed, "flood_messages_per_s": rate}
            say(f"{name}: {found[name]}")
    return found


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument(
        "--flood", choices=["elsewhere", "analyst", "vehicle", "large"], help=argparse.SUPPRESS
    )
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        asyncio.run(flood(options.url, options.flood))
        return
    end_on_termination()
    with broker() as url, cloud(url, "sqlite", worker=False):
        found = measure(url, options.requests)
    alone = found["elsewhere"]["median_ms"]
    print_figures(
        "flood",
        **found,
        ratio_of_medians={n: round(f["median_ms"] / alone, 2) for n, f in found.items()},
        failed=sum(f["failed"] for f in found.values()),
    )


if __name__ == "__main__":
    main()
