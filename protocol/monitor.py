"""Metrics and health over HTTP, for those who look after a program of ours. Off unless asked for.

``/metrics`` is for Prometheus. ``/health/live`` is 200 while the program's loop turns; when it does
not, a restart helps. ``/health/ready`` is 200 while the program can do its work, and 503 otherwise,
with what it lacks: then a restart does not help.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from socketserver import ThreadingMixIn
from typing import Any, Final, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from protocol import metrics
from protocol.errors import BadRequest, SetupError
from protocol.link.address import Address
from protocol.metrics import Instrument, Wsgi

log = logging.getLogger(__name__)

#: A check that takes longer has failed, in seconds; so has a request that does not come to an end.
PATIENCE_S: Final = 5.0
#: Requests at a time: the next one is sent away. Two systems look every few seconds.
AT_A_TIME: Final = 16

Checks = Mapping[str, Callable[[], bool]]


class Place(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def place(text: str) -> Place:
    """Read ``HOST:PORT``, or a port alone, which is on loopback. Raises BadRequest."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise BadRequest(f"{text!r:.100} is no place to listen; write HOST:PORT or PORT")
    return Place(host.strip("[]") or "127.0.0.1", int(port))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every program of ours that has to do with looking after it."""
    parser.add_argument(
        "--metrics", type=_checked, metavar="[HOST:]PORT",
        help="answer /metrics, /health/live and /health/ready there, on loopback if no host is "
        "given (default: nowhere)",
    )  # fmt: skip
    parser.add_argument(
        "--metrics-in-the-clear", action="store_true",
        help="also beyond this machine, where whoever asks is answered: the network is your own",
    )  # fmt: skip
    parser.add_argument("--log-level", default="INFO", help="DEBUG, INFO, WARNING or ERROR")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text",
        help="lines for people, or one JSON object a line (default: %(default)s)",
    )  # fmt: skip


def _checked(text: str) -> str:
    try:
        place(text)
    except BadRequest as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return text


@asynccontextmanager
async def monitored(
    where: str | None,
    instruments: Iterable[Instrument],
    checks: Checks,
    *,
    in_the_clear: bool = False,
) -> AsyncIterator[Place | None]:
    """While this lasts, answer at ``where``, from a thread; None answers nowhere.

    ``checks`` say by name what has to be well for the program to be ready. They are called from
    other threads. Gives the place, whose port is the one found where 0 was asked for. Raises
    SetupError where nobody may listen, and beyond this machine unless it is ``in_the_clear``.
    """
    if where is None:
        yield None
        return
    loop = asyncio.get_running_loop()
    asked = place(where)
    if not (in_the_clear or Address(*asked).is_loopback):
        raise SetupError(
            f"metrics at {where} would be answered beyond this machine, without TLS and to whoever "
            "asks: leave out the host, or add --metrics-in-the-clear if the network is your own"
        )
    try:
        server = make_server(
            *asked,
            _application(loop, metrics.gather(instruments), checks),
            server_class=_Server,
            handler_class=_Handler,
        )
    except OSError as problem:
        raise SetupError(f"metrics cannot be at {where}: {problem}") from None
    found = Place(asked.host, server.server_port)
    thread = threading.Thread(target=server.serve_forever, name="monitor", daemon=True)
    thread.start()
    log.info("metrics at http://%s:%s/metrics", *found)
    try:
        yield found
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


def _application(loop: asyncio.AbstractEventLoop, tell: Wsgi, checks: Checks) -> Wsgi:
    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/metrics":
                return tell(environ, start)
            case "/health/live":
                return _answer(start, {"loop": _turns(loop)})
            case "/health/ready":
                return _answer(start, {name: _holds(check) for name, check in checks.items()})
            case _:
                start("404 Not Found", [("Content-Type", "text/plain")])
                return [b"/metrics, /health/live, /health/ready\n"]

    return application


def _answer(start: Callable[..., Any], found: Mapping[str, bool]) -> list[bytes]:
    well = all(found.values())
    start(
        "200 OK" if well else "503 Service Unavailable",
        [("Content-Type", "application/json"), ("Cache-Control", "no-store")],
    )
    return [json.dumps({"ok": well, **found}).encode() + b"\n"]


def _turns(loop: asyncio.AbstractEventLoop) -> bool:
    """True if the loop does something that it is given, within the time."""
    done = threading.Event()
    try:
        loop.call_soon_threadsafe(done.set)
    except RuntimeError:  # it is closed
        return False
    return done.wait(PATIENCE_S)


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception as problem:  # noqa: BLE001 - whatever is wrong, the answer is no
        log.info("not ready: %s: %s", type(problem).__name__, problem)
        return False


class _Server(ThreadingMixIn, WSGIServer):
    """Answers a bounded number of requests at a time, each in a thread."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = AT_A_TIME

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._room = threading.BoundedSemaphore(AT_A_TIME)

    def server_bind(self) -> None:
        # Without the name of this machine, for which the original asks the network.
        super(WSGIServer, self).server_bind()
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log.debug("a request to the monitor broke off: %s", sys.exception())


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the original's name
        log.debug(format, *args)
