"""What travels. Each message is one frozen type, read from bytes at the border or not at all."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from protocol import values
from protocol.assignment import Assignment, Attribute, AttributeName, Select, SignalName, explain
from protocol.errors import BadRequest, OodidaError
from protocol.lifecycle import AssignmentState, DeploymentState, TaskState
from protocol.module import Digest, Environment, Module, Name, Side
from protocol.outcome import Frozen, Kind, Outcome, Tree
from protocol.participation import Participation

#: Largest message in bytes, and largest sum of the vehicles' values in one off-board task.
MAX_MESSAGE: Final = 8 * 1024 * 1024
MAX_RESULTS: Final = 5 * 1024 * 1024

Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Unit = Annotated[str, Field(max_length=40)]
Reason = Annotated[str, Field(max_length=4000)]


def new_id() -> str:
    """A fresh name for a message, assignment or task: 64 random bits."""
    return secrets.token_hex(8)


class _Marked(Frozen):
    """One of several message types: its mark is written even though it is a default."""

    _mark: ClassVar[str] = "kind"

    @model_serializer(mode="wrap")
    def _keep_mark(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        return {self._mark: getattr(self, self._mark), **tree}


# --- presence ---------------------------------------------------------------------------------


class Presence(Frozen):
    """Birth and last will of an edge runtime. A lower session never overrules a higher one."""

    online: bool
    session: Count
    version: str = Field(default="", max_length=40)
    attributes: dict[AttributeName, Attribute] = Field(default_factory=dict, max_length=64)
    signals: dict[SignalName, Unit] = Field(default_factory=dict, max_length=2000)
    environments: tuple[Environment, ...] = ()


# --- orders: cloud to edge runtime ------------------------------------------------------------


class _Task(_Marked):
    """A task's identity, and the code it asks for.

    ``generation`` is the lowest that may be run: a runtime that has an older one waits for it.
    ``previous`` is the value of the iteration before. ``timeout_s`` counts from arrival.
    """

    id: Name
    attempt: Count = 1
    assignment: Name
    iteration: int = Field(ge=1)
    user_id: Name
    method: str = Field(max_length=64)
    module: Name | None = None
    generation: Count = 0
    params: dict[str, Any] = Field(default_factory=dict)
    previous: Tree = None
    timeout_s: Seconds


class OnboardOrder(_Task):
    """Run a method over the window of `samples` that begins at sample number `first`."""

    kind: Literal["onboard"] = "onboard"
    signals: SignalName | tuple[SignalName, ...]
    samples: int = Field(ge=1)
    first: Count
    rate_hz: float | None = None


class OffboardOrder(_Task):
    """Run a method over the vehicles' values, in the order of the vehicles' names."""

    kind: Literal["offboard"] = "offboard"
    results: list[Tree]


class VerifyOrder(_Marked):
    """Try a module in the sandbox before it ships. ``example``: one argument to call it with."""

    kind: Literal["verify"] = "verify"
    id: Name
    module: Module
    example: Tree = None
    timeout_s: Seconds


class CancelOrder(_Marked):
    """Stop every task of an assignment."""

    kind: Literal["cancel"] = "cancel"
    assignment: Name


Order = Annotated[
    OnboardOrder | OffboardOrder | VerifyOrder | CancelOrder, Field(discriminator="kind")
]


class ModuleMessage(Frozen):
    """A deployment as an edge runtime gets it: an assignment of its own, as the paper has it."""

    mode: Literal["deploy_onboard", "deploy_offboard"]
    user_id: Name
    custom_code: str
    name: Name
    environment: Environment
    generation: int = Field(ge=1)
    digest: Digest

    @classmethod
    def of(cls, module: Module) -> ModuleMessage:
        """The message that carries `module`."""
        return cls(
            mode="deploy_onboard" if module.side is Side.ONBOARD else "deploy_offboard",
            user_id=module.user_id,
            custom_code=module.source,
            name=module.name,
            environment=module.environment,
            generation=module.generation,
            digest=module.digest,
        )

    def module(self) -> Module:
        """The module carried. Raises pydantic's ValidationError if the digest does not fit."""
        return Module(
            user_id=self.user_id,
            name=self.name,
            side=Side.ONBOARD if self.mode == "deploy_onboard" else Side.OFFBOARD,
            generation=self.generation,
            environment=self.environment,
            source=self.custom_code,
            digest=self.digest,
        )


