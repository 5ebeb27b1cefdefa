"""A program that enrols itself by a one-time token, and renews its certificate, at a keeper."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from oodida.pki import Pki, door
from oodida.pki.keeper import Keeper
from protocol import identity
from protocol.errors import BadRequest, BadToken, LinkError, NotEnrolled, OodidaError, WrongName
from protocol.link import credentials, enrolment
from protocol.signing import Signer, Trust
from tests.conftest import until

CAR = identity.of("vehicle", "car-1")


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Kept(NamedTuple):
    """An authority whose keeper answers."""

    pki: Pki
    at: str

    def token(self, minutes: float = 5.0) -> str:
        return enrolment.token(
            self.at, self.pki.authority, self.pki.token(CAR, now(), minutes), CAR
        )


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    pki = Pki.init(tmp_path / "pki", ["localhost"], now())
    keeper = Keeper(pki, ("127.0.0.1", 0), ["127.0.0.1"])
    thread = threading.Thread(target=keeper.serve_forever, args=[0.02])
    thread.start()
    try:
        yield Kept(pki, f"127.0.0.1:{keeper.server_address[1]}")
    finally:
        keeper.shutdown()
        keeper.server_close()
        thread.join()


def test_a_token_is_exchanged_once_for_a_certificate_of_a_key_that_never_travels(
    kept: Kept, tmp_path: Path
) -> None:
    folder, token = tmp_path / "car", kept.token()
    assert enrolment.enrol(token, folder) == CAR
    assert credentials.who(folder) == CAR
    assert {p.name for p in folder.iterdir()} == {"ca.pem", "cert.pem", "key.pem", "keeper"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in [folder, *folder.iterdir()])
    trust = Trust.load(kept.pki.folder / "ca.pem")
    assert trust.verify(Signer(folder).sign("p", {}, now().timestamp()), "p", {}) == CAR
    key = (folder / "key.pem").read_text().splitlines()[1]
    assert not [p for p in kept.pki.folder.rglob("*") if p.is_file() and key in p.read_text()]
    with pytest.raises(BadToken, match="used before"):
        enrolment.enrol(token, tmp_path / "thief")
    assert not (tmp_path / "thief").exists()


def test_of_many_who_come_with_one_token_at_once_one_has_a_certificate(
    kept: Kept, tmp_path: Path
) -> None:
    token = kept.token()

    def attempt(number: int) -> str:
        try:
            enrolment.enrol(token, tmp_path / str(number))
        except OodidaError as problem:
            return problem.code
        return "enrolled"

    with ThreadPoolExecutor(6) as pool:
        ended = sorted(pool.map(attempt, range(6)))
    assert ended == ["bad_token"] * 5 + ["enrolled"]
    assert len(kept.pki.issued()) == 1


def test_what_is_no_token_that_is_good_gets_nothing(kept: Kept, tmp_path: Path) -> None:
    good = enrolment.parse(kept.token())
    stale = enrolment.token(
        kept.at, kept.pki.authority, kept.pki.token(CAR, now() - dt.timedelta(hours=2), 1), CAR
    )
    wrong = {
        "no token": "nonsense",
        "no token ": "",
        "no such token": str(good._replace(secret="0" * 64)),
        "was good until": stale,
        "another authority": str(good._replace(authority="0" * 64)),
    }
    for said, token in wrong.items():
        with pytest.raises(BadToken, match=said.strip()):
            enrolment.enrol(token, tmp_path / "none")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = str(good._replace(at=f"127.0.0.1:{closed.getsockname()[1]}"))
        with pytest.raises(LinkError, match="oodida pki serve"):
            enrolment.enrol(nowhere, tmp_path / "none")
    assert kept.pki.issued() == []
    assert not (tmp_path / "none").exists()


def test_a_token_is_for_one_name_whatever_its_holder_asks_for(kept: Kept, tmp_path: Path) -> None:
    boss = identity.of("orchestrator", "boss")
    forged = str(enrolment.parse(kept.token())._replace(who=boss))
    assert enrolment.enrol(forged, tmp_path / "boss") == CAR
    assert credentials.who(tmp_path / "boss") == CAR  # the authority's word, not the holder's


def test_a_token_of_another_name_is_not_used_up(kept: Kept, tmp_path: Path) -> None:
    token, folder = kept.token(), tmp_path / "car-2"
    for other in ("vehicle:car-2", "worker:car-1"):
        with pytest.raises(WrongName, match=f"for vehicle:car-1, and this is {other}"):
            enrolment.enrol(token, folder, identity.parse(other))
    code, said = started(tmp_path, "car-2", folder, OODIDA_ENROLL=token)
    assert (code, "wrong_name: the token is for" in said) == (1, True)
    assert not folder.exists()
    assert enrolment.enrol(token, tmp_path / "car-1", CAR) == CAR


def started(tmp_path: Path, name: str, *words: str | Path, **environ: str) -> tuple[int, str]:
    """A vehicle's program whose broker is nowhere: its code, and what it said."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "edge_runtime", "--name", name, "--identity", *words),
            *("--broker", "mqtts://127.0.0.1:1", "--state", tmp_path / "state"),
        ],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_a_token_is_read_from_a_file_and_is_no_argument(kept: Kept, tmp_path: Path) -> None:
    folder, file, token = tmp_path / "car-1", tmp_path / "token", kept.token()
    code, said = started(tmp_path, "car-1", folder, "--enroll", token)
    assert (code, "bad_token: --enroll takes the path of a file" in said) == (1, True)
    assert token not in said
    file.write_text(token + "\n")
    _, said = started(tmp_path, "car-1", folder, "--enroll", file, "--stop-on-eof")
    assert credentials.who(folder) == CAR, said


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "port [0-9]+ is taken: .*--listen .*--at"),
        ("192.0.2.1", "no address of this machine.*--listen"),
        ("nowhere.invalid", "no address of this machine.*--listen"),
    ],
)
def test_a_keeper_that_cannot_listen_says_why(kept: Kept, host: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        Keeper(kept.pki, (host, enrolment.address(kept.at)[1]), ["127.0.0.1"])


def test_a_certificate_is_renewed_by_the_one_before_until_it_is_revoked(
    kept: Kept, tmp_path: Path
) -> None:
    folder = tmp_path / "car"
    enrolment.enrol(kept.token(), folder)
    before = (folder / "cert.pem").read_bytes()
    assert not enrolment.due(folder, now())
    assert enrolment.due(folder, now() + dt.timedelta(days=21))
    assert enrolment.renew(folder) == CAR
    assert (folder / "cert.pem").read_bytes() != before
    assert credentials.who(folder) == CAR
    kept.pki.revoke(CAR, now())
    with pytest.raises(NotEnrolled):
        enrolment.renew(folder)


def test_a_folder_without_a_keeper_is_never_due(kept: Kept) -> None:
    folder, _ = kept.pki.enroll(CAR, now())
    assert not enrolment.due(folder, now() + dt.timedelta(days=300))


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("GET", "/", b""),
        ("GET", "/ca.key", b""),
        ("GET", "/../ca.key", b""),
        ("POST", "/certificate", b""),
        ("POST", "/certificate", b"{}"),
        ("POST", "/certificate", b"[" * 5000),
        ("POST", "/certificate", b'{"request": 1}'),
        ("POST", "/certificate", b'{"request": "-----BEGIN"}'),
        ("POST", "/certificate", b'{"request": "x", "token": "0"}'),
        ("POST", "/certificate", b"x" * (enrolment.MAX_BODY + 1)),
        ("POST", "/elsewhere", b'{"request": "x", "token": "0"}'),
        ("DELETE", "/certificate", b""),
    ],
)
def test_whatever_else_is_asked_is_refused_and_the_next_one_is_served(
    kept: Kept, tmp_path: Path, verb: str, path: str, body: bytes
) -> None:
    host, port = enrolment.address(kept.at)
    context = ssl.create_default_context(cafile=str(kept.pki.folder / "ca.pem"))
    connection = http.client.HTTPSConnection(host, port, context=context, timeout=10)
    connection.request(verb, path, body)
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status >= 400
    assert b"PRIVATE" not in said
    if verb == "POST":
        assert json.loads(said)["error"]
    connection.close()
    assert kept.pki.issued() == []
    enrolment.enrol(kept.token(), tmp_path / "car")


