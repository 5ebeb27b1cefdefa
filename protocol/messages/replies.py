"""Cloud to analyst: the answer to a request."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
)

from protocol.assignment import (
    Attribute,
    Select,
)
from protocol.lifecycle import AssignmentState
from protocol.limits import LimitsAsked
from protocol.messages.events import DeploymentEvent, Event
from protocol.messages.parts import ErrorReply
from protocol.messages.proofs import Entry, Head
from protocol.module import (
    Digest,
    EnvironmentName,
    Name,
    Side,
)
from protocol.outcome import Frozen
from protocol.participation import Participation


class VehicleInfo(Frozen):
    """A vehicle or worker as the orchestrator knows it."""

    name: Name
    role: Literal["vehicle", "worker"]
    online: bool
    attributes: dict[str, Attribute] = Field(default_factory=dict)
    signals: dict[str, str] = Field(default_factory=dict)
    environments: tuple[EnvironmentName, ...] = ()
    builds: bool = False
    version: str = ""


class ModuleInfo(Frozen):
    """A user's current module of one name on one side, and where it is ready.

    ``score`` is its privilege, 1 to 8.
    """

    name: Name
    side: Side
    generation: int
    digest: Digest
    environment: EnvironmentName
    size: int
    states: dict[str, str]
    score: int = 0


class EnvironmentInfo(Frozen):
    """An environment that this user's modules may name: what was asked for, and its lock.

    ``lock`` is empty where all are listed. ``size`` is in bytes, ``built`` a time in ISO 8601.
    """

    digest: Digest
    requirements: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    lock: str
    image: str
    size: int
    built: str
    modules: tuple[str, ...] = ()


class AssignmentInfo(Frozen):
    """An assignment's state in one line."""

    id: Name
    user_id: Name | Literal[""] = ""
    state: AssignmentState
    iteration: int
    iterations: int
    onboard: str
    offboard: str
    started: str


class IterationLedger(Frozen):
    """Of one iteration, why each vehicle is in or out. It is kept when values are not any more."""

    iteration: int = Field(ge=1)
    participation: dict[str, Participation]


class Change(Frozen):
    """One change of state: of an assignment, of a task or of a deployment.

    ``number`` grows with time, ``at`` is a time in ISO 8601, ``subject`` is the id of what changed.
    ``old`` is empty for its first state. ``edge`` is the vehicle or worker, empty if it is none's.
    """

    number: int
    at: str
    kind: Literal["assignment", "task", "deployment"]
    subject: Name
    attempt: int = 0
    iteration: int = 0
    edge: str = ""
    old: str = ""
    new: str
    cause: str


class Review(Frozen):
    """A deployment that waits for a second person.

    ``before`` is the source of the generation that is current, "" if there is none; both sources
    are "" where many are listed. Of that generation are environment and limits, too.
    """

    deployment: Name
    user_id: Name
    name: Name
    side: Side
    digest: Digest
    environment: EnvironmentName
    limits: LimitsAsked
    score: int
    privileges: tuple[str, ...] = ()
    vehicles: Select | None = None
    since: str
    returns: dict[str, Any] | None = None
    generation: int = 0
    environment_before: str = ""
    limits_before: LimitsAsked | None = None
    source: str = ""
    before: str = ""


class Decision(Frozen):
    """What became of a deployment that had to wait for a second person.

    ``decision`` is "waiting" until there is one; "not_approved" is when the time was over,
    "superseded" when a later deployment of the module made it needless. ``by`` is who decided, ""
    if nobody did; ``at`` is when, "" while it waits. Times are in ISO 8601.
    """

    deployment: Name
    user_id: Name
    name: Name
    side: Side
    digest: Digest
    generation: int = 0
    decision: Literal["waiting", "approved", "rejected", "not_approved", "superseded"]
    by: Name | Literal[""] = ""
    reason: str = ""
    since: str
    at: str = ""


class Reply(Frozen):
    """The answer to a request: an error, or what was asked for.

    ``audit`` is a page of the audit log, each entry as the line that it is in an export.
    """

    error: ErrorReply | None = None
    vehicles: list[VehicleInfo] | None = None
    modules: list[ModuleInfo] | None = None
    assignments: list[AssignmentInfo] | None = None
    environments: list[EnvironmentInfo] | None = None
    missing: list[Digest] | None = None
    deployment: DeploymentEvent | None = None
    history: list[Event] | None = None
    ledger: list[IterationLedger] | None = None
    changes: list[Change] | None = None
    proof: Head | None = None
    entries: list[Entry] | None = None
    audit: list[str] | None = None
    reviews: list[Review] | None = None
    decisions: list[Decision] | None = None
    more: bool = False
