"""``python -m edge_runtime``: a vehicle's program, and with ``--role worker`` the cloud's."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from edge_runtime.agent import Agent, Settings
from edge_runtime.sandbox import Limits, Sandbox
from edge_runtime.signals import open_source
from protocol.assignment import Attribute, explain
from protocol.errors import OodidaError
from protocol.module import Environment
from protocol.process import run_until_told, start_logging
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
    known = [field for field in Limits.model_fields if field != "value"]
    with contextlib.suppress(ValueError):
        if name in known:
            return name, float(value)
    message = f"{text!r} is not NAME=NUMBER, with one of {', '.join(known)}"
    raise argparse.ArgumentTypeError(message)


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
        help="mqtt://host:port (default: OODIDA_URL, else %(default)s)",
    )
    made.add_argument(
        "--state",
        type=Path,
        default=None,
        help="folder for modules and counters (default: ./state/NAME)",
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
        "--limit", type=_limit, action="append", default=[], metavar="NAME=NUMBER",
        help="what one call of a module may take: time_s, cpu_s, memory_mb and others; "
        "may be given several times",
    )  # fmt: skip
    made.add_argument(
        "--calls", type=int, default=4, help="containers at a time (default: %(default)s)"
    )
    made.add_argument("--log-level", default="INFO", help="DEBUG, INFO, WARNING or ERROR")
    made.add_argument("--stop-on-eof", action="store_true", help="stop when standard input ends")
    return made


def main() -> None:
    """Read the settings and work until told to stop."""
    made = parser()
    options = made.parse_args()
    try:
        limits = Limits.model_validate(dict(options.limit))
    except ValidationError as problem:
        made.error(f"--limit: {explain(problem)}")
    start_logging(options.log_level)
    folder: Path = options.state or Path("state") / options.name
    folder.mkdir(parents=True, exist_ok=True)
    images = dict(options.image)
    worker = options.role == "worker"
    try:
        source = (
            None
            if worker
            else open_source(options.recording, options.name, rate_hz=options.rate_hz)
        )
    except OodidaError as problem:
        sys.exit(f"{problem.code}: {problem}")
    sandbox = Sandbox(images, owner=f"{options.role}-{options.name}")
    settings = Settings(
        url=options.broker,
        name=options.name,
        role="workers" if worker else "vehicles",
        folder=folder,
        attributes=dict(options.attribute),
        environments=tuple(sorted(images)),
        limits=limits,
        calls=options.calls,
    )
    try:
        agent = Agent(settings, source, sandbox)
        asyncio.run(run_until_told(agent.run, stop_on_eof=options.stop_on_eof))
    finally:
        sandbox.close()
        logging.getLogger(__name__).info("stopped")


if __name__ == "__main__":
    main()