# --- reports and receipts ---------------------------------------------------------------------


#: The states in which a task can be reported.
Ended = Literal[TaskState.SUCCEEDED, TaskState.FAILED, TaskState.REJECTED, TaskState.CANCELLED]


class TaskReport(_Marked):
    """How a task went. Digest, generation and seconds are the runtime's word, not the module's."""

    kind: Literal["task"] = "task"
    id: Name
    task: Name
    attempt: Count
    state: Ended
    outcome: Outcome
    digest: Digest | None = None
    generation: Count = 0
    seconds: Seconds = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        succeeded = self.state is TaskState.SUCCEEDED
        if succeeded != self.outcome.ok:
            raise ValueError(f"a task {self.state.value} with outcome {self.outcome.kind.value}")
        if succeeded and self.digest is None:
            raise ValueError("a result names the code that made it")
        return self


class ModuleReport(_Marked):
    """Whether an edge runtime can run a module that it was sent."""

    kind: Literal["module"] = "module"
    id: Name
    user_id: Name
    name: Name
    side: Side
    generation: int = Field(ge=1)
    digest: Digest
    state: Literal["ready", "refused"]
    reason: Reason = ""


class Verdict(Frozen):
    """What trying a module gave. ``line`` is the line of the module to look at."""

    ok: bool
    code: str = Field(default="", max_length=64)
    reason: Reason = ""
    line: int | None = None
    warning: Reason = ""


class VerifyReport(_Marked):
    """What a worker found when it tried a module."""

    kind: Literal["verify"] = "verify"
    id: Name
    order: Name
    verdict: Verdict


Report = Annotated[TaskReport | ModuleReport | VerifyReport, Field(discriminator="kind")]


class Receipt(Frozen):
    """The report of this id is committed; it need not be sent again."""

    id: Name


# --- requests and replies ---------------------------------------------------------------------


class _Request(_Marked):
    _mark: ClassVar[str] = "mode"

    user_id: Name


class Deploy(_Request):
    """Ship a module. On the wire an assignment of its own, as in the paper."""

    mode: Literal["deploy_onboard", "deploy_offboard"]
    id: Name
    name: Name
    custom_code: str
    environment: Environment = Environment.MINIMAL
    vehicles: Select | None = None
    example: Tree = None

    @property
    def side(self) -> Side:
        """Where the module runs."""
        return Side.ONBOARD if self.mode == "deploy_onboard" else Side.OFFBOARD


class Submit(_Request):
    """Start an assignment."""

    mode: Literal["submit"] = "submit"
    id: Name
    assignment: Assignment


class Cancel(_Request):
    """End an assignment."""

    mode: Literal["cancel"] = "cancel"
    assignment: Name


class ListVehicles(_Request):
    """Who is there."""

    mode: Literal["vehicles"] = "vehicles"


class ListModules(_Request):
    """Which modules this user has deployed."""

    mode: Literal["modules"] = "modules"


class ListAssignments(_Request):
    """Which assignments this user has."""

    mode: Literal["assignments"] = "assignments"


class History(_Request):
    """What has happened to an assignment after iteration number `after`, a page at a time."""

    mode: Literal["history"] = "history"
    assignment: Name
    after: Count = 0


class DeploymentStatus(_Request):
    """How far a deployment is."""

    mode: Literal["deployment"] = "deployment"
    deployment: Name


Request = Annotated[
    Deploy | Submit | Cancel | ListVehicles | ListModules | ListAssignments | History
    | DeploymentStatus,
    Field(discriminator="mode"),
]  # fmt: skip


class ErrorReply(Frozen):
    """The request was not done, and nothing was stored."""

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)


