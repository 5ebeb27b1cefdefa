"""What the authority says: this key belongs to that name, until then; and what it takes back.

The authority's key is ECDSA on P-256, which every TLS library takes for one. Those of programs are
Ed25519 (RFC 8032): they prove who speaks, and sign modules and receipts as well, whose signatures
are short, fast, and need no good random numbers on a vehicle.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.certificate import is_low, strange
from protocol.errors import BadRequest
from protocol.identity import Identity

#: The authority's own certificate, in days.
AUTHORITY_DAYS: Final = 3650
#: A certificate is valid a little before it is made: clocks differ.
BACKDATED: Final = dt.timedelta(hours=1)
#: In the place of a role, on the certificate of the broker.
BROKER: Final = "broker"


class Credentials(NamedTuple):
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes
    serial: int
    until: dt.datetime


class Authority:
    """A certificate and a key that others' certificates are signed with."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate, self._key = certificate, key

    @classmethod
    def new(cls, now: dt.datetime) -> Self:
        """One that nobody knows yet."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OODIDA authority")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + dt.timedelta(days=AUTHORITY_DAYS))
            # It signs certificates of programs, and none of another authority.
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_others=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> Self:
        """From PEM. Raises ValueError if it is none, or the two are not of one pair."""
        read = serialization.load_pem_private_key(key, None)
        found = x509.load_pem_x509_certificate(certificate)
        if not isinstance(read, ec.EllipticCurvePrivateKey) or (
            found.public_key() != read.public_key()
        ):
            raise ValueError("the key is not the certificate's")
        return cls(found, read)

    @property
    def certificate(self) -> bytes:
        """What everybody is given, as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key(self) -> bytes:
        """What nobody is given, as PEM."""
        return _pem(self._key)

    def issue(self, who: Identity, now: dt.datetime, days: float) -> Credentials:
        """Say who a new key belongs to. It proves a client, and cannot pretend to be the broker."""
        subject = _subject(who.role, who.name)
        return self._issue(subject, now, days, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def issue_for(self, who: Identity, request: str, now: dt.datetime, days: float) -> Credentials:
        """Say who a key belongs to that was made elsewhere. ``key`` is empty: it is not known.

        Raises BadRequest if the signing request is none, or its key is not one of ours.
        """
        try:
            asked = x509.load_pem_x509_csr(request.encode())
            key, fits = asked.public_key(), asked.is_signature_valid
        except strange() as problem:
            raise BadRequest(f"this is no signing request: {problem}") from None
        if not fits or not isinstance(key, Ed25519PublicKey):
            raise BadRequest("the signing request is not signed by an Ed25519 key of its own")
        made, until = self._sign(
            _subject(who.role, who.name), key, now, days, ExtendedKeyUsageOID.CLIENT_AUTH, ()
        )
        pem = made.public_bytes(serialization.Encoding.PEM)
        return Credentials(pem, b"", made.serial_number, until)

    def issue_broker(self, hosts: Sequence[str], now: dt.datetime, days: float) -> Credentials:
        """The same for the broker, under the names and addresses that it is reached by."""
        names = [_general_name(host) for host in hosts]
        if not names:
            raise BadRequest("the broker's certificate needs a host: --host broker.example")
        return self._issue(
            _subject(BROKER, BROKER), now, days, ExtendedKeyUsageOID.SERVER_AUTH, names
        )

    def _issue(
        self,
        subject: x509.Name,
        now: dt.datetime,
        days: float,
        purpose: x509.ObjectIdentifier,
        names: Iterable[x509.GeneralName],
    ) -> Credentials:
        key = Ed25519PrivateKey.generate()
        made, until = self._sign(subject, key.public_key(), now, days, purpose, names)
        pem = made.public_bytes(serialization.Encoding.PEM)
        return Credentials(pem, _pem(key), made.serial_number, until)

    def _sign(
        self,
        subject: x509.Name,
        key: Ed25519PublicKey,
        now: dt.datetime,
        days: float,
        purpose: x509.ObjectIdentifier,
        names: Iterable[x509.GeneralName],
    ) -> tuple[x509.Certificate, dt.datetime]:
        until = min(now + dt.timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_others=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
        )
        if listed := list(names):
            builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        while not is_low(made.signature):  # every second one
            made = builder.sign(self._key, hashes.SHA256())
        return made, made.not_valid_after_utc

    def revocation_list(
        self, revoked: Mapping[int, dt.datetime], number: int, now: dt.datetime
    ) -> bytes:
        """What is taken back and when, as PEM. A list with a higher number is the newer one."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - BACKDATED)
            # It is read where it is written, not fetched: an old one is no sign of an attack.
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for serial, at in sorted(revoked.items()):
            taken_back = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
            builder = builder.add_revoked_certificate(taken_back.build())
        made = builder.sign(self._key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)


def _subject(role: str, name: str) -> x509.Name:
    """The role has a field of its own: a name of 64 characters fills a common name."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    if (
        not all(label.isascii() and label.replace("-", "").isalnum() for label in labels)
        or len(host) > 253
    ):
        raise BadRequest(f"{host!r:.80} is neither a host's name nor an address")
    return x509.DNSName(host)


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
