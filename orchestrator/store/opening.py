"""Opening the store that the settings name, with its password from where passwords are kept."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from orchestrator.store.database import Database
from protocol.errors import SetupError


def open_store(url: str, password_file: Path | None = None) -> Database:
    """Open the store at an SQLAlchemy URL; its password is the first line of the file, if any.

    Raises SetupError, in whose sentence no password is, if it cannot be opened.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        raise SetupError(
            "the store's address is no SQLAlchemy URL, such as sqlite:///oodida.db or "
            "postgresql+psycopg://user@host/database"
        ) from None
    if password_file is not None:
        address = address.set(password=_first_line(password_file))
    try:
        return Database(address.render_as_string(hide_password=False))
    except (SQLAlchemyError, ImportError) as problem:
        said = str(getattr(problem, "orig", None) or problem).strip().partition("\n")[0]
        shown = address.render_as_string(hide_password=True)
        raise SetupError(f"the store at {shown} cannot be opened: {said}") from None


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as problem:
        raise SetupError(f"the store's password cannot be read: {problem}") from None
    if not lines or not lines[0]:
        raise SetupError(f"the store's password cannot be read: {path} is empty")
    return lines[0]
