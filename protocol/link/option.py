"""The option that says where a program's certificate is, the same for every program."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from protocol import identity
from protocol.errors import BadIdentity
from protocol.link import credentials


def add_identity(parser: argparse.ArgumentParser) -> None:
    """The option ``--identity``."""
    folder = os.environ.get("OODIDA_IDENTITY")
    parser.add_argument(
        "--identity", type=Path, default=Path(folder) if folder else None, metavar="FOLDER",
        help="ca.pem, cert.pem and key.pem, as `oodida enroll` makes them; TLS needs them "
        "(default: OODIDA_IDENTITY)",
    )  # fmt: skip


def identified(url: str, folder: Path | None, role: str, name: str | None) -> Path | None:
    """The identity that a connection is made with, None if it needs none.

    Raises IdentityError if it is not of this role and name, or cannot be used.
    """
    found = credentials.needed(url, folder)
    if folder is not None and found is None:
        # Else signatures would not be checked, and nobody would know.
        raise BadIdentity(
            f"there is an identity, {folder}, and {url} has no TLS: write mqtts://, or leave out "
            "--identity and OODIDA_IDENTITY"
        )
    if found is not None:
        credentials.require(found, identity.of(role, name or credentials.who(found).name))
    return found
