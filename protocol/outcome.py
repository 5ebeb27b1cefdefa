"""What one sandboxed call ended as. A closed set, with blame in the type."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from protocol import values
from protocol.model import FirstFault


class Kind(StrEnum):
    """Who or what ended the call."""

    VALUE = "value"  # the module returned
    MODULE_ERROR = "module_error"  # the module raised, or ended its process
    LIMIT_EXCEEDED = "limit_exceeded"  # a limit stopped it
    CONTRACT_BROKEN = "contract_broken"  # what came back is no value that may travel
    REFUSED = "refused"  # it was never run: policy, or no such environment
    ENGINE_FAILURE = "engine_failure"  # our fault or the engine's, not the module's


class Limit(StrEnum):
    """Which limit a call hit."""

    TIME = "time"
    CPU = "cpu"
    MEMORY = "memory"
    PROCESSES = "processes"
    OUTPUT = "output"
    VALUE_SIZE = "value_size"
    BUDGET = "budget"


class Frozen(FirstFault):
    """A value without I/O: immutable, nothing unknown in it, and no float that is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


#: A value's tree, checked where it comes in, so that one that exists can be stored and sent.
Tree = Annotated[Any, AfterValidator(values.check)]


class Exceeded(Frozen):
    """A limit that was hit: which, what was configured, what was seen (None: not measured)."""

    limit: Limit
    configured: float
    seen: float | None = None
    unit: str


class Line(Frozen):
    """One line of the module's own traceback."""

    number: int
    function: str = Field(max_length=200)
    text: str = Field(default="", max_length=500)


class Fault(Frozen):
    """What the module raised: type, message, and its own lines, innermost last."""

    type: str = Field(max_length=200)
    message: str = Field(max_length=2000)
    lines: tuple[Line, ...] = Field(default=(), max_length=20)


class Outcome(Frozen):
    """How a call ended.

    ``value`` is the tree of the returned value (`protocol.values`), only for kind VALUE.
    ``printed`` is what the module wrote to its standard streams, capped and cleaned.
    ``seconds`` is wall time of the call as the runtime measured it, ``cpu_s`` the processor time
    that its processes took, 0 where that is not known; ``starts`` how many containers it took.
    ``code``, of one that was refused, is the code of the error that says why, for programs.
    """

    kind: Kind
    value: Tree = None
    fault: Fault | None = None
    exceeded: Exceeded | None = None
    reason: str = Field(default="", max_length=2000)
    code: str = Field(default="", pattern=r"^[a-z_]{0,64}$")
    printed: str = Field(default="", max_length=16_384)
    seconds: float = 0.0
    cpu_s: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    starts: Annotated[int, Field(ge=0, le=2**31)] = 0

    @model_validator(mode="after")
    def _only_a_value_has_one(self) -> Self:
        if self.kind is not Kind.VALUE and self.value is not None:
            raise ValueError(f"an outcome of kind {self.kind.value} has no value")
        return self

    @property
    def ok(self) -> bool:
        """True if there is a value."""
        return self.kind is Kind.VALUE

    def describe(self) -> str:
        """One sentence for people: what happened, and where."""
        if self.ok:
            return "ok"
        if self.fault is not None:
            last = self.fault.lines[-1] if self.fault.lines else None
            place = f" (line {last.number}, in {last.function})" if last else ""
            return f"{self.fault.type}: {self.fault.message}{place}"
        if self.exceeded is not None:
            e = self.exceeded
            seen = "" if e.seen is None else f", seen {e.seen:g} {e.unit}"
            place = f" ({self.reason})" if self.reason else ""
            return f"{e.limit.value} limit of {e.configured:g} {e.unit} exceeded{seen}{place}"
        return self.reason or self.kind.value
