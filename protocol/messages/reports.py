"""Edge runtime to cloud: how it went; and the cloud's receipt."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from protocol.account import Gaps, Usage
from protocol.environment import MAX_LOCK_TEXT
from protocol.lifecycle import TaskState
from protocol.messages.parts import Count, ErrorReply, Marked, Reason, Seconds
from protocol.module import (
    Digest,
    ImageReference,
    Name,
    Side,
)
from protocol.outcome import Frozen, Outcome
from protocol.result_receipt import ResultReceipt

#: The states in which a task can be reported.
Ended = Literal[TaskState.SUCCEEDED, TaskState.FAILED, TaskState.REJECTED, TaskState.CANCELLED]


#: The states on a task's way that are reported.
Underway = Literal[TaskState.DELIVERED, TaskState.COLLECTING, TaskState.RUNNING]


class StateReport(Marked):
    """How far a task is. Told as it happens and never again: one that is lost does no harm.

    From a worker it is also the sign of life that keeps its lease.
    """

    kind: Literal["state"] = "state"
    task: Name
    attempt: Count
    state: Underway


class TaskReport(Marked):
    """How a task went. Digest, generation and seconds are the runtime's word, not the module's.

    ``gaps`` is where its window was interrupted, None if it was not; ``usage`` is what it took.
    ``receipt`` is signed by who made the result, None where there are no certificates.
    """

    kind: Literal["task"] = "task"
    id: Name
    task: Name
    attempt: Count
    state: Ended
    outcome: Outcome
    digest: Digest | None = None
    generation: Count = 0
    seconds: Seconds = 0.0
    gaps: Gaps | None = None
    usage: Usage = Field(default_factory=Usage)
    receipt: ResultReceipt | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        succeeded = self.state is TaskState.SUCCEEDED
        if succeeded != self.outcome.ok:
            raise ValueError(f"a task {self.state.value} with outcome {self.outcome.kind.value}")
        if succeeded and self.digest is None:
            raise ValueError("a result names the code that made it")
        return self


class ModuleReport(Marked):
    """Whether an edge runtime can run a module that it was sent; "pending" while it prepares.

    ``reason``: why it refuses, how far it is, or which limits it lowers.
    """

    kind: Literal["module"] = "module"
    id: Name
    user_id: Name
    name: Name
    side: Side
    generation: int = Field(ge=1)
    digest: Digest
    state: Literal["ready", "refused", "pending"]
    reason: Reason = ""


class Verdict(Frozen):
    """What trying a module gave. ``line`` and ``column``, from 1, are where in it to look."""

    ok: bool
    code: str = Field(default="", max_length=64)
    reason: Reason = ""
    line: int | None = None
    column: int | None = None
    warning: Reason = ""

    @property
    def place(self) -> str:
        """Where to look, to be followed by the reason: "line 3, column 5: "; empty if nowhere."""
        if not self.line:
            return ""
        return f"line {self.line}, column {self.column}: " if self.column else f"line {self.line}: "


class VerifyReport(Marked):
    """What a worker found when it tried a module."""

    kind: Literal["verify"] = "verify"
    id: Name
    order: Name
    verdict: Verdict


class BuildReport(Marked):
    """How far an environment is; built, with its lock and image; or why it cannot be."""

    kind: Literal["build"] = "build"
    id: Name
    order: Name
    state: Literal["building", "built", "refused"]
    progress: Reason = ""
    lock: str = Field(default="", max_length=MAX_LOCK_TEXT)
    image: ImageReference | None = None
    size: Count = 0  # bytes that a vehicle moves, the base apart
    error: ErrorReply | None = None


Report = Annotated[
    StateReport | TaskReport | ModuleReport | VerifyReport | BuildReport,
    Field(discriminator="kind"),
]


class Receipt(Frozen):
    """The report of this id is committed; it need not be sent again."""

    id: Name
