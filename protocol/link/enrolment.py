"""How a program comes by its certificate itself: once by a token, later by the one it has.

The authority's keeper runs ``oodida pki serve``. A token names the keeper's address, the hash of
the authority's certificate, and a secret that is good once. The key is made here and never travels;
what goes up is a signing request (PKCS #10, RFC 2986).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import hashlib
import http.client
import json
import logging
import os
import random
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol import identity
from protocol.certificate import key_of, strange
from protocol.errors import (
    BadIdentity,
    BadRequest,
    BadToken,
    LinkError,
    OodidaError,
    WrongName,
    from_code,
)
from protocol.identity import Identity
from protocol.link import credentials, private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

log = logging.getLogger(__name__)

#: How often it is looked whether a certificate is due, at most so many seconds.
LOOK_S: Final = 600.0
#: Bytes of a request and of an answer.
MAX_BODY: Final = 32 * 1024
TIMEOUT_S: Final = 15.0
#: In an identity's folder: where its certificate is renewed.
KEEPER: Final = "keeper"
#: A certificate is renewed when this part of its time is left.
LEFT: Final = 1 / 3


class Token(NamedTuple):
    """What a token holds. ``at`` is the keeper's HOST:PORT, ``authority`` a SHA-256."""

    at: str
    authority: str
    secret: str
    who: Identity

    def __str__(self) -> str:
        fields = [self.at, self.authority, self.secret, str(self.who)]
        return base64.urlsafe_b64encode("\n".join(fields).encode()).decode()


def parse(text: str) -> Token:
    """Read a token. Raises BadToken."""
    try:
        raw = base64.b64decode(text.strip(), altchars=b"-_", validate=True)
        at, authority, secret, who = raw.decode().split("\n")
        address(at)
        if len(bytes.fromhex(authority)) == hashlib.sha256().digest_size:
            return Token(at, authority, secret, identity.parse(who))
    except (binascii.Error, ValueError, BadRequest):
        pass
    raise BadToken("this is no token of `oodida enroll --token`: copy it whole")


def given_token(file: Path | None, environ: Mapping[str, str]) -> str | None:
    """The token that a program was given: in a file, or in its environment. Raises BadToken."""
    if file is None:
        return environ.get("OODIDA_ENROLL") or None
    try:
        with file.open() as opened:
            return opened.read(MAX_BODY)
    except (OSError, ValueError):
        # It may be a token, which stands in no log.
        raise BadToken(
            "--enroll takes the path of a file with a token, and there is none that can be read; "
            "the token itself goes to OODIDA_ENROLL, where other users do not see it"
        ) from None


def enrol(text: str, folder: Path, wanted: Identity | None = None) -> Identity:
    """Exchange a token for a certificate in `folder`; whose it is.

    Raises BadToken if it is no good (any more), LinkError if the keeper cannot be reached, and
    WrongName, before the token is used up, if it is for another name than `wanted`.
    """
    given = parse(text)
    if wanted is not None and given.who != wanted:
        raise WrongName(
            f"the token is for {given.who}, and this is {wanted}: bring it to {given.who}, which "
            f"can still use it, and have one made by `oodida enroll {wanted.role} {wanted.name} "
            "--token`"
        )
    authority = _fetch_authority(given)
    _obtain(folder, given.at, authority, _context(authority), {"token": given.secret}, given.who)
    return credentials.who(folder)


def due(folder: Path, now: dt.datetime) -> bool:
    """True if the certificate can be renewed from here, and should be."""
    if not (folder / KEEPER).is_file() or not os.access(folder, os.W_OK):
        return False
    begins, ends = _lifetime(folder)
    return now >= ends - (ends - begins) * LEFT


def renew(folder: Path) -> Identity:
    """Have the certificate renewed by the one that is there. Raises as `enrol`."""
    who = credentials.who(folder)
    authority = (folder / "ca.pem").read_text()
    context = _context(authority)
    context.load_cert_chain(folder / "cert.pem", key_of(folder))
    _obtain(folder, (folder / KEEPER).read_text().strip(), authority, context, {}, who)
    return who


async def keep_renewed(folder: Path | None) -> None:
    """Renew a certificate whenever it is due, until cancelled. A link takes the new one by itself.

    Without an identity, or one whose keeper is not known, there is nothing to do.
    """
    while folder is not None:
        try:
            if due(folder, dt.datetime.now(dt.UTC)):
                who = await asyncio.to_thread(renew, folder)
                log.info("the certificate of %s is renewed", who)
        except (OodidaError, OSError, ValueError) as problem:
            log.warning("the certificate is not renewed, and tried again: %s", problem)
        await asyncio.sleep(random.uniform(LOOK_S / 2, LOOK_S))  # noqa: S311 - a fleet, not at once


