"""The specification language: what an analyst asks of a fleet."""

from __future__ import annotations

import random
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from protocol import methods
from protocol.account import Budget
from protocol.errors import BadRequest
from protocol.model import FirstFault
from protocol.module import Digest, Name
from protocol.topics import is_name

CUSTOM = "custom"
MAX_ITERATIONS = 1_000_000
Consistency = Literal["majority", "newest", "pinned", "any"]
Isolation = Literal["call", "assignment"]
#: Whether a window that was interrupted, by ignition off or a restart, may be computed over.
WindowGaps = Literal["allow", "forbid"]
#: What becomes of an answer that comes after its iteration was closed.
Late = Literal["drop", "next"]
Share = Annotated[float, Field(gt=0, le=1, strict=True, allow_inf_nan=False)]
#: One line of text that does not look like a mark of `protocol.values`.
_LABEL = r"^[^~\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
AttributeName = Annotated[str, Field(max_length=64, pattern=_LABEL)]
Attribute = (
    bool
    | Annotated[int, Field(ge=-(2**63), le=2**63)]
    | Annotated[float, Field(allow_inf_nan=False)]
    | Annotated[str, Field(max_length=200)]
)
SignalName = Annotated[str, Field(max_length=100, pattern=_LABEL)]


def first_sample(iteration: int, samples: int) -> int:
    """The number of the first sample of an iteration's window of so many.

    Windows of a recording follow one another, the same whoever missed an iteration.
    """
    return (iteration - 1) * samples


def explain(error: ValidationError) -> str:
    """The first thing wrong with a request, as one sentence for people."""
    first = error.errors(include_url=False, include_context=False, include_input=True)[0]
    # Names and values come from strangers: as reprlib shows them they are short, and one line.
    parts = (p if isinstance(p, str) and is_name(p) else reprlib.repr(p) for p in first["loc"])
    where = ".".join(parts)
    given = "" if first["type"] == "missing" else f" (given: {_shown(first['input'])})"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}{given}" if where else f"{message}"


def _shown(given: Any) -> str:
    try:
        return reprlib.repr(given)[:60]
    except ValueError:  # an integer of more digits than may be written
        return type(given).__name__


