"""Cloud to analyst: what happens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from protocol.account import Gaps
from protocol.lifecycle import AssignmentState, DeploymentState
from protocol.messages.parts import Count, ErrorReply, Marked, Reason, Seconds
from protocol.module import (
    Digest,
    Name,
    Side,
)
from protocol.outcome import Frozen, Kind, Tree
from protocol.participation import Participation


class Result(Frozen):
    """What one vehicle answered in one iteration, with the identity of the code that made it.

    ``iteration`` is the earlier one that a late answer was made for, None for the event's own.
    """

    vehicle: Name
    value: Tree = None
    digest: Digest | None = None
    generation: Count = 0
    outcome: Kind
    seconds: Seconds = 0.0
    printed: str = ""
    gaps: Gaps | None = None
    iteration: Annotated[int, Field(ge=1)] | None = None


class VehicleModuleState(Frozen):
    """What a vehicle said of a deployed module."""

    state: Literal["pending", "ready", "refused", "offline", "unknown"]
    reason: Reason = ""


class DeploymentEvent(Marked):
    """Where a deployment stands: whole, not as a difference, so that one lost does no harm.

    ``score`` is its privilege, 1 to 8, and ``privileges`` what that is made of.
    """

    kind: Literal["deployment"] = "deployment"
    id: Name
    name: Name
    side: Side
    state: DeploymentState
    digest: Digest | Literal[""]  # "" as long as its environment is being built
    generation: Count = 0
    environment: str
    progress: Reason = ""
    states: dict[str, VehicleModuleState] = Field(default_factory=dict)
    error: ErrorReply | None = None
    warning: Reason = ""
    score: int = 0
    privileges: tuple[str, ...] = ()


class ProgressEvent(Marked):
    """How many of an iteration's vehicles have answered."""

    kind: Literal["progress"] = "progress"
    assignment: Name
    iteration: int
    answered: int
    expected: int


class IterationEvent(Marked):
    """An iteration is done.

    ``removed``: it is older than what this cloud keeps, so that value and results are not there any
    more; the participation is.
    """

    kind: Literal["iteration"] = "iteration"
    assignment: Name
    number: int = Field(ge=1)
    value: Tree = None
    results: list[Result]
    participation: dict[str, Participation]
    removed: bool = False


class EndEvent(Marked):
    """An assignment has ended, or is halted; there will be no further event unless it resumes."""

    kind: Literal["end"] = "end"
    assignment: Name
    state: AssignmentState
    iterations: int
    error: ErrorReply | None = None


Event = Annotated[
    DeploymentEvent | ProgressEvent | IterationEvent | EndEvent, Field(discriminator="kind")
]
