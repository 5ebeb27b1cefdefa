"""Sustained reports a second that one orchestrator takes, on SQLite and on PostgreSQL.

    .venv/bin/python bench/load.py [--reports 10000] [--runs 3] [--store sqlite,postgres]

Reports of as many tasks as there are lie ready in a file; one process sends them as fast as the
broker takes them. Counted is until the last one is committed, with its change of state, its receipt
sent. In the same run a bare paho client receives the same messages from the same sender over the
same broker, acknowledges them and does nothing with them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oodida
from bench._bare import client
from bench._broker import broker
from bench._cloud import Cloud, cloud, end_on_termination, rows, say, until
from bench._measure import print_figures
from protocol import messages, topics
from protocol.lifecycle import TaskState
from protocol.link import WIDE, Link, Outgoing, parse_url
from protocol.messages import Presence, TaskReport, new_id
from protocol.module import builtin_digest
from protocol.outcome import Kind, Outcome
from protocol.version import VERSION

ASSIGNMENT = oodida.Assignment(
    onboard=oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=10),
    offboard=oodida.Offboard("mean"),
    deadline_s=600,
)


def name(number: int) -> str:
    """A vehicle that is only said to be there."""
    return f"said-{number:05d}"


def report(vehicle: str, task: str, attempt: int) -> str:
    """A line of the sender's file: a report as a vehicle makes it."""
    made = TaskReport(
        id=new_id(),
        task=task,
        attempt=attempt,
        state=TaskState.SUCCEEDED,
        outcome=Outcome(kind=Kind.VALUE, value=42.125, seconds=0.0001),
        digest=builtin_digest("mean", VERSION),
        seconds=0.01,
    )
    payload, _ = messages.encode(made)
    return f"{topics.reports('vehicles', vehicle)} {payload.decode()}"


@contextlib.contextmanager
def sending(url: str, lines: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The sender at work, in a process of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines))
        file.flush()
        script = str(Path(__file__).with_name("_sender.py"))
        with subprocess.Popen(
            [sys.executable, script, url, file.name], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()


_BARE = "import sys, bench.load; bench.load.receive(sys.argv[1], int(sys.argv[2]))"


def receive(url: str, number: int) -> None:
    """A bare paho client: count so many messages, from the first to the last; print how fast."""
    host, port, _ = parse_url(url)
    came: list[float] = []
    one = client(f"bare-{new_id()}")
    one.on_connect = lambda c, *_: c.subscribe(topics.all_of("vehicles", "reports"), 1)
    one.on_subscribe = lambda *_: print("ready", flush=True)

    def counted(*_: Any) -> None:
        came.append(time.perf_counter())
        if len(came) == number:
            print(json.dumps(number / (came[-1] - came[0])), flush=True)

    one.on_message = counted
    one.connect(host, port)
    one.loop_forever()


def bare(url: str, number: int) -> float:
    """Messages a second of a bare receiver."""
    lines = [report(name(i), new_id(), 1) for i in range(number)]
    with subprocess.Popen(
        [sys.executable, "-c", _BARE, url, str(number)], stdout=subprocess.PIPE, text=True
    ) as receiver:
        if receiver.stdout is None or receiver.stdout.readline() != "ready\n":
            raise RuntimeError("the bare receiver has ended")
        with sending(url, lines):
            told = float(receiver.stdout.readline())
        receiver.kill()
        return told


def outbox(system: Cloud) -> int:
    """How many orders are still to be sent."""
    found = rows(system.store, "SELECT count(*) FROM outbox WHERE topic LIKE '%/orders'")
    return int(found[0][0]) if found else 1


def ours(system: Cloud, fleet: oodida.Fleet, number: int) -> float:
    """Reports a second of an orchestrator. RuntimeError if one is lost or doubled."""
    run = fleet.submit(ASSIGNMENT)

    def count(state: str) -> int:
        # The task of combining them is not counted: there is no worker that would do it.
        query = (
            "SELECT count(*) FROM tasks"
            " WHERE assignment = :id AND state = :state AND side = 'onboard'"
        )
        found = rows(system.store, query, id=run.id, state=state)
        return int(found[0][0]) if found else 0

    until(lambda: count("queued") == number, "the orders are made")
    # What the broker has leaves the outbox in the next turn: for that, something is asked.
    until(lambda: bool(fleet.assignments()) and not outbox(system), "the orders are sent")
    query = "SELECT edge, id, attempt FROM tasks WHERE assignment = :id"
    tasks = rows(system.store, query, id=run.id)
    lines = [report(*task) for task in tasks or []]
    with sending(system.url, lines):
        until(lambda: count("queued") < number, "the first report")
        began, left = time.perf_counter(), count("queued")
        while count("queued"):
            time.sleep(0.05)
        took = time.perf_counter() - began
    if count("succeeded") != number:
        raise RuntimeError(f"{count('succeeded')} of {number} reports are in the store")
    run.cancel()
    return left / took


async def there(url: str, number: int) -> None:
    """Say of so many vehicles that they are there."""
    born = Presence(online=True, session=1, version=VERSION, signals={"VEHICLE_SPEED": "km/h"})
    payload, _ = messages.encode(born)
    where = [topics.presence("vehicles", name(i)) for i in range(number)]
    where.append(topics.presence("workers", "said"))  # without one nothing may be submitted
    births = [Outgoing(topic, payload, retain=True) for topic in where]
    async with Link(url, f"births-{new_id()}", publish_window=WIDE) as link:
        await link.publish_many(births)


def on(kind: str, number: int, runs: int) -> dict[str, Any]:
    """The figures on one kind of store."""
    import asyncio

    with broker() as url:
        alone = []
        for _ in range(runs):
            alone.append(bare(url, number))
            say(f"bare: {alone[-1]:.0f} messages a second")
        with cloud(url, kind, worker=False) as system:
            asyncio.run(there(url, number))
            until(lambda: system.online("vehicles") == number, "all are known")
            taken = []
            with oodida.connect(url, "bench") as fleet:
                for _ in range(runs):
                    taken.append(ours(system, fleet, number))
                    say(f"{kind}: {taken[-1]:.0f} reports a second")
            peak = system.peak_mb
    most, got = statistics.median(alone), statistics.median(taken)
    return {
        "reports_per_s": round(got),
        "bare_per_s": round(most),
        "share_of_bare": round(got / most, 2),
        "runs_per_s": [round(x) for x in taken],
        "bare_runs_per_s": [round(x) for x in alone],
        "orchestrator_peak_mb": round(peak, 1),
    }


def main() -> None:
    """Measure every store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=10_000, help="reports of a run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--store", default="sqlite,postgres", help="with commas between")
    options = parser.parse_args()
    end_on_termination()
    found = {kind: on(kind, options.reports, options.runs) for kind in options.store.split(",")}
    print_figures("load", reports=options.reports, stores=found)


if __name__ == "__main__":
    main()
