"""Files that fuzzing found to end a program, which now are refused as whatever else is wrong."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from typer.testing import CliRunner

from edge_runtime.environments.usage import Usage
from edge_runtime.modules import ModuleStore
from edge_runtime.policy import file as policy
from oodida.cli.app import app
from oodida.pki import Pki
from protocol import identity
from protocol.certificate import ORDER
from protocol.environment import LOCK_HEAD, Lock
from protocol.errors import (
    BadIdentity,
    BadLimits,
    BadPolicy,
    BadRequest,
    BadSignature,
    BadToken,
    EnvironmentRefused,
    LinkError,
    OodidaError,
)
from protocol.imports import rules
from protocol.limits import Profiles
from protocol.link import credentials, enrolment
from protocol.module import Side
from protocol.signing import Signer, Trust

#: ECDSA with SHA-256, as a certificate names it (RFC 5758, section 3.2), in DER.
ECDSA = bytes.fromhex("300a06082a8648ce3d040302")
DEEP = b"[" * 100_000
DIGITS = b"9" * 5000
READERS: dict[str, tuple[Callable[[Path], object], type[OodidaError]]] = {
    "profiles": (Profiles.read, BadLimits),
    "import rules": (rules.read, BadRequest),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "content", [b"a = " + DEEP, b"a = " + DIGITS, b"a = {}\ndefault = 1\n", b"[both]\n\xff"]
)
def test_a_file_of_settings_is_refused(tmp_path: Path, reader: str, content: bytes) -> None:
    read, error = READERS[reader]
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(error):
        read(path)


@pytest.mark.parametrize(
    "content", [DEEP, DIGITS, b'{"generation":1e999,"reason":""}', b'{"a":1,"a":2}', b'{"a":[]}']
)
def test_what_a_vehicle_wrote_down_and_cannot_read_is_left(tmp_path: Path, content: bytes) -> None:
    for name in ("ada@m.json", "ada@m.refused", "usage.json"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "ada@m.py").write_text("def custom_code(w): return 1")
    assert ModuleStore(tmp_path, Side.ONBOARD).get("ada", "m") is None
    assert Usage(tmp_path / "usage.json").used() == {}


def test_a_number_too_large_for_a_time_is_no_time(tmp_path: Path) -> None:
    (tmp_path / "usage.json").write_bytes(b'{"a":' + b"9" * 400 + b"}")
    assert Usage(tmp_path / "usage.json").used() == {}


def test_a_lock_whose_head_names_other_fields_is_none() -> None:
    head = f"{LOCK_HEAD}\n# packages x\n# base y\n# python 3.13\n"
    with pytest.raises(EnvironmentRefused, match="no lock"):
        Lock.from_text(head)


def test_a_policy_with_a_number_without_end_is_refused() -> None:
    with pytest.raises(BadPolicy):
        policy.parse("a = " + DIGITS.decode(), Profiles.read())


@pytest.mark.parametrize("content", [b"\xff\n", b'{"a": "\xc3"}', DEEP, DIGITS, b'{"\\ud800": 1}'])
def test_what_is_no_audit_log_is_an_error_from_a_file_and_a_pipe(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "log").write_bytes(content)
    for file, piped in ((str(tmp_path / "log"), b""), ("-", content)):
        said = CliRunner().invoke(app, ["audit", "verify", file], input=piped)
        assert (said.exit_code, "none of its 1 lines is an entry" in said.output) == (1, True), (
            said.output
        )


def _of_version(pem: bytes, before: bytes, version: int) -> bytes:
    """A certificate or request, in PEM, that says to be of a version that there is not."""
    first, *body, last = pem.splitlines()
    data = bytearray(base64.b64decode(b"".join(body)))
    data[data.index(before) + len(before)] = version
    return b"\n".join([first, base64.b64encode(data), last, b""])


def test_nobody_falls_over_a_version_that_there_is_not(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    pki = Pki.init(tmp_path / "pki", ["localhost"], now)
    who = identity.of("vehicle", "car-1")
    folder, _ = pki.enroll(who, now)
    certificate = (folder / "cert.pem").read_bytes()
    strange = _of_version(certificate, b"\xa0\x03\x02\x01", 9)
    (folder / "cert.pem").write_bytes(strange)
    for read in (credentials.load, Signer):
        with pytest.raises(BadIdentity):
            read(folder)
    (folder / "keeper").write_text("host:1")
    with pytest.raises(BadIdentity):
        enrolment.due(folder, now)
    with pytest.raises(BadIdentity, match="no authority"):
        Trust.load(folder / "cert.pem")
    key = Ed25519PrivateKey.generate()
    with pytest.raises(BadToken, match="no certificate of our authority"):
        enrolment.check(strange.decode(), pki.authority, key.public_key())
    request = enrolment.signing_request(key, who).encode()
    with pytest.raises(BadRequest, match="no signing request"):
        pki.redeem(
            pki.token(who, now, 5), _of_version(request, b"\x02\x01", 7).decode(), now
        )  # fmt: skip


def test_a_list_of_what_was_taken_back_that_is_none_is_told_to_be_the_one(tmp_path: Path) -> None:
    pki = Pki.init(tmp_path / "pki", ["localhost"], dt.datetime.now(dt.UTC))
    ca = pki.folder / "ca.pem"
    with pytest.raises(BadIdentity, match=r"ca\.pem: it is no list of what was taken back"):
        Trust.load(ca, ca)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"[]", b"null", b'[["error", 1]]', DEEP, DIGITS, b'{"certificate": 1}', b"\xff",
        b'{"authority": "x", "certificate": []}',
    ],
)  # fmt: skip
def test_what_is_no_answer_of_a_keeper_is_told(answer: bytes) -> None:
    with pytest.raises(LinkError, match="host:1"):
        enrolment.read_answer(answer, "host:1")


def test_what_a_keeper_says_is_told_in_bounds_and_in_letters() -> None:
    with pytest.raises(OodidaError) as told:
        enrolment.read_answer(
            b'{"error": "bad_token", "message": "\\ud800' + b"x" * 5000 + b'"}', "host:1"
        )
    assert told.value.code == "bad_token"
    assert len(told.value.message.encode()) == 1000


def test_of_an_answer_the_certificate_alone_is_kept(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    pki = Pki.init(tmp_path / "pki", ["localhost"], now)
    key = Ed25519PrivateKey.generate()
    who = identity.of("vehicle", "car-1")
    made = pki.redeem(pki.token(who, now, 5), enrolment.signing_request(key, who), now)[1]
    around = f"anything\n{made.certificate.decode()}{pki.authority}"
    assert enrolment.check(around, pki.authority, key.public_key()) == made.certificate


def test_the_twin_of_a_certificate_that_anybody_can_make_is_none(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    pki = Pki.init(tmp_path / "pki", ["localhost"], now)
    for number in range(8):  # each of which could be either of the two
        folder, _ = pki.enroll(identity.of("analyst", f"ada-{number}"), now)
        good = Signer(folder).sign("a", {}, now.timestamp())
        trust = Trust.load(folder / "ca.pem")
        assert trust.verify(good, "a", {}).name == f"ada-{number}"
        found = x509.load_der_x509_certificate(base64.b64decode(good.certificate))
        r, s = decode_dss_signature(found.signature)
        bits = b"\0" + encode_dss_signature(r, ORDER - s)
        body = found.tbs_certificate_bytes + ECDSA + b"\x03" + bytes([len(bits)]) + bits
        other = b"\x30\x82" + len(body).to_bytes(2, "big") + body
        x509.load_der_x509_certificate(other).verify_directly_issued_by(
            x509.load_pem_x509_certificate(pki.authority.encode())
        )
        twin = good.model_copy(update={"certificate": base64.b64encode(other).decode()})
        with pytest.raises(BadSignature, match="twin"):
            trust.verify(twin, "a", {})


def test_a_certificate_of_a_version_that_there_is_not_vouches_for_nobody(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    pki = Pki.init(tmp_path / "pki", ["localhost"], now)
    folder, _ = pki.enroll(identity.of("analyst", "ada"), now)
    good = Signer(folder).sign("a", {}, now.timestamp())
    data = bytearray(base64.b64decode(good.certificate))
    data[data.index(b"\xa0\x03\x02\x01\x02") + 4] = 3
    strange = good.model_copy(update={"certificate": base64.b64encode(data).decode()})
    with pytest.raises(BadSignature, match="version"):
        Trust.load(folder / "ca.pem").verify(strange, "a", {})