def _lifetime(folder: Path) -> tuple[dt.datetime, dt.datetime]:
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        return found.not_valid_before_utc, found.not_valid_after_utc
    except strange(OSError) as problem:
        raise BadIdentity(f"{folder} holds no certificate: {problem}") from None


def _obtain(
    folder: Path,
    at: str,
    authority: str,
    context: ssl.SSLContext,
    proof: dict[str, str],
    who: Identity,
) -> None:
    """Have a new key certified. What is believed is the authority that was known before."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    asked = {**proof, "request": signing_request(key, who)}
    certificate = _ask(at, context, "POST", "/certificate", asked).get("certificate", "")
    checked = check(certificate, authority, key.public_key())
    private.make_folder(folder)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    private.write(folder / KEEPER, at.encode())
    private.write(folder / "ca.pem", authority.encode())
    private.write_pair(folder, checked, pem)


def check(certificate: str, authority: str, key: Ed25519PublicKey) -> bytes:
    """A certificate in PEM. Raises BadToken unless the authority has certified this very key."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        made = x509.load_pem_x509_certificate(certificate.encode())
        made.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
        if made.public_key() == key:
            return made.public_bytes(Encoding.PEM)  # and nothing that stood around it
    except strange(InvalidSignature):
        pass
    raise BadToken("the answer is no certificate of our authority for our key: who answers?")


def signing_request(key: Ed25519PrivateKey, who: Identity) -> str:
    """What an authority is asked to certify, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import NameOID

    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, who.role),
            x509.NameAttribute(NameOID.COMMON_NAME, who.name),
        ]
    )
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None)
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _fetch_authority(given: Token) -> str:
    """The authority's certificate, which is believed for its hash alone."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.minimum_version = ssl.TLSVersion.TLSv1_3
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    text = _ask(given.at, blind, "GET", "/authority", None).get("authority", "")
    try:
        der = ssl.PEM_cert_to_DER_cert(text)
    except ValueError:
        raise BadToken("the keeper's answer holds no certificate") from None
    if hashlib.sha256(der).hexdigest() != given.authority:
        raise BadToken(
            "whoever answers at the token's address has another authority than the token's: "
            "is somebody in between?"
        )
    return text


def _context(authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority)
    return context


def _ask(
    at: str, context: ssl.SSLContext, verb: str, path: str, asked: dict[str, str] | None
) -> dict[str, str]:
    host, port = address(at)
    body = None if asked is None else json.dumps(asked)
    connection = http.client.HTTPSConnection(host, port, context=context, timeout=TIMEOUT_S)
    try:
        connection.request(verb, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse().read(MAX_BODY)
    except ssl.SSLCertVerificationError as problem:
        raise LinkError(
            f"the authority's keeper at {at} has no certificate for {host}: start it with `oodida "
            f"pki serve --host {host}`, or have a token made with another --at "
            f"({problem.verify_message})"
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as problem:
        raise LinkError(
            f"the authority's keeper at {at} cannot be asked: {problem}. Does `oodida pki serve` "
            "run there?"
        ) from None
    finally:
        connection.close()
    return read_answer(answer, at)


def read_answer(data: bytes, at: str) -> dict[str, str]:
    """What a keeper has answered. Raises the error that it tells, LinkError if it is no answer."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise LinkError(f"what answers at {at} is no authority's keeper: is the address right?")
    if "error" in told:
        raise from_code(_words(told["error"]), _words(told.get("message", "")))
    found = {name: told[name] for name in ("authority", "certificate") if name in told}
    if not found or not all(isinstance(text, str) for text in found.values()):
        raise LinkError(f"the answer of {at} says nothing")
    return found


def _words(given: object) -> str:
    """What somebody says, in bounds."""
    return given[:1000].encode(errors="replace").decode() if isinstance(given, str) else ""


def token(at: str, authority: str, secret: str, who: Identity) -> str:
    """A token as it is handed over, with the authority's certificate as PEM."""
    der = ssl.PEM_cert_to_DER_cert(authority)
    return str(Token(at, hashlib.sha256(der).hexdigest(), secret, who))


def address(at: str) -> tuple[str, int]:
    """Read ``host:port``. Raises BadRequest."""
    host, _, port = at.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65_536:
        raise BadRequest(f"{at!r:.80} is no HOST:PORT")
    return host.strip("[]"), int(port)
