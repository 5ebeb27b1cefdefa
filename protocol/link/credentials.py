"""What proves who we are: a folder with ca.pem, cert.pem and key.pem, as `oodida enroll` makes it.

It is read at each connection, so that what was renewed holds from the next one on.
"""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import Final, NamedTuple

from protocol.certificate import key_of, strange
from protocol.errors import (
    BadIdentity,
    BadRequest,
    CertificateExpired,
    IdentityError,
    LinkError,
    LooseKey,
    NotAuthorised,
    NotEncrypted,
    UnknownAuthority,
    WrongHost,
    WrongName,
)
from protocol.identity import Identity
from protocol.link import doubt
from protocol.link.address import Address, parse_url
from protocol.signing import named

#: How often a renewed certificate is looked for, in seconds: the shorter the less time is left.
LOOK_S: Final = (0.2, 60.0)
#: X509_V_ERR_... of OpenSSL.
_EXPIRED: Final = frozenset({9, 10})
#: What OpenSSL says when whatever answers speaks no TLS.
_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"}
)
_OTHER_HOST: Final = frozenset({62, 64})
_OTHER_FLEET: Final = (
    "If it is the broker that you mean, this identity is of another fleet: have one made by "
    "`oodida enroll`, with the --pki of this broker"
)
#: What a broker says of our certificate, as OpenSSL calls the alert.
_REFUSALS: Final = {
    "CERTIFICATE_EXPIRED": CertificateExpired("the broker says that our certificate has expired"),
    "CERTIFICATE_REVOKED": NotAuthorised("our certificate has been revoked"),
    "CERTIFICATE_REQUIRED": NotAuthorised("the broker asks for a certificate, and got none"),
    "UNKNOWN_CA": NotAuthorised(f"the broker knows another authority than ours. {_OTHER_FLEET}"),
    "BAD_CERTIFICATE": NotAuthorised("the broker does not take our certificate"),
    "CERTIFICATE_UNKNOWN": NotAuthorised("the broker does not take our certificate"),
    "UNSUPPORTED_CERTIFICATE": NotAuthorised("our certificate is not one of a client"),
    "ACCESS_DENIED": NotAuthorised("the broker does not let our certificate in"),
}


class Credentials(NamedTuple):
    """Who we are, until when, and what TLS needs to prove it."""

    who: Identity
    until: dt.datetime
    context: ssl.SSLContext
    #: Which file the certificate was read from: one that is renewed is another file.
    file: tuple[int, int]


def needed(url: str, folder: Path | None) -> Path | None:
    """Which identity a connection to `url` is made with. Raises BadIdentity if it may not be.

    Without TLS there is none: on this machine alone, for nothing would say who is at the other end.
    """
    address = parse_url(url)
    if address.tls:
        if folder is None:
            raise BadIdentity(
                f"{url} speaks TLS and wants to know who we are: name the folder that "
                "`oodida enroll` has made, by OODIDA_IDENTITY or --identity"
            )
        return folder
    if not address.is_loopback:
        host = f"[{address.host}]" if ":" in address.host else address.host
        raise NotEncrypted(
            f"{url} is not encrypted, and is not this machine: write mqtts://{host}:8883, "
            "and name the folder that `oodida enroll` has made, by OODIDA_IDENTITY or --identity"
        )
    return None


def who(folder: Path) -> Identity:
    """Whose identity a folder holds. Raises IdentityError if it cannot be used."""
    return load(folder).who


def require(folder: Path, wanted: Identity) -> None:
    """Raises WrongName if a folder's certificate is of another name, IdentityError if of none."""
    if (is_ := who(folder)) != wanted:
        raise WrongName(f"the certificate in {folder} is of {is_}, and not of {wanted}")


def load(folder: Path) -> Credentials:
    """Read it. Raises IdentityError if it cannot be used, with what to do."""
    from cryptography import x509

    key = key_of(folder)
    try:
        if key.stat().st_mode & 0o077:
            raise LooseKey(
                f"others on this machine can read {key}: `chmod 600 {key}`; if they may have "
                "done so, `oodida revoke` and `oodida enroll` again"
            )
        file = _file(folder)
        certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        is_ = named(certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(folder / "ca.pem")
        context.load_cert_chain(folder / "cert.pem", key)
    except strange(OSError, BadRequest) as problem:  # what TLS refuses is an OSError
        raise BadIdentity(
            f"{folder} holds no identity: {problem}. `oodida enroll` makes what belongs in it"
        ) from None
    now, until = dt.datetime.now(dt.UTC), certificate.not_valid_after_utc
    if not certificate.not_valid_before_utc <= now < until:
        raise CertificateExpired(
            f"the certificate of {is_} is valid from {certificate.not_valid_before_utc:%F %H:%M} "
            f"to {until:%F %H:%M} UTC, and it is {now:%F %H:%M}: `oodida enroll` again, or set the "
            "clock"
        )
    return Credentials(is_, until, context, file)


def renewed(folder: Path, used: Credentials) -> bool:
    """True if another certificate is there than the one that is used, and is good until later."""
    try:
        if _file(folder) == used.file:
            return False
        found = load(folder)
    except (IdentityError, OSError):
        return False  # it is being written, or it is none: what is used holds
    return found.who == used.who and found.until > used.until


def look_s(used: Credentials, now: dt.datetime) -> float:
    """How long until it is looked for a renewed certificate again, in seconds."""
    return min(LOOK_S[1], max(LOOK_S[0], (used.until - now).total_seconds() / 20))


def _file(folder: Path) -> tuple[int, int]:
    found = (folder / "cert.pem").stat()
    return found.st_ino, found.st_mtime_ns


def explained(
    problem: BaseException | None, address: Address, folder: Path | None
) -> LinkError | None:
    """What is wrong, in our words, where TLS has ended a connection; None if it has not.

    ``folder`` holds the identity that it was made with.
    """
    if not isinstance(problem, ssl.SSLError):
        return None
    if isinstance(problem, ssl.SSLCertVerificationError):
        if problem.verify_code in _OTHER_HOST:
            return WrongHost(
                f"the broker's certificate is not for {address.host}: use a name that it has, or "
                f"`oodida pki renew --host {address.host}`"
            )
        if problem.verify_code in _EXPIRED:
            return CertificateExpired(
                "the broker's certificate is not valid now: `oodida pki renew`, or set the clock"
            )
        return UnknownAuthority(
            f"the broker at {address.host}:{address.port} has a certificate of another authority "
            f"than the one in {folder}/ca.pem ({problem.verify_message}). {_OTHER_FLEET}"
        )
    reason = problem.reason or ""
    for alert, error in _REFUSALS.items():
        if reason.endswith(alert):
            return type(error)(error.message)
    if reason in _NO_TLS:
        return LinkError(doubt.wants_none(address))
    if reason.endswith(("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL")):
        return LinkError("the broker does not speak TLS 1.3")
    return LinkError(f"TLS: {reason or problem}")
