"""``python -m edge_runtime``: a vehicle's program, and with ``--role worker`` the cloud's."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_runtime import metrics
from edge_runtime.admission import Rules
from edge_runtime.agent import Agent
from edge_runtime.environments.keeper import KEEP_DAYS, Keeper
from edge_runtime.environments.pip import Source
from edge_runtime.environments.workshop import Workshop
from edge_runtime.outbox import Bounds
from edge_runtime.policy import Policy, read
from edge_runtime.sandbox import Limits, PoolSettings, Sandbox
from edge_runtime.settings import Settings
from edge_runtime.signals import open_source
from protocol import identity, limits
from protocol.assignment import Attribute
from protocol.errors import NameInUse, OodidaError, SetupError
from protocol.followed import Followed
from protocol.imports import rules as import_rules
from protocol.limits import Profiles
from protocol.link.enrolment import enrol, given_token
from protocol.link.option import add_identity, identified
from protocol.logs import start_logging
from protocol.metrics import Gauge, Reading, reading
from protocol.module import Environment
from protocol.monitor import add_options, monitored
from protocol.process import run_until_told
from protocol.topics import is_name


def _attribute(text: str) -> tuple[str, Attribute]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        read = json.loads(value)
    except ValueError:
        return name, value
    return name, read if isinstance(read, str | int | float) else value


def _image(text: str) -> tuple[Environment, str]:
    name, equals, reference = text.partition("=")
    if not equals or name not in list(Environment):
        known = ", ".join(Environment)
        raise argparse.ArgumentTypeError(f"{text!r} is not ENVIRONMENT=IMAGE, with one of {known}")
    return Environment(name), reference


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    known = list(Limits.model_fields)
    with contextlib.suppress(ValueError):
        if name in known:
            return name, float(value)
    message = f"{text!r} is not NAME=NUMBER, with one of {', '.join(known)}"
    raise argparse.ArgumentTypeError(message)


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        number = float(text)
        if 0 < number < 1e6:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")


def _name(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name: letters, digits, and . _ - after the first, at most 64"
        )
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m edge_runtime",
        description="Runs the on-board part of assignments on a vehicle, or as a worker the "
        "off-board part in the cloud. Custom modules run in one-shot containers.",
        epilog="It stops on SIGTERM or SIGINT, and with --stop-on-eof when standard input ends.",
    )
    environ = os.environ
    made.add_argument("--name", type=_name, required=True, help="this vehicle's or worker's name")
    made.add_argument("--role", choices=("vehicle", "worker"), default="vehicle")
    made.add_argument(
        "--broker",
        default=environ.get("OODIDA_URL", "mqtt://127.0.0.1:1883"),
        help="mqtts://host:port, or mqtt:// on loopback (default: OODIDA_URL, else %(default)s)",
    )
    add_identity(made)
    made.add_argument(
        "--enroll", type=Path, metavar="FILE",
        help="a file with a one-time token of `oodida enroll --token`, which is exchanged for a "
        "certificate in the folder of --identity, unless there is one (default: OODIDA_ENROLL has "
        "the token itself; an argument could be seen by other users of this machine)",
    )  # fmt: skip
    made.add_argument(
        "--state",
        type=Path,
        default=None,
        help="folder for the journal, of what must survive a power cut, and for modules "
        "(default: ./state/NAME)",
    )
    made.add_argument(
        "--recording",
        type=Path,
        help="CSV file with the vehicle's signals (default: a simulated driver)",
    )
    made.add_argument(
        "--rate-hz", type=float, help="pace of the replay, samples a second (default: no waiting)"
    )
    made.add_argument(
        "--attribute", type=_attribute, action="append", default=[], metavar="NAME=VALUE",
        help="what analysts may select the vehicle by: text, or JSON for a number or true; "
        "may be given several times",
    )  # fmt: skip
    made.add_argument(
        "--image", type=_image, action="append", default=[], metavar="ENVIRONMENT=IMAGE",
        help="the sandbox image of an environment, minimal or science; may be given several times",
    )  # fmt: skip
    made.add_argument(
        "--profiles", type=Path, default=limits.SHIPPED, metavar="FILE",
        help="what one call of a module may take, by profile, instead of the file that is shipped",
    )  # fmt: skip
    made.add_argument(
        "--limit", type=_limit, action="append", default=[], metavar="NAME=NUMBER",
        help="what is granted at most here, whatever a module asks for: time_s, cpu_s, memory_mb "
        "and others; may be given several times",
    )  # fmt: skip
    made.add_argument(
        "--pool", type=int, default=1, metavar="N",
        help="containers started ahead of need, of each kind that modules here need; 0 starts "
        "each when it is called for, which is a quarter of a second later (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--pool-most", type=int, default=4, metavar="N",
        help="so many where calls come faster (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--pool-memory-mb", type=int, default=512, metavar="N",
        help="memory that idle containers may take together (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--runtime", metavar="NAME",
        help="the engine's runtime for modules, such as runsc for gVisor (default: the engine's)",
    )  # fmt: skip
    made.add_argument(
        "--import-rules", type=Path, default=import_rules.DEFAULT_FILE, metavar="FILE",
        help="what modules may import and use, instead of the rules that are shipped",
    )  # fmt: skip
    made.add_argument(
        "--policy", type=Path, metavar="FILE",
        help="what this vehicle allows, whatever the cloud says; read again when it changes "
        "(default: OODIDA_POLICY, else everything but signals that tell the location)",
    )  # fmt: skip
    made.add_argument(
        "--registry", metavar="HOST:PORT",
        help="for a worker: make environments to order, and push them to this OCI registry",
    )  # fmt: skip
    made.add_argument(
        "--wheel-folder", type=Path, action="append", default=[], metavar="DIR",
        help="where the libraries of environments are, at a site without an index; may be given "
        "several times (default: the index that pip is configured with)",
    )  # fmt: skip
    made.add_argument(
        "--keep-days", type=float, default=KEEP_DAYS, metavar="DAYS",
        help="how long an environment stays that no module uses (default: %(default)g)",
    )  # fmt: skip
    made.add_argument(
        "--calls", type=int, default=4, help="containers at a time (default: %(default)s)"
    )
    made.add_argument(
        "--outbox-mb", type=_positive, default=64.0, metavar="N",
        help="megabytes of reports that wait for the cloud's receipt at most; beyond it progress "
        "goes first, then states of modules, then results, the oldest first (default: %(default)g)",
    )  # fmt: skip
    made.add_argument(
        "--outbox-days", type=_positive, default=7.0, metavar="DAYS",
        help="how old such a report may become (default: %(default)g)",
    )  # fmt: skip
    add_options(made)
    made.add_argument("--stop-on-eof", action="store_true", help="stop when standard input ends")
    return made


def _policy_file(option: Path | None) -> Path | None:
    """Where the policy is; an empty OODIDA_POLICY is none."""
    if option is not None:
        return option
    told = os.environ.get("OODIDA_POLICY", "")
    return Path(told) if told else None


def _bytes(folder: Path) -> dict[tuple[str, ...], float]:
    """What the state folder holds: the journal with its log, and all else."""
    found: dict[tuple[str, ...], float] = {("journal",): 0.0, ("other",): 0.0}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it went meanwhile
            what = "journal" if path.name.startswith("journal") else "other"
            found[what,] += path.stat().st_size if path.is_file() else 0
    return found


def _enrol(options: argparse.Namespace) -> None:
    """Exchange a token, if one was given, and nothing that it is exchanged for is there."""
    if options.identity is None or (options.identity / "cert.pem").exists():
        return
    if token := given_token(options.enroll, os.environ):
        enrol(token, options.identity, identity.of(options.role, options.name))


def main() -> None:
    """Read the settings and work until told to stop."""
    made = parser()
    options = made.parse_args()
    start_logging(options.log_level, options.log_format, **{options.role: options.name})
    folder: Path = options.state or Path("state") / options.name
    folder.mkdir(parents=True, exist_ok=True)
    images = dict(options.image)
    worker = options.role == "worker"
    if worker and options.policy is not None:
        made.error("--policy is a vehicle's: a worker has nothing that it could keep to itself")
    try:
        _enrol(options)
        proof = identified(options.broker, options.identity, options.role, options.name)
        rules = Rules(
            import_rules.read(options.import_rules),
            Profiles.read(options.profiles).with_maximum(dict(options.limit)),
        )
        file = None if worker else _policy_file(options.policy)
        policy = Followed(file, partial(read, profiles=rules.profiles), Policy())
        pool = PoolSettings(
            minimum=min(options.pool, 64),
            maximum=min(max(options.pool, options.pool_most) if options.pool else 0, 64),
            memory_mb=options.pool_memory_mb,
        )
        source = (
            None
            if worker
            else open_source(options.recording, options.name, rate_hz=options.rate_hz)
        )
    except OodidaError as problem:
        sys.exit(f"{problem.code}: {problem}")
    if not images:
        logging.getLogger(__name__).warning(
            "without --image ENVIRONMENT=IMAGE modules are refused here, and built-in methods run"
        )
    owner = f"{options.role}-{options.name}"
    sandbox = Sandbox(images, owner, runtime=options.runtime, pool=pool)
    # Whatever comes first runs in this: it is there before it is needed.
    sandbox.expect(Environment.MINIMAL, Limits(), resident=True)
    keeper = Keeper(folder, keep_days=options.keep_days)
    for environment, image in keeper.here().items():
        sandbox.add(environment, image)
    workshop = None
    if options.registry:
        source_of_libraries = Source(tuple(options.wheel_folder), index=not options.wheel_folder)
        base = images[Environment.MINIMAL]
        workshop = Workshop(folder, base, options.registry, source_of_libraries, sandbox)
    settings = Settings(
        url=options.broker,
        name=options.name,
        role="workers" if worker else "vehicles",
        folder=folder,
        attributes=dict(options.attribute),
        calls=options.calls,
        rules=rules,
        policy=policy,
        outbox=Bounds(size=int(options.outbox_mb * 2**20), days=options.outbox_days),
        identity=proof,
    )
    try:
        agent = Agent(settings, source, sandbox, keeper, workshop)
        gauges: dict[Gauge, Callable[[], Reading]] = {
            metrics.CONNECTED: lambda: agent.connected,
            metrics.UNSENT: lambda: agent.unsent,
            metrics.RUNNING: lambda: agent.running,
            metrics.STATE_BYTES: lambda: _bytes(folder),
            metrics.POOL_IDLE: lambda: sandbox.stock[0],
            metrics.POOL_WANTED: lambda: sandbox.stock[1],
        }
        checks = {"broker": lambda: agent.connected, "journal": agent.journal_answers}

        async def serve(ready: asyncio.Event) -> None:
            with reading(gauges):
                async with monitored(
                    options.metrics, metrics.INSTRUMENTS, checks,
                    in_the_clear=options.metrics_in_the_clear,
                ):  # fmt: skip
                    await agent.run(ready)

        asyncio.run(run_until_told(serve, stop_on_eof=options.stop_on_eof))
    except (SetupError, NameInUse) as problem:
        sys.exit(f"{problem.code}: {problem}")
    finally:
        sandbox.close()
        logging.getLogger(__name__).info("stopped")


if __name__ == "__main__":
    main()
