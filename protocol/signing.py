"""Who vouches for what: a statement, signed by the key of a certificate.

The signature is Ed25519 (RFC 8032) over the statement's canonical form: its purpose, a zero byte,
and JSON with sorted keys and nothing between them, in ASCII. A purpose keeps what was signed for
one end from being used for another; the key proves its owner in TLS as well, where what is signed
begins with 64 spaces (RFC 8446, section 4.4.3) and no statement does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from pydantic import Field

from protocol import identity, revocation, values
from protocol.certificate import is_low, key_of, strange
from protocol.errors import BadIdentity, BadRequest, BadSignature
from protocol.identity import Identity
from protocol.outcome import Frozen
from protocol.revocation import RevocationList

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

#: ECDSA with SHA-256, as a certificate of our authority names it (RFC 5758, section 3.2), in DER.
_ALGORITHM: Final = bytes.fromhex("300a06082a8648ce3d040302")
#: How far clocks may be apart, in seconds.
CLOCKS_DIFFER_S: Final = 600.0
#: Certificates whose issuer has been looked at, and who need not be looked at again.
REMEMBERED: Final = 20_000


class Signature(Frozen):
    """A signature in base64, when it was made in seconds since 1970, and by which certificate."""

    certificate: Annotated[str, Field(min_length=1, max_length=2800)]
    at: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
    signature: Annotated[str, Field(min_length=88, max_length=88)]


def canonical(purpose: str, statement: Mapping[str, Any]) -> bytes:
    """The bytes that are signed."""
    text = json.dumps(statement, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"oodida/v1 {purpose}\0{text}".encode("ascii")


class _Pair(NamedTuple):
    """A certificate in base64, whose it is, and its key."""

    who: Identity
    certificate: str
    key: Ed25519PrivateKey


class Signer:
    """Signs in the name of whose identity a folder holds; a renewed one from then on.

    Raises BadIdentity if it cannot sign.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = self._stamp()
        self._pair = _read_pair(folder)

    @property
    def who(self) -> Identity:
        """In whose name."""
        return self._pair.who

    def sign(self, purpose: str, statement: Mapping[str, Any], at: float) -> Signature:
        """Vouch for a statement at a time in seconds since 1970."""
        self._look_again()
        signed = self._pair.key.sign(canonical(purpose, {**statement, "at": at}))
        text = base64.b64encode(signed).decode()
        return Signature(certificate=self._pair.certificate, at=at, signature=text)

    def _stamp(self) -> tuple[int, int]:
        try:
            seen = (self._folder / "cert.pem").stat()
        except OSError:
            return (0, 0)
        return (seen.st_ino, seen.st_mtime_ns)

    def _look_again(self) -> None:
        seen = self._stamp()
        if seen == self._seen:
            return
        with suppress(BadIdentity):  # it is being renewed this moment: the one before still holds
            pair = _read_pair(self._folder)
            if pair.who == self.who:
                self._pair, self._seen = pair, seen


