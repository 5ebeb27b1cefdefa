"""Opening the store that the settings name, with its password from where passwords are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from orchestrator.store.database import Database
from protocol.errors import SetupError
from protocol.link.address import Address

#: With these PostgreSQL's library speaks TLS or not at all.
_ENCRYPTED: Final = ("require", "verify-ca", "verify-full")


def open_store(url: str, password_file: Path | None = None) -> Database:
    """Open the store at an SQLAlchemy URL; its password is the first line of the file, if any.

    Raises SetupError, in whose sentence no password is, if it cannot be opened, or is on another
    machine and nothing says that it is spoken with in TLS.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        raise SetupError(
            "the store's address is no SQLAlchemy URL, such as sqlite:///oodida.db or "
            "postgresql+psycopg://user@host/database"
        ) from None
    _require_encrypted(address)
    if password_file is not None:
        address = address.set(password=_first_line(password_file))
    try:
        return Database(address.render_as_string(hide_password=False))
    except (SQLAlchemyError, ImportError) as problem:
        said = str(getattr(problem, "orig", None) or problem).strip().partition("\n")[0]
        shown = address.render_as_string(hide_password=True)
        raise SetupError(f"the store at {shown} cannot be opened: {said}") from None


def _require_encrypted(address: URL) -> None:
    """As for the broker; a name without a dot is of a network of containers."""
    if address.get_backend_name() != "postgresql":
        return
    asked = {"sslmode": os.environ.get("PGSSLMODE", ""), **address.normalized_query}
    mode = "".join(asked["sslmode"])
    named = [address.host or os.environ.get("PGHOST", ""), os.environ.get("PGHOSTADDR", "")]
    named += [host for key in ("host", "hostaddr") for host in asked.get(key, ())]
    hosts = [one.strip("[]") for several in named for one in several.split(",")]
    beyond = [host for host in hosts if _is_beyond(host)]
    if beyond and mode not in _ENCRYPTED:
        raise SetupError(
            f"the store is on another machine, {beyond[0]}, and would be spoken with without TLS: "
            "write ?sslmode=verify-full&sslrootcert=FILE after its address"
        )


def _is_beyond(host: str) -> bool:
    if host.count(":") == 1:
        host = host.partition(":")[0]  # in a query a host has its port with it
    local = host.startswith(("/", "@")) or Address(host, 0).is_loopback  # a socket's folder
    return not local and ("." in host or ":" in host)


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as problem:
        raise SetupError(f"the store's password cannot be read: {problem}") from None
    if not lines or not lines[0]:
        raise SetupError(f"the store's password cannot be read: {path} is empty")
    return lines[0]
