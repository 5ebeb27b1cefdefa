"""``python -m orchestrator``: the cloud's program."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from orchestrator import metrics
from orchestrator.authority import EVERYBODY, Authority
from orchestrator.limits import add_limits, limits_of
from orchestrator.service import Service
from orchestrator.store import figures
from orchestrator.store.opening import open_store
from orchestrator.store.retention import Keep
from protocol.errors import BadIdentity, OodidaError, SetupError
from protocol.followed import Followed
from protocol.link.credentials import who
from protocol.link.option import add_identity, identified
from protocol.logs import start_logging
from protocol.metrics import Gauge, Reading, reading
from protocol.monitor import add_options, monitored
from protocol.process import hold_for_long, run_until_told

#: How soon the thread that waits for the store gives way to the one that speaks with the broker,
#: and back, in seconds. Either lets go very often; with Python's 5 ms it waited as long to go on.
SWITCH_S: Final = 0.0005


def main() -> None:
    """Read the settings and serve until told to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator",
        description="Turns analysts' assignments into orders and vehicles' reports into results.",
        epilog="It stops on SIGTERM or SIGINT, and with --stop-on-eof when standard input ends.",
    )
    environ = os.environ
    parser.add_argument(
        "--broker",
        default=environ.get("OODIDA_URL", "mqtt://127.0.0.1:1883"),
        help="mqtts://host:port, or mqtt:// on loopback (default: OODIDA_URL, else %(default)s)",
    )
    add_identity(parser)
    _add_revoked(parser)
    parser.add_argument(
        "--store",
        default=environ.get("OODIDA_STORE", "sqlite:///oodida.db"),
        help="SQLAlchemy URL (default: OODIDA_STORE, else %(default)s)",
    )
    password_file = environ.get("OODIDA_STORE_PASSWORD_FILE")
    parser.add_argument(
        "--store-password-file", type=Path, default=Path(password_file) if password_file else None,
        metavar="FILE",
        help="the store's password is its first line, and so in no list of processes (default: "
        "OODIDA_STORE_PASSWORD_FILE, else the password in --store, if any)",
    )  # fmt: skip
    parser.add_argument(
        "--name", help="its name on the broker (default: its certificate's, or else the host's)"
    )
    parser.add_argument(
        "--keep-days", type=float, default=30.0, metavar="DAYS",
        help="how long tasks, values and changes of state are kept after their assignment's end; "
        "who took part is kept for ever (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-rows", type=int, default=5_000_000, metavar="ROWS",
        help="how many rows of tasks and changes are kept at most; those of the assignments that "
        "ended first go first, those of running ones never (default: %(default)s)",
    )  # fmt: skip
    add_limits(parser)
    authority = environ.get("OODIDA_AUTHORITY")
    parser.add_argument(
        "--authority", type=Path, default=Path(authority) if authority else None, metavar="FILE",
        help="who may do what, read again when it changes (default: OODIDA_AUTHORITY, else "
        "everybody is an analyst without limits)",
    )  # fmt: skip
    add_options(parser)
    parser.add_argument("--stop-on-eof", action="store_true", help="stop when standard input ends")
    options = parser.parse_args()
    try:
        proof = _identified(options)
        if options.name is None:
            options.name = who(proof).name if proof else socket.gethostname()[:40]
    except OodidaError as problem:
        sys.exit(f"{problem.code}: {problem}")
    start_logging(options.log_level, options.log_format, orchestrator=options.name)
    try:
        roles = Followed(options.authority, Authority.read, EVERYBODY)
        database = open_store(options.store, options.store_password_file)
    except SetupError as problem:
        sys.exit(f"{problem.code}: {problem}")
    try:
        keep = Keep(options.keep_days, options.keep_rows)
        name = f"{options.name}/{os.getpid()}"
        limits = limits_of(options)
        service = Service(
            options.broker, database, name, keep, proof, roles, limits, options.revoked
        )
        gauges: dict[Gauge, Callable[[], Reading]] = {
            metrics.CONNECTED: lambda: service.connected,
            **figures.gauges(database),
        }
        checks = {
            "broker": lambda: service.connected,
            "store": lambda: figures.answers(database),
        }

        hold_for_long()
        sys.setswitchinterval(SWITCH_S)

        async def serve(ready: asyncio.Event) -> None:
            with reading(gauges):
                async with monitored(
                    options.metrics, metrics.INSTRUMENTS, checks,
                    in_the_clear=options.metrics_in_the_clear,
                ):  # fmt: skip
                    await service.run(ready)

        asyncio.run(run_until_told(serve, stop_on_eof=options.stop_on_eof))
    except (SetupError, BadIdentity) as problem:
        sys.exit(f"{problem.code}: {problem}")
    finally:
        database.close()
        logging.getLogger(__name__).info("stopped")


def _add_revoked(parser: argparse.ArgumentParser) -> None:
    revoked = os.environ.get("OODIDA_REVOKED")
    parser.add_argument(
        "--revoked", type=Path, default=Path(revoked) if revoked else None, metavar="FILE",
        help="the authority's crl.pem, what it has taken back, read again when it changes "
        "(default: OODIDA_REVOKED, else crl.pem in the folder of --identity, if it is there)",
    )  # fmt: skip


def _identified(options: argparse.Namespace) -> Path | None:
    proof = identified(options.broker, options.identity, "orchestrator", options.name)
    if options.revoked is not None and proof is None:
        raise BadIdentity("--revoked is for a broker with certificates: name an --identity as well")
    return proof


if __name__ == "__main__":
    main()