class _Spec(FirstFault):
    """A part of a request. What is wrong with it is a BadRequest, not the library's own error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            name, first = type(self).__name__, error.errors()[0]
            field = next(iter(first["loc"]), "")
            about = {"field": f"{name}.{field}", "given": _shown(first["input"])}
            known = field in type(self).model_fields
            raise BadRequest(f"{name}: {explain(error)}", **(about if known else {})) from None


class Candidate(Protocol):
    """What selecting needs to know of a vehicle."""

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """What it may be selected by."""
        ...

    @property
    def online(self) -> bool:
        """True if it is connected."""
        ...


class Select(_Spec):
    """Which vehicles take part. Made by `all`, `ids`, `where` or `sample`."""

    names: tuple[Name, ...] | None = Field(default=None, min_length=1, max_length=20_000)
    attributes: dict[AttributeName, Attribute] = Field(default_factory=dict, max_length=32)
    size: Annotated[int, Field(ge=1, strict=True)] | None = None
    seed: Annotated[int, Field(strict=True)] = 0

    @classmethod
    def all(cls) -> Self:
        """Every vehicle that is known."""
        return cls()

    @classmethod
    def ids(cls, *names: str | Iterable[str]) -> Self:
        """The vehicles named, known or not: `ids("car-1", "car-2")` or `ids([...])`."""
        flat = [n for given in names for n in ([given] if isinstance(given, str) else given)]
        return cls(names=tuple(dict.fromkeys(flat)))

    @classmethod
    def where(cls, **attributes: Attribute) -> Self:
        """The vehicles whose attributes have these values: `where(model="etios")`."""
        return cls(attributes=attributes)

    @classmethod
    def sample(cls, size: int, *, seed: int = 0, **attributes: Attribute) -> Self:
        """`size` of the vehicles that are online; the same seed draws the same from the same."""
        return cls(size=size, seed=seed, attributes=attributes)

    def covers(self, other: Select) -> bool:
        """True if another selection is this one, or fewer by their attributes."""
        if self.names is not None or other.names is not None:
            return self.names == other.names
        same = (self.size, self.seed) == (other.size, other.seed)
        return same and self.attributes.items() <= other.attributes.items()

    def choose(self, fleet: Mapping[str, Candidate]) -> list[str]:
        """The names selected from `fleet`, sorted. Named vehicles stay in even if unknown."""
        if self.names is not None:
            return sorted(set(self.names))
        wanted = self.attributes.items()
        found = sorted(
            name
            for name, known in fleet.items()
            if all(k in known.attributes and known.attributes[k] == v for k, v in wanted)
        )
        if self.size is None:
            return found
        online = [name for name in found if fleet[name].online]
        drawn = random.Random(self.seed).sample(online, min(self.size, len(online)))  # noqa: S311
        return sorted(drawn)


class _Task(_Spec):
    """A built-in method with its parameters, or the analyst's own module.

    ``isolation`` is for custom modules: a fresh container for each "call", or one for the
    "assignment", in which each call is a process of its own.
    """

    method: Annotated[str, Field(min_length=1, max_length=64)]
    module: Name | None = None
    isolation: Isolation = "call"
    params: dict[str, Any] = Field(default_factory=dict, max_length=32)

    def __init__(self, *method: str, **data: Any) -> None:
        if method:
            data["method"] = method[0] if len(method) == 1 else method
        own = {k: data.pop(k) for k in list(data) if k in type(self).model_fields}
        # What is no field is a parameter of the method: Onboard("quantiles", ..., q=[0.1]).
        params = {**own.pop("params", {}), **data} if data else own.pop("params", {})
        super().__init__(params=params, **own)

    def _check(self, side: methods.Side) -> None:
        if self.method == CUSTOM:
            if self.module is None:
                raise BadRequest('a custom task names its module: module="..."')
            if self.params:
                raise BadRequest(f"a custom task has no parameters: {sorted(self.params)}")
            return
        if self.module is not None:
            raise BadRequest(f'only "custom" takes a module, not the method {self.method!r}')
        if self.isolation != "call":
            raise BadRequest(f"the method {self.method!r} is our own code: it needs no isolation")
        # Stored as given; the runtime fills the defaults, so a method may gain parameters.
        methods.check(side, self.method, self.params)


class Onboard(_Task):
    """What every selected vehicle does: a method over a window of `samples` of its signals.

    ``signals`` is one name (the window is one array) or several (a dict of arrays).
    ``rate_hz`` is how many samples a second are taken; None leaves it to the source.
    ``gaps`` says whether a window that was interrupted counts ("allow": the result declares the
    gaps) or is collected once more ("forbid").
    """

    signals: SignalName | Annotated[tuple[SignalName, ...], Field(min_length=1, max_length=64)]
    samples: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    rate_hz: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] | None = None
    gaps: WindowGaps = "allow"

    if TYPE_CHECKING:  # what the base's __init__ takes, for those who read and check types

        def __init__(
            self,
            method: str,
            *,
            signals: str | Sequence[str],
            samples: int,
            module: str | None = None,
            isolation: Isolation = "call",
            params: Mapping[str, Any] | None = None,
            rate_hz: float | None = None,
            gaps: WindowGaps = "allow",
            **parameters: Any,
        ) -> None: ...

    @model_validator(mode="after")
    def _known(self) -> Self:
        self._check("onboard")
        if not isinstance(self.signals, str) and len(set(self.signals)) != len(self.signals):
            raise BadRequest("a signal is named twice")
        if self.samples * len(self.signal_names) > 4_000_000:
            raise BadRequest("a window holds at most 4 000 000 samples over all its signals")
        return self

    @property
    def signal_names(self) -> tuple[str, ...]:
        """The signals as a tuple, however they were given."""
        return (self.signals,) if isinstance(self.signals, str) else self.signals


class Offboard(_Task):
    """What the cloud does with the vehicles' results: a method over the list of their values."""

    if TYPE_CHECKING:

        def __init__(
            self,
            method: str,
            *,
            module: str | None = None,
            isolation: Isolation = "call",
            params: Mapping[str, Any] | None = None,
            **parameters: Any,
        ) -> None: ...

    @model_validator(mode="after")
    def _known(self) -> Self:
        self._check("offboard")
        return self


class Assignment(_Spec):
    """The whole request.

    ``deadline_s`` is per iteration and side: what a vehicle has not answered by then is left out,
    and a worker that has not combined by then fails the assignment.
    ``digest`` is for consistency "pinned"; None pins what is current at submission.
    ``quorum`` is how many of the vehicles have to give a usable result: a number, or a share as a
    float from above 0 to 1.0. Once it is reached the others get as long again; an iteration that
    misses it fails the assignment. None: one result is enough, and all that can answer are awaited.
    ``late`` says what becomes of an answer that comes after its iteration was closed: "drop", or
    "next" to combine it in the next one.
    ``halt_on_failure``: the assignment halts when the module crashes or hits a limit on more than
    this share of the vehicles; None never halts. `Run.resume` goes on, with the code repaired.
    ``budget`` is what each vehicle may use for it at most.
    """

    vehicles: Select = Field(default_factory=Select.all)
    onboard: Onboard
    offboard: Offboard
    iterations: Annotated[int, Field(ge=1, le=MAX_ITERATIONS, strict=True)] = 1
    consistency: Consistency = "majority"
    digest: Digest | None = None
    deadline_s: Annotated[float, Field(ge=0.1, le=7 * 86_400, allow_inf_nan=False)] = 30.0
    quorum: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | Share | None = None
    late: Late = "drop"
    halt_on_failure: Share | None = 0.3
    budget: Budget | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.digest is not None and self.consistency != "pinned":
            raise BadRequest('a digest is only for consistency="pinned"')
        return self
