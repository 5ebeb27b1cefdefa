"""Cloud to analyst: the answer to a request."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from protocol.assignment import (
    Attribute,
)
from protocol.lifecycle import AssignmentState
from protocol.messages.events import DeploymentEvent, Event
from protocol.messages.parts import ErrorReply
from protocol.module import (
    Digest,
    EnvironmentName,
    Name,
    Side,
)
from protocol.outcome import Frozen


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
    """A user's current module of one name on one side, and where it is ready."""

    name: Name
    side: Side
    generation: int
    digest: Digest
    environment: EnvironmentName
    size: int
    states: dict[str, str]


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
    state: AssignmentState
    iteration: int
    iterations: int
    onboard: str
    offboard: str
    started: str


class Reply(Frozen):
    """The answer to a request: an error, or what was asked for."""

    error: ErrorReply | None = None
    vehicles: list[VehicleInfo] | None = None
    modules: list[ModuleInfo] | None = None
    assignments: list[AssignmentInfo] | None = None
    environments: list[EnvironmentInfo] | None = None
    missing: list[Digest] | None = None
    deployment: DeploymentEvent | None = None
    history: list[Event] | None = None
    more: bool = False
