"""What a journal keeps, as rows."""

from __future__ import annotations

from typing import NamedTuple

from edge_runtime.clock import Stamp
from protocol.errors import OodidaError


class JournalFull(OodidaError):
    """The journal cannot be written: the disk is full or fails; make room on it."""

    code = "journal_full"


class StoredOrder(NamedTuple):
    """An order that was accepted and is not finished; ``stamp`` is when it was accepted."""

    task: str
    attempt: int
    assignment: str
    payload: bytes
    content_type: str
    stamp: Stamp


class StoredSamples(NamedTuple):
    """Consecutive samples of a window from number ``first`` on; ``stamp`` is when they were kept.

    ``gap_s`` is by how many seconds the window was interrupted before them, 0 if it was not.
    """

    first: int
    stamp: Stamp
    gap_s: float
    data: bytes


class StoredReport(NamedTuple):
    """A report that has no receipt yet; the lowest priority number goes first."""

    id: str
    priority: int
    wall: float
    payload: bytes
    content_type: str