def test_who_connects_and_says_nothing_holds_up_nobody(
    kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at, before = enrolment.address(kept.at), threading.active_count()
    blind = ssl.create_default_context(cafile=str(kept.pki.folder / "ca.pem"))
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(socket.create_connection(at))
        for _ in range(door.OF_ONE + 1):  # nor who has begun TLS, which takes no certificate
            plain = stack.enter_context(socket.create_connection(at))
            stack.enter_context(blind.wrap_socket(plain, server_hostname="127.0.0.1"))
        began = time.monotonic()
        enrolment.enrol(kept.token(), tmp_path / "car")
        assert time.monotonic() - began < door.HANDSHAKE_S, "it waited for none of their ends"
        assert until(lambda: threading.active_count() <= before + door.OF_ONE)
    assert not [record for record in caplog.records if record.exc_info]


def test_who_takes_too_long_is_ended_counting_from_its_connection_on(kept: Kept) -> None:
    with socket.create_connection(enrolment.address(kept.at), enrolment.TIMEOUT_S) as silent:
        began = time.monotonic()
        assert silent.recv(1) == b""
        assert time.monotonic() - began < enrolment.TIMEOUT_S


ODD = [
    b"POST /certificate HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
    b"POST /certificate HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b'POST /certificate HTTP/1.1\r\nContent-Length: 33\r\n\r\n{"token":"\\ud800","request":"a"}  ',
    b"A" * 9000 + b" / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9" + b"9" * 9000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("request_", ODD)
def test_what_is_no_request_is_refused_in_few_words_and_is_nothing_unforeseen(
    kept: Kept, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    context = ssl.create_default_context(cafile=str(kept.pki.folder / "ca.pem"))
    with (
        socket.create_connection(enrolment.address(kept.at), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(request_)
        said = b""
        while part := connection.recv(65_536):
            said += part
    assert b'"error": "bad_' in said
    assert len(said) < 1000
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "at", ["host:\N{SUPERSCRIPT TWO}", "", "host", "host:", ":1", "host:0", "host:x", "host:99999"]
)
def test_an_address_is_a_host_and_a_port(at: str) -> None:
    with pytest.raises(BadRequest):
        enrolment.address(at)
