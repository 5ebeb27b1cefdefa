"""``python -m orchestrator``: the cloud's program."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket

from orchestrator.service import Service
from orchestrator.store import Database
from protocol.process import run_until_told, start_logging


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
        help="mqtt://host:port (default: OODIDA_URL, else %(default)s)",
    )
    parser.add_argument(
        "--store",
        default=environ.get("OODIDA_STORE", "sqlite:///oodida.db"),
        help="SQLAlchemy URL (default: OODIDA_STORE, else %(default)s)",
    )
    parser.add_argument("--name", default=socket.gethostname()[:40], help="its name on the broker")
    parser.add_argument("--log-level", default="INFO", help="DEBUG, INFO, WARNING or ERROR")
    parser.add_argument("--stop-on-eof", action="store_true", help="stop when standard input ends")
    options = parser.parse_args()
    start_logging(options.log_level)
    database = Database(options.store)
    try:
        service = Service(options.broker, database, f"{options.name}-{os.getpid()}")
        asyncio.run(run_until_told(service.run, stop_on_eof=options.stop_on_eof))
    finally:
        database.close()
        logging.getLogger(__name__).info("stopped")


if __name__ == "__main__":
    main()
