"""One-time tokens: with one a vehicle enrols itself, once, and makes its own key."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from protocol import identity
from protocol.errors import BadRequest, BadToken, NoAuthority
from protocol.identity import Identity


class Made(NamedTuple):
    """A token that was made. Its secret is not kept, only the secret's hash."""

    digest: str
    who: Identity
    until: dt.datetime
    used: bool = False
    revoked: bool = False

    def good(self, now: dt.datetime) -> bool:
        """True if it can be exchanged still."""
        return not self.used and not self.revoked and now < self.until


def new_secret() -> str:
    """What only the receiver of a token knows: 256 random bits."""
    return secrets.token_hex(32)


def digest_of(secret: str) -> str:
    """What is kept of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def made(secret: str, who: Identity, until: dt.datetime) -> str:
    """The line of a token."""
    fields = {"token": digest_of(secret), "for": str(who), "until": until.isoformat()}
    return json.dumps(fields) + "\n"


def used(secret: str) -> str:
    """The line of one that is used up."""
    return json.dumps({"used": digest_of(secret)}) + "\n"


def revoked(one: Made) -> str:
    """The line of one that is taken back."""
    return json.dumps({"revoked": one.digest}) + "\n"


def read(lines: Iterable[str]) -> dict[str, Made]:
    """Every token by its digest. Raises NoAuthority for a line that is none."""
    found: dict[str, Made] = {}
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            if "used" in fields:
                found[fields["used"]] = found[fields["used"]]._replace(used=True)
            elif "revoked" in fields:
                found[fields["revoked"]] = found[fields["revoked"]]._replace(revoked=True)
            else:
                until = dt.datetime.fromisoformat(fields["until"])
                found[fields["token"]] = Made(fields["token"], identity.parse(fields["for"]), until)
        except (ValueError, KeyError, TypeError, BadRequest):
            raise NoAuthority(f"line {number} of the authority's tokens cannot be read") from None
    return found


def redeem(known: dict[str, Made], secret: str, now: dt.datetime) -> Identity:
    """Whose token it is. Raises BadToken if it is none, used up, taken back, or too old."""
    token = known.get(digest_of(secret))
    if token is None:
        raise BadToken("there is no such token: have a new one made, by `oodida enroll --token`")
    if token.used:
        raise BadToken(
            f"the token of {token.who} was used before. If it was not you, somebody else has its "
            f"certificate: `oodida revoke {token.who}`, and have a new token made"
        )
    if token.revoked:
        raise BadToken(f"the token of {token.who} was taken back: have a new one made")
    if now >= token.until:
        raise BadToken(
            f"the token of {token.who} was good until {token.until:%F %H:%M} UTC: have a new one "
            "made"
        )
    return token.who
