"""The authority's keeper and those who ask it, as `Target`s: both read what strangers say."""

from __future__ import annotations

import atexit
import base64
import datetime as dt
import json
import shutil
import socket
import ssl
import tempfile
import threading
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from oodida.pki import Pki, tokens
from oodida.pki.authority import Authority
from oodida.pki.keeper import Keeper
from protocol.errors import BadToken
from protocol.identity import Identity
from protocol.link import enrolment
from tests.fuzz.law import LawBroken, Target
from tests.fuzz.parts import nothing_caught
from tests.fuzz.targets import as_text
from tests.fuzz.world import world

PATIENCE_S: Final = 20.0
#: Bytes of an answer: a certificate, and the authority's.
MAX_ANSWER: Final = 8192
NAME: Final = Identity("vehicle", "car-1")
OWN: Final = world().pki.folder / "identities" / NAME.role / NAME.name
#: Of a token that is never used up here.
SECRET: Final = "5" * 64


def _key() -> Any:
    return load_pem_private_key((OWN / "key.pem").read_bytes(), None)


# --- what the authority is asked to sign, and what its answer is --------------------------------


def _signing_request(data: bytes) -> None:
    """In DER, which can be changed more deeply, or as it comes."""
    folder = world().pki.folder
    authority = Authority.load((folder / "ca.pem").read_bytes(), (folder / "ca.key").read_bytes())
    text = data.decode(errors="surrogateescape")
    if not text.startswith("-"):
        body = base64.encodebytes(data).decode()
        text = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
    made = authority.issue_for(NAME, text, dt.datetime.now(dt.UTC), 1)
    asked = x509.load_pem_x509_csr(text.encode())
    enrolment.check(made.certificate.decode(), world().pki.authority, asked.public_key())  # type: ignore[arg-type]


def _answer(data: bytes) -> None:
    """Whoever answers, only the authority's own certificate for our own key is taken."""
    told = enrolment.read_answer(data, "host:1")
    certificate = told.get("certificate", "")
    taken = enrolment.check(certificate, world().pki.authority, _key().public_key())
    if taken != (OWN / "cert.pem").read_bytes():
        raise LawBroken("another certificate than the authority's is taken")


def _token(text: str) -> None:
    found = enrolment.parse(text)
    with suppress(BadToken):
        if enrolment.parse(str(found)) != found:
            raise LawBroken("a token is another one when it is written and read again")


# --- the keeper as a whole ------------------------------------------------------------------------


class _Kept(NamedTuple):
    folder: Path
    port: int
    ledger: bytes
    tokens: bytes


@cache
def _kept() -> _Kept:
    """A keeper that runs until we end; its authority's folder is a copy."""
    scratch = tempfile.TemporaryDirectory(prefix="oodida-fuzz-")
    folder = Path(scratch.name, "pki")
    shutil.copytree(world().pki.folder, folder)
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=300)
    (folder / "tokens.jsonl").write_text(tokens.made(SECRET, NAME, until))
    keeper = Keeper(Pki(folder), ("127.0.0.1", 0), ["127.0.0.1"])
    threading.Thread(target=keeper.serve_forever, args=[0.05], daemon=True).start()
    for last in (scratch.cleanup, keeper.server_close, keeper.shutdown):
        atexit.register(last)  # what is registered last is done first
    files = [(folder / name).read_bytes() for name in ("ledger.jsonl", "tokens.jsonl")]
    return _Kept(folder, keeper.server_address[1], *files)


def _said(data: bytes, *, known: bool) -> bytes:
    """What the keeper answers to bytes, from somebody with a certificate or without."""
    context = ssl.create_default_context(cafile=str(world().pki.folder / "ca.pem"))
    if known:
        context.load_cert_chain(OWN / "cert.pem", OWN / "key.pem")
    heard = b""
    address = ("127.0.0.1", _kept().port)
    with (
        socket.create_connection(address, PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        suppress(ConnectionError, ssl.SSLError),  # it may have heard enough to say no
    ):
        connection.sendall(data)
        socket.socket.shutdown(connection, socket.SHUT_WR)
        while part := connection.recv(65_536):
            heard += part
    return heard


def keeper(data: bytes) -> None:
    """Hostile bytes over TLS get a short answer without a key in it; the next one is served."""
    kept = _kept()
    with nothing_caught():
        heard = _said(data[1:], known=bool(data) and data[0] % 2 == 1)
        if len(heard) > MAX_ANSWER or b"PRIVATE" in heard:
            raise LawBroken(f"the keeper says too much: {len(heard)} bytes")
        honest = _said(b"GET /authority HTTP/1.1\r\n\r\n", known=False)
    if b"BEGIN CERTIFICATE" not in honest:
        raise LawBroken("an honest question after hostile bytes was not answered")
    for name, before in (("ledger.jsonl", kept.ledger), ("tokens.jsonl", kept.tokens)):
        path = kept.folder / name
        if path.stat().st_size != len(before):
            path.write_bytes(before)


def _post(asked: dict[str, str]) -> bytes:
    body = json.dumps(asked)
    head = f"POST /certificate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


REQUEST: Final = enrolment.signing_request(_key(), NAME)
_ANSWER: Final = {
    "authority": world().pki.authority,
    "certificate": (OWN / "cert.pem").read_text(),
}
_REFUSED: Final = b'{"error": "bad_token", "message": "it was used before"}'
_TOKEN: Final = enrolment.token("localhost:8884", world().pki.authority, SECRET, NAME)
_DER: Final = x509.load_pem_x509_csr(REQUEST.encode()).public_bytes(serialization.Encoding.DER)

KEEPER: Final = {
    target.name: target
    for target in (
        Target("signing request", _signing_request, (_DER, REQUEST.encode())),
        Target("keeper's answer", _answer, (json.dumps(_ANSWER).encode(), _REFUSED)),
        Target("token", partial(as_text, _token), (_TOKEN.encode(),)),
    )
}
KEEPER_PART: Final = Target(
    "keeper",
    keeper,
    (
        b"\0GET /authority HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" + _post({"token": SECRET, "request": REQUEST}),
        b"\1" + _post({"request": REQUEST}),
        b"\0" + _post({"token": "\ud800", "request": REQUEST}),
    ),
    (),
    head=1,
)
