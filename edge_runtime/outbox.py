"""Reports without a receipt: which goes out first, and which has to go where room is short."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel

from edge_runtime.journal import StoredReport
from protocol.account import Usage
from protocol.messages import BuildReport, ModuleReport

#: After how long without a receipt a report is sent again, in seconds: a little, then more.
RESEND_S: Final = (5.0, 60.0)
#: What goes out first, and stays longest where room is short.
RESULT: Final = 0
MODULE: Final = 1
PROGRESS: Final = 2


@dataclass(frozen=True)
class Bounds:
    """How much may wait: bytes of reports together, and how old one may be in days."""

    size: int = 64 * 2**20
    days: float = 7.0


class Ended(NamedTuple):
    """The task whose end a report tells, and what it used; None where nobody keeps count."""

    task: str
    attempt: int
    assignment: str
    usage: Usage | None


@dataclass
class Waiting:
    """A report without a receipt. ``payload`` is None where only the journal holds it."""

    id: str
    priority: int
    wall: float
    size: int
    content_type: str
    payload: bytes | None
    kept: bool  # it is in the journal
    ended: Ended | None = None
    #: On a clock that only goes forward. What an earlier life has left counts from now on: how long
    #: that one is ago, only the wall clock could tell.
    since: float = field(default_factory=time.monotonic)
    due: float = 0.0
    pause: float = RESEND_S[0]

    def stored(self) -> StoredReport:
        """What the journal keeps of it."""
        return StoredReport(
            self.id, self.priority, self.wall, self.payload or b"", self.content_type
        )


def made(
    id_: str, priority: int, payload: bytes, content_type: str, ended: Ended | None
) -> Waiting:
    """A report that was made now, and is not in the journal yet."""
    return Waiting(
        id_, priority, time.time(), len(payload), content_type, payload, kept=False, ended=ended
    )


class Entry(Protocol):
    """What is asked of a report to find what has to go."""

    @property
    def priority(self) -> int:
        """The lower, the longer it stays."""
        ...

    @property
    def since(self) -> float:
        """When it was made, in seconds of a clock that only goes forward."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...


E = TypeVar("E", bound=Entry)


def excess(waiting: Iterable[E], bounds: Bounds, now: float) -> list[E]:
    """What has to go, so that the rest is within bounds. Pure; ``now`` is on the entries' clock.

    First whatever is too old. Then, until the rest fits: progress, then states of modules, then
    results, and of each the oldest first, because the iteration that a result was for is over
    soonest.
    """
    oldest = now - bounds.days * 86_400
    gone: list[E] = []
    left: list[E] = []
    for entry in waiting:
        (gone if entry.since < oldest else left).append(entry)
    left.sort(key=lambda r: (-r.priority, r.since))
    size = sum(r.size for r in left)
    for entry in left:
        if size <= bounds.size:
            break
        gone.append(entry)
        size -= entry.size
    return gone


def priority_of(report: BaseModel) -> int:
    """How important a report is; the lowest number goes out first."""
    if isinstance(report, ModuleReport):
        return PROGRESS if report.state == "pending" else MODULE
    if isinstance(report, BuildReport) and report.state == "building":
        return PROGRESS
    return RESULT