def _read_pair(folder: Path) -> _Pair:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        key = serialization.load_pem_private_key(key_of(folder).read_bytes(), None)
        who = named(certificate)
    except strange(OSError, BadRequest) as problem:
        raise BadIdentity(f"{folder} holds no identity that can sign: {problem}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadIdentity(f"{folder / 'key.pem'} is no Ed25519 key: `oodida enroll` makes one")
    if certificate.public_key() != key.public_key():
        raise BadIdentity(f"{folder}: the key is not the certificate's")
    der = certificate.public_bytes(serialization.Encoding.DER)
    return _Pair(who, base64.b64encode(der).decode(), key)


class _Known(NamedTuple):
    """A certificate of our authority: whose, from when to when, its key and its number."""

    who: Identity
    begins: float
    ends: float
    key: Ed25519PublicKey
    serial: int


class Trust:
    """An authority, and whom it vouches for: whose certificates it has not taken back."""

    def __init__(self, authority: x509.Certificate) -> None:
        self._authority: Final = authority
        self._revoked: Mapping[int, float] = {}
        self._known: OrderedDict[str, _Known] = OrderedDict()

    @classmethod
    def load(cls, authority: Path, revoked: Path | None = None) -> Trust:
        """From the authority's certificate, and its list of what it took back.

        Raises BadIdentity if a file is none, or the list is not the authority's.
        """
        from cryptography import x509

        try:
            certificate = x509.load_pem_x509_certificate(authority.read_bytes())
            certificate.public_key()
        except strange(OSError) as problem:
            raise BadIdentity(f"{authority} holds no authority: {problem}") from None
        found = cls(certificate)
        if revoked is not None:
            found.take_back(found.read_revoked(revoked))
        return found

    def read_revoked(self, path: Path) -> RevocationList:
        """The authority's list of what it took back.

        Raises BadIdentity if the file is none, or is not of this authority.
        """
        try:
            return revocation.read(path.read_bytes(), self._authority)
        except (OSError, BadRequest, BadSignature) as problem:
            raise BadIdentity(f"{path}: {problem}") from None

    def read_received(self, content: bytes) -> RevocationList:
        """The same from whoever has sent it. Raises BadRequest, BadSignature."""
        return revocation.read_received(content, self._authority)

    def take_back(self, revoked: RevocationList) -> None:
        """From now on this is all that was taken back."""
        self._revoked = revoked.taken

    def verify(self, signature: Signature, purpose: str, statement: Mapping[str, Any]) -> Identity:
        """Whose signature it is. Raises BadSignature if it is nobody's, or not of this statement.

        The certificate has to have been valid when the signature was made, not now: what was
        vouched for stays so. Whoever needs it to be fresh looks at its time.
        """
        from cryptography.exceptions import InvalidSignature

        known = self._look_at(signature.certificate)
        if not known.begins <= signature.at <= known.ends:
            raise BadSignature(f"the certificate of {known.who} was not valid when it was signed")
        if signature.at >= self._revoked.get(known.serial, float("inf")):
            raise BadSignature(f"the certificate of {known.who} had been revoked")
        try:
            signed = _bytes(signature.signature)
            known.key.verify(signed, canonical(purpose, {**statement, "at": signature.at}))
        except (InvalidSignature, binascii.Error, ValueError):
            raise BadSignature(f"it is not what {known.who} has signed") from None
        return known.who

    def check_valid(self, signature: Signature, now: float) -> None:
        """Raises BadSignature unless the certificate of a signature is valid at a time."""
        known = self._look_at(signature.certificate)
        if not known.begins <= now <= known.ends:
            raise BadSignature(f"the certificate of {known.who} is not valid any more, or not yet")

    def check_not_revoked(self, signature: Signature) -> None:
        """Raises BadSignature if the certificate of a signature is taken back by now.

        Whenever it was made: its time is its signer's word, and a stolen key can date it back.
        """
        known = self._look_at(signature.certificate)
        if known.serial in self._revoked:
            raise BadSignature(f"the certificate of {known.who} has been revoked")

    def _look_at(self, text: str) -> _Known:
        found = self._known.get(text)
        if found is not None:
            self._known.move_to_end(text)
            return found
        self._known[text] = found = self._read(text)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _read(self, text: str) -> _Known:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            der = _bytes(text)
            certificate = x509.load_der_x509_certificate(der)
            rest = der.partition(certificate.tbs_certificate_bytes)[2]
            # Outside of what is signed, and the library does not look there: the algorithm once
            # more, and that the signature fills its last byte.
            if not rest.startswith(_ALGORITHM) or rest[len(_ALGORITHM) + 2 :][:1] != b"\0":
                raise ValueError("it is not written as our authority writes one")
            who = named(certificate)
            certificate.verify_directly_issued_by(self._authority)
            if not is_low(certificate.signature):
                raise ValueError("its signature is the twin of ours; renew it, if it is an old one")
            key = certificate.public_key()
        except InvalidSignature:
            raise BadSignature("its certificate is of another authority") from None
        except strange(BadRequest) as problem:
            raise BadSignature(f"its certificate is none of our authority: {problem}") from None
        if not isinstance(key, Ed25519PublicKey):
            raise BadSignature(f"the certificate of {who} has no Ed25519 key")
        begins = certificate.not_valid_before_utc.timestamp()
        ends = certificate.not_valid_after_utc.timestamp()
        return _Known(who, begins, ends, key, certificate.serial_number)


def _bytes(text: str) -> bytes:
    """What is written in base64, in the one way to write it. Raises ValueError."""
    found = base64.b64decode(text, validate=True)
    if base64.b64encode(found).decode() != text:
        raise ValueError("it is not written as base64 is")
    return found


def named(certificate: x509.Certificate) -> Identity:
    """Whose certificate it is. Raises BadRequest if it names nobody."""
    from cryptography.x509.oid import NameOID

    fields = [
        [str(a.value) for a in certificate.subject.get_attributes_for_oid(oid)]
        for oid in (NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME)
    ]
    if [len(found) for found in fields] != [1, 1]:
        raise BadRequest("it names nobody")
    return identity.of(fields[0][0], fields[1][0])


def fingerprint(tree: values.Tree) -> str:
    """SHA-256 of a value, as `values.to_text` writes its tree, in hexadecimal."""
    return hashlib.sha256(values.to_text(tree)).hexdigest()
