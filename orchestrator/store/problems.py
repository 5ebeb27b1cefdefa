"""What a store's errors mean for whoever works with it."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
)
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm.exc import StaleDataError


class Overtaken(Exception):
    """Somebody else has changed this state meanwhile: what was decided is to be decided again."""


#: PostgreSQL's words for a transaction that stood in another's way.
_IN_THE_WAY: Final = frozenset({"40001", "40P01", "55P03"})


def contended(error: BaseException) -> bool:
    """True if the same work may succeed at once, decided again on what is there now."""
    if isinstance(error, Overtaken | StaleDataError | IntegrityError):
        return True
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _IN_THE_WAY


def away(error: BaseException) -> bool:
    """True if the store does not work now: it is not there, is full, or is held by another."""
    kinds = OperationalError | InterfaceError | InternalError | NoConnection | PendingRollbackError
    if isinstance(error, kinds):
        return not contended(error)
    return isinstance(error, DBAPIError) and error.connection_invalidated