class VehicleInfo(Frozen):
    """A vehicle or worker as the orchestrator knows it."""

    name: Name
    role: Literal["vehicle", "worker"]
    online: bool
    attributes: dict[str, Attribute] = Field(default_factory=dict)
    signals: dict[str, str] = Field(default_factory=dict)
    environments: tuple[Environment, ...] = ()
    version: str = ""


class ModuleInfo(Frozen):
    """A user's current module of one name on one side, and where it is ready."""

    name: Name
    side: Side
    generation: int
    digest: Digest
    environment: Environment
    size: int
    states: dict[str, str]


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
    deployment: DeploymentEvent | None = None
    history: list[Event] | None = None
    more: bool = False


# --- events: what analysts are told -----------------------------------------------------------


class Result(Frozen):
    """What one vehicle answered in one iteration, with the identity of the code that made it."""

    vehicle: Name
    value: Tree = None
    digest: Digest | None = None
    generation: Count = 0
    outcome: Kind
    seconds: Seconds = 0.0
    printed: str = ""


class VehicleModuleState(Frozen):
    """What a vehicle said of a deployed module."""

    state: Literal["pending", "ready", "refused", "offline", "unknown"]
    reason: Reason = ""


class DeploymentEvent(_Marked):
    """Where a deployment stands: whole, not as a difference, so that one lost does no harm."""

    kind: Literal["deployment"] = "deployment"
    id: Name
    name: Name
    side: Side
    state: DeploymentState
    digest: Digest
    generation: Count = 0
    environment: Environment
    states: dict[str, VehicleModuleState] = Field(default_factory=dict)
    error: ErrorReply | None = None
    warning: Reason = ""


class ProgressEvent(_Marked):
    """How many of an iteration's vehicles have answered."""

    kind: Literal["progress"] = "progress"
    assignment: Name
    iteration: int
    answered: int
    expected: int


class IterationEvent(_Marked):
    """An iteration is done."""

    kind: Literal["iteration"] = "iteration"
    assignment: Name
    number: int = Field(ge=1)
    value: Tree = None
    results: list[Result]
    participation: dict[str, Participation]


class EndEvent(_Marked):
    """An assignment has ended; there will be no further event."""

    kind: Literal["end"] = "end"
    assignment: Name
    state: AssignmentState
    iterations: int
    error: ErrorReply | None = None


Event = Annotated[
    DeploymentEvent | ProgressEvent | IterationEvent | EndEvent, Field(discriminator="kind")
]
Reply.model_rebuild()

M = TypeVar("M", bound=BaseModel)
PRESENCE: Final = TypeAdapter[Presence](Presence)
ORDER: Final = TypeAdapter[Order](Order)
MODULE: Final = TypeAdapter[ModuleMessage](ModuleMessage)
REPORT: Final = TypeAdapter[Report](Report)
RECEIPT: Final = TypeAdapter[Receipt](Receipt)
REQUEST: Final = TypeAdapter[Request](Request)
REPLY: Final = TypeAdapter[Reply](Reply)
EVENT: Final = TypeAdapter[Event](Event)
T = TypeVar("T")


def encode(message: BaseModel) -> tuple[bytes, str]:
    """Write a message: (bytes, content type). Fields left at their default are not written."""
    return values.encode(message.model_dump(mode="python", exclude_defaults=True))


def decode(kind: TypeAdapter[T], data: bytes, content_type: str) -> T:
    """Read a message from anybody. Raises BadRequest with what is wrong with it."""
    if len(data) > MAX_MESSAGE:
        raise BadRequest(f"the message has {len(data)} bytes; at most {MAX_MESSAGE} are read")
    try:
        return kind.validate_python(values.decode(data, content_type or values.JSON))
    except values.ValueProblem as problem:
        raise BadRequest(f"the message cannot be read: {problem}") from None
    except ValidationError as error:
        raise BadRequest(explain(error)) from None
    except OodidaError:
        raise
    except Exception as problem:  # noqa: BLE001 - whatever hostile bytes bring about, it is theirs
        raise BadRequest(f"the message cannot be read: {type(problem).__name__}") from None
