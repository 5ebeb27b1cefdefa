"""What one sandboxed call ended as. A closed set, with blame in the type."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from protocol.values import Tree


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


class Frozen(BaseModel):
    """A value without I/O: immutable, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    ``seconds`` is wall time of the call as the runtime measured it.
    """

    kind: Kind
    value: Tree = None
    fault: Fault | None = None
    exceeded: Exceeded | None = None
    reason: str = Field(default="", max_length=2000)
    printed: str = Field(default="", max_length=16_384)
    seconds: float = 0.0

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
            return f"{e.limit.value} limit of {e.configured:g} {e.unit} exceeded{seen}"
        return self.reason or self.kind.value
