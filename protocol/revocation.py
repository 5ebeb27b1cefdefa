"""The authority's list of what it has taken back: signed by it, so it may come from anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.certificate import strange
from protocol.errors import BadRequest, BadSignature

if TYPE_CHECKING:
    from cryptography import x509

#: The list's file, as the authority writes it.
FILE: Final = "crl.pem"
#: How large a list may be that comes from elsewhere, in bytes: some 19 000 certificates. A vehicle
#: has all of it in memory, and a broker passes on eight times as much.
MAX_BYTES: Final = 1024 * 1024


class RevocationList(NamedTuple):
    """What was taken back: serial number to the time of it, in seconds since 1970.

    Of two lists the one with the higher ``number`` is the newer, or the one made later (``at``).
    ``signed`` is the list as the authority signed it, PEM.
    """

    taken: Mapping[int, float]
    number: int
    at: float
    signed: bytes

    def newer_than(self, other: RevocationList) -> bool:
        """True if it says what the authority has said after another one."""
        return (self.number, self.at) > (other.number, other.at)


#: What is in force where nobody has said anything.
NOTHING: Final = RevocationList({}, -1, 0.0, b"")


def read(content: bytes, authority: x509.Certificate) -> RevocationList:
    """Read a list. Raises BadRequest if it is none, BadSignature if it is not the authority's."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        listed = x509.load_pem_x509_crl(content)
        if not listed.is_signature_valid(authority.public_key()):  # type: ignore[arg-type]
            raise BadSignature("it is not a list of the authority that is believed here")
        taken = {one.serial_number: one.revocation_date_utc.timestamp() for one in listed}
        at, signed = listed.last_update_utc.timestamp(), listed.public_bytes(Encoding.PEM)
        number = _number(listed)
    except strange() as problem:
        raise BadRequest(f"it is no list of what was taken back: {problem}") from None
    return RevocationList(taken, number, at, signed)


def read_received(content: bytes, authority: x509.Certificate) -> RevocationList:
    """Read a list that somebody has sent. Raises as `read`, and BadRequest if it is too large."""
    if len(content) > MAX_BYTES:
        raise BadRequest(f"it has {len(content)} bytes, and {MAX_BYTES} are the most")
    return read(content, authority)


def _number(listed: x509.CertificateRevocationList) -> int:
    from cryptography import x509

    try:
        return listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0
