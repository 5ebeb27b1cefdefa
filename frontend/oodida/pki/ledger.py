"""Which certificates were issued, and which were taken back: one line each, none ever removed."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import NamedTuple

from protocol import identity
from protocol.errors import BadRequest, NoAuthority
from protocol.identity import Identity


class Issued(NamedTuple):
    """A certificate that was issued."""

    who: Identity
    serial: int
    at: dt.datetime
    until: dt.datetime
    revoked: dt.datetime | None = None

    def valid(self, now: dt.datetime) -> bool:
        """True if a broker lets it in."""
        return self.revoked is None and now < self.until


def issued(who: Identity, serial: int, at: dt.datetime, until: dt.datetime) -> str:
    """The line of a certificate."""
    fields = {"issued": str(who), "serial": f"{serial:x}", "at": _text(at), "until": _text(until)}
    return json.dumps(fields) + "\n"


def revoked(one: Issued, at: dt.datetime) -> str:
    """The line of one that is taken back."""
    return (
        json.dumps({"revoked": str(one.who), "serial": f"{one.serial:x}", "at": _text(at)}) + "\n"
    )


def read(lines: Iterable[str]) -> list[Issued]:
    """What the lines say, in their order. Raises NoAuthority if they cannot be read."""
    found: dict[int, Issued] = {}
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            serial, at = int(fields["serial"], 16), dt.datetime.fromisoformat(fields["at"])
            if "revoked" in fields:
                found[serial] = found[serial]._replace(revoked=at)
            else:
                until = dt.datetime.fromisoformat(fields["until"])
                found[serial] = Issued(identity.parse(fields["issued"]), serial, at, until)
        except (ValueError, KeyError, TypeError, BadRequest):
            raise NoAuthority(
                f"line {number} of the authority's ledger cannot be read: restore the file from "
                "its last copy; nothing has been changed"
            ) from None
    return list(found.values())


def _text(at: dt.datetime) -> str:
    return at.isoformat(timespec="seconds")
