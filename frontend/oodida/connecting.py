"""To a broker, as somebody."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from oodida.connection import Connection
from oodida.fleet import Fleet
from oodida.silence import PATIENCE_S
from oodida.trial import TRIER
from protocol.errors import BadRequest, WrongName
from protocol.identity import Identity
from protocol.link import credentials
from protocol.topics import is_name

DEFAULT_URL: Final = "mqtt://127.0.0.1:1883"


def connect(
    url: str | None = None,
    user: str | None = None,
    *,
    patience_s: float | None = PATIENCE_S,
    identity: str | Path | None = None,
) -> Fleet:
    """Connect to a broker as a user.

    ``url`` is mqtts://host:port, or mqtt:// on loopback, by default OODIDA_URL, else the broker on
    this machine. ``identity`` is the folder with the analyst's certificate, by default
    OODIDA_IDENTITY; TLS needs one. ``user`` is by default OODIDA_USER, else the certificate's name,
    else whoever is logged in. ``patience_s`` is for how long whoever waits for an assignment bears
    that nothing is heard of the cloud, None for ever. Raises LinkError if the broker cannot be
    reached, IdentityError if it and we do not know each other, BadRequest if the url or the user's
    name is none.
    """
    url = url or os.environ.get("OODIDA_URL") or DEFAULT_URL
    folder = identity or os.environ.get("OODIDA_IDENTITY")
    proof = credentials.needed(url, Path(folder) if folder else None)
    user = user_name(user, proof)
    if not is_name(user):
        raise BadRequest(
            f"{user!r:.80} is no user name: letters, digits, and . _ - after the first"
        )
    if proof is not None:
        _require_analyst(proof, user)
    connection = Connection(url, user, patience_s, proof)
    TRIER.start()  # while it comes up, its user thinks
    return Fleet(connection)


def user_name(given: str | None, proof: Path | None = None) -> str:
    """Who asks: as given, or in OODIDA_USER, or whoever the certificate is of, or is logged in."""
    named = given or os.environ.get("OODIDA_USER")
    return named or (_login() if proof is None else credentials.who(proof).name)


def _require_analyst(proof: Path, user: str) -> None:
    is_ = credentials.who(proof)
    if is_.role != "analyst":
        raise WrongName(
            f"the certificate in {proof} is of {is_}, and only analysts ask a fleet: name an "
            "analyst's folder, as `oodida enroll analyst NAME` makes one"
        )
    credentials.require(proof, Identity("analyst", user))


def _login() -> str:
    import getpass

    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return "analyst"
