"""``python -m edge_runtime.simulate``: a fleet to try things on, or to load a cloud with."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from edge_runtime.simulate import descriptors
from edge_runtime.simulate.events import Teller
from edge_runtime.simulate.fleet import Fleet
from edge_runtime.simulate.parts import Parts
from edge_runtime.simulate.plan import SPARE_DESCRIPTORS, Plan, processes_for
from edge_runtime.simulate.taken import refuse_taken
from protocol.assignment import Attribute
from protocol.errors import BadRequest, OodidaError
from protocol.logs import Seldom, start_logging
from protocol.process import run_until_told
from protocol.topics import is_name


def _attribute(text: str) -> tuple[str, tuple[Attribute, ...]]:
    name, equals, values = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, or NAME=VALUE|VALUE")
    return name, tuple(map(_value, values.split("|")))


def _value(text: str) -> Attribute:
    try:
        read = json.loads(text)
    except ValueError:
        return text
    return read if isinstance(read, str | int | float) else text


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000000")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """One whose errors are events where everything else is: for a program that starts it."""

    as_json = False

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end."""
        if self.as_json:
            Teller(0, as_json=True).failed(BadRequest(message.removeprefix("argument ")))
            sys.exit(2)
        super().error(message)


def parser(*, as_json: bool = False) -> argparse.ArgumentParser:
    """The command line."""
    made = _Parser(
        prog="python -m edge_runtime.simulate",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Runs many vehicles in few processes: real edge runtimes, each with its own connection,
journal and simulated driver. They run built-in methods; custom modules they refuse, as
there are no containers here. Their names are sim-00001, sim-00002 and so on.""",
        epilog="""\
For example:
  python -m edge_runtime.simulate --vehicles 1000
  python -m edge_runtime.simulate --vehicles 200 --attribute 'model=golf|polo' --rate-hz 10
It stops on Ctrl-C or SIGTERM, and with --stop-on-eof when standard input ends. Each
vehicle says goodbye, and nothing is left, here or at the broker; the cloud's list of
vehicles keeps their names, as it does of any that was ever there.""",
    )
    made.as_json = as_json
    environ = os.environ
    made.add_argument("--vehicles", type=_count, required=True, metavar="N", help="how many")
    made.add_argument(
        "--url", "--broker",
        default=environ.get("OODIDA_URL", "mqtt://127.0.0.1:1883"),
        help="mqtt://127.0.0.1:port, or mqtts://host:port with --identities (default: OODIDA_URL, "
        "else %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--identities", type=Path, metavar="FOLDER",
        help="where each vehicle's certificate is, in a folder of its name, as `oodida enroll "
        "vehicle sim- --count N --pki FOLDER` makes them",
    )  # fmt: skip
    made.add_argument(
        "--processes", type=_count, metavar="N",
        help="processes to share them among (default: by their number, at most one for each core)",
    )  # fmt: skip
    made.add_argument("--prefix", default="sim-", help="what their names begin with")
    made.add_argument(
        "--first", type=_count, default=1, metavar="N",
        help="the first one's number, to spread a fleet over machines (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--attribute", type=_attribute, action="append", default=[], metavar="NAME=VALUE",
        help="what analysts may select by; several values, with | between, are dealt out in turn; "
        "may be given several times",
    )  # fmt: skip
    made.add_argument(
        "--rate-hz", type=float, metavar="HZ",
        help="pace of the drivers, samples a second (default: no waiting)",
    )  # fmt: skip
    made.add_argument("--json", action="store_true", help="tell progress as JSON, an object a line")
    made.add_argument("--log-level", default="WARNING", help="DEBUG, INFO, WARNING or ERROR")
    made.add_argument("--stop-on-eof", action="store_true", help="stop when standard input ends")
    # One of several processes: the whole fleet was looked at before.
    made.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    return made


def _plan(options: argparse.Namespace, folder: Path) -> Plan:
    plan = Plan(
        url=options.url,
        folder=folder,
        count=options.vehicles,
        first=options.first,
        prefix=options.prefix,
        attributes=dict(options.attribute),
        rate_hz=options.rate_hz,
        identities=options.identities,
    )
    if not is_name(plan.name(plan.numbers[-1])):
        raise BadRequest(
            f"--prefix {options.prefix!r:.80} makes no names: letters, digits, and . _ - after the "
            "first, at most 64 with the number"
        )
    return plan


def _commands(plan: Plan, processes: int, options: argparse.Namespace) -> list[list[str]]:
    common = [f"--url={plan.url}", f"--prefix={plan.prefix}", f"--log-level={options.log_level}"]
    for name, values in plan.attributes.items():
        common.append(f"--attribute={name}={'|'.join(map(json.dumps, values))}")
    if plan.identities is not None:
        common.append(f"--identities={plan.identities}")
    if plan.rate_hz is not None:
        common.append(f"--rate-hz={plan.rate_hz}")
    return [
        [*common, "--processes=1", f"--vehicles={part.count}", f"--first={part.first}"]
        for part in plan.shared_among(processes)
    ]


def _memory_mb() -> float:
    """What this process takes now, in MB of resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _simulate(options: argparse.Namespace, folder: Path, teller: Teller) -> None:
    plan = _plan(options, folder)
    processes = options.processes or processes_for(plan.count, os.cpu_count() or 1)
    if not options.part:
        asyncio.run(refuse_taken(plan))
    counts = [part.count for part in plan.shared_among(processes)]
    descriptors.allow(max(counts) + SPARE_DESCRIPTORS, max(counts))
    work: Fleet | Parts
    if len(counts) == 1:
        work = Fleet(plan, teller.connected, teller.left)
    else:
        commands = _commands(plan, processes, options)
        work = Parts(commands, counts, teller.connected, teller.left)

    async def serve(_said: asyncio.Event) -> None:
        ready = asyncio.Event()

        async def tell() -> None:
            await ready.wait()
            more = work.memory_mb if isinstance(work, Parts) else 0.0
            teller.ready(_memory_mb() + more)

        telling = asyncio.create_task(tell())
        try:
            await work.run(ready)
        finally:
            telling.cancel()

    asyncio.run(run_until_told(serve, stop_on_eof=options.stop_on_eof))
    teller.ended()


def main(words: Sequence[str] | None = None) -> Any:
    """Read the settings and simulate until told to stop; the exit status."""
    given = sys.argv[1:] if words is None else words
    options = parser(as_json="--json" in given).parse_args(given)
    teller = Teller(options.vehicles, as_json=options.json)
    start_logging(options.log_level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Seldom())  # thousands of vehicles lose one broker
    try:
        with tempfile.TemporaryDirectory(prefix="oodida-simulate-") as folder:
            _simulate(options, Path(folder), teller)
    except OodidaError as problem:
        teller.failed(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
