"""What belongs to a certificate in a file, and what can be wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
#: The key of a certificate that is just being put in place of the one before.
COMING: Final = "key.next.pem"
#: How many points P-256 has (FIPS 186-5; SP 800-186, section 3.2.1.3).
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def strange(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What the library raises for what is no certificate, list, request or key, and ``more``.

    These errors have no root of their own.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    return (
        x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm, ValueError, TypeError,
        *more,
    )  # fmt: skip


def is_low(signature: bytes) -> bool:
    """True for the one of the two signatures by ECDSA on P-256 that an authority of ours writes.

    Of every one there is a twin, r and n - s, that anybody can make and that holds as well: where
    each byte is to count, one of the two is none. Raises ValueError if it is not one at all.
    """
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    return decode_dss_signature(signature)[1] <= ORDER // 2


def key_of(folder: Path) -> Path:
    """The key that fits a folder's certificate: that of a renewal which was cut off, or `KEY`.

    A certificate and its key cannot be replaced in one step. The key comes first, beside the one
    before; the certificate then says which of the two it is (`link.private.write_pair`).
    """
    coming = folder / COMING
    return coming if coming.is_file() and _fits(folder / CERTIFICATE, coming) else folder / KEY


def _fits(certificate: Path, key: Path) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        own = load_pem_private_key(key.read_bytes(), None)
        return found.public_key() == own.public_key()
    except strange(OSError):
        return False
