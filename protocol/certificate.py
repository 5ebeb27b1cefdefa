"""What belongs to a certificate in a file, and what can be wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
#: The key of a certificate that is just being put in place of the one before.
COMING: Final = "key.next.pem"


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
