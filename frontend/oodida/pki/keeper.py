"""The authority's keeper, who answers: certificates by a one-time token, and renewals.

The one thing of an authority that listens. It speaks TLS 1.3 under a certificate of its own, and
answers two questions; whatever else is asked is refused, in few bytes.
"""

from __future__ import annotations

import datetime as dt
import errno
import http.server
import json
import logging
import re
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard

from cryptography import x509

from oodida.pki.door import HANDSHAKE_S, Door
from oodida.pki.folder import Pki
from protocol.errors import BadRequest, BadToken, OodidaError
from protocol.link import private
from protocol.link.enrolment import MAX_BODY, TIMEOUT_S

log = logging.getLogger(__name__)

#: Bytes of a request that is too large, which are read and dropped.
MAX_DRAINED: Final = 4 * MAX_BODY
#: How long the keeper's own certificate is valid, in days; it is made anew at each start.
OWN_DAYS: Final = 90.0
#: How often it is made anew while the keeper runs, in seconds.
NEW_S: Final = 24 * 3600.0


class Keeper(http.server.ThreadingHTTPServer):
    """Answers for an authority at an address, until it is shut down.

    Raises BadRequest if it cannot listen there.
    """

    request_queue_size = 128  # connections that wait for us to look
    daemon_threads = False  # whoever closes us waits for them: nothing is left half answered

    def __init__(self, pki: Pki, address: tuple[str, int], hosts: Sequence[str]) -> None:
        self.pki = pki
        self.door = Door(TIMEOUT_S)
        self._hosts, self._context, self._made = hosts, _context(pki, hosts), time.monotonic()
        try:
            super().__init__(address, _Answer)
        except OSError as problem:
            raise BadRequest(_cannot_listen(address, problem)) from None

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection; the handshake is made by its own thread, so that nobody holds up others."""
        connection, address = super().get_request()
        connection.settimeout(HANDSHAKE_S)
        if time.monotonic() - self._made > NEW_S:  # it runs longer than its certificate is valid
            self._context, self._made = _context(self.pki, self._hosts), time.monotonic()
        wrapped = self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        return wrapped, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """False if there is no room: it is refused before it has a thread."""
        return self.door.enter(request, client_address[0], time.monotonic())

    def service_actions(self) -> None:
        """End who takes too long; the library calls it several times a second."""
        self.door.end_overdue(time.monotonic())

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one, if its handshake comes to something."""
        try:
            request.do_handshake()
        except (OSError, ValueError):
            self.handle_error(request, client_address)
            self.shutdown_request(request)
            return
        self.door.shaken(request)
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, however it went."""
        self.door.leave(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in our log what ended an answer; the library would write it to the terminal."""
        del request
        problem = sys.exception()
        if isinstance(problem, OSError):  # who asked is gone, or does not speak TLS
            log.info("a connection from %s came to nothing: %s", client_address[0], problem)
        else:
            log.error("an answer to %s ended", client_address[0], exc_info=problem)

    def server_close(self) -> None:
        """Let go of the port, and of who is connected and says nothing."""
        self.door.close()
        super().server_close()


def _cannot_listen(address: tuple[str, int], problem: OSError) -> str:
    host, port = address
    if problem.errno == errno.EADDRINUSE:
        return f"port {port} is taken: give --listen another one, and tokens the same by --at"
    if problem.errno == errno.EADDRNOTAVAIL or isinstance(problem, socket.gaierror):
        return (
            f"{host} is no address of this machine ({problem.strerror}): give --listen one that it "
            f"has, or 0.0.0.0:{port} for all of them"
        )
    return f"nothing can listen at {host}:{port}: {problem.strerror or problem}; see --listen"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Keeper
    timeout = TIMEOUT_S
    server_version, sys_version = "oodida", ""

    def do_GET(self) -> None:
        """The authority's certificate, which is no secret."""
        self.server.door.heard(self.connection)
        if self.path == "/authority":
            self._say(200, {"authority": self.server.pki.authority})
        else:
            self._say(404, {"error": "bad_request", "message": "there is nothing here"})

    def do_POST(self) -> None:
        """A certificate for who has a token, or has one already."""
        try:
            asked = self._body()
            self.server.door.heard(self.connection)
            self._say(200, self._certificate(asked))
        except OodidaError as problem:
            log.warning("refused %s: %s", self.client_address[0], problem)
            self._say(403, {"error": problem.code, "message": problem.message})

    def _body(self) -> dict[str, Any]:
        said = self.headers.get("Content-Length", "")
        size = int(said) if re.fullmatch("[0-9]{1,9}", said) else 0
        if MAX_BODY < size <= MAX_DRAINED:
            self.rfile.read(size)  # else its sender would not hear why
        if self.path != "/certificate" or not 0 < size <= MAX_BODY:
            raise BadRequest(f"a request has 1 to {MAX_BODY} bytes, and goes to /certificate")
        try:
            asked = json.loads(self.rfile.read(size))
        except (ValueError, RecursionError) as problem:
            raise BadRequest(f"this cannot be read: {problem}") from None
        if not isinstance(asked, dict) or not _is_text(asked.get("request")):
            raise BadRequest("there is no signing request in it")
        return asked

    def _certificate(self, asked: dict[str, Any]) -> dict[str, str]:
        now = dt.datetime.now(dt.UTC)
        if _is_text(asked.get("token")):
            who, made = self.server.pki.redeem(asked["token"], asked["request"], now)
        else:
            serial = self._presented()
            who, made = self.server.pki.renew_by(serial, asked["request"], now)
        log.info("%s has a certificate until %s", who, made.until)
        return {"authority": self.server.pki.authority, "certificate": made.certificate.decode()}

    def _presented(self) -> int:
        connection: Any = self.connection
        try:
            der = connection.getpeercert(binary_form=True)
        except ValueError:  # it has hung up meanwhile
            der = None
        if der is None:
            raise BadToken("there is neither a token nor a certificate: who is asking?")
        return int(x509.load_der_x509_certificate(der).serial_number)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no request that we know is refused; the library would repeat it at length."""
        del message, explain
        self._say(code, {"error": BadRequest.code, "message": "this is nothing that is asked here"})

    def _say(self, status: int, told: dict[str, str]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say it in our log."""
        log.debug(format, *args)


def _is_text(given: object) -> TypeGuard[str]:
    """True for what both a token and a signing request are written in."""
    return isinstance(given, str) and given.isascii()


def _context(pki: Pki, hosts: Sequence[str]) -> ssl.SSLContext:
    """TLS 1.3, under a certificate of its own; who asks may have one or not."""
    made = pki.issue_keeper(hosts, dt.datetime.now(dt.UTC), OWN_DAYS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=pki.authority)
    with tempfile.TemporaryDirectory() as folder:  # the library takes keys from files alone
        for name, content in (("cert", made.certificate), ("key", made.key)):
            private.write(Path(folder) / name, content)
        context.load_cert_chain(Path(folder) / "cert", Path(folder) / "key")
    return context
