"""From what was seen of a call to its outcome. Pure: no engine, no clock.

Of what a container says, the supervisor's line is believed as far as it blames the module, and the
answer as far as it is a value. Neither can make a limit unseen that the host or the engine saw.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from edge_runtime.sandbox import settings
from edge_runtime.sandbox.engine import Ending
from edge_runtime.sandbox.frames import clean
from protocol import values
from protocol.limits import Limits
from protocol.outcome import Exceeded, Fault, Kind, Limit, Line, Outcome

#: A process is ended this much before its processor time is over by the kernel's own clock.
_CPU_SLACK: Final = 0.9
_MAX_SECONDS: Final = 1e9
_REASON: Final = 2000


class Stop(StrEnum):
    """Why the host itself ended a call."""

    TIME = "time"
    OUTPUT = "output"
    BROKEN = "broken"  # what came is not of the form agreed on
    CANCELLED = "cancelled"
    LATE = "late"  # the guest program did not come up
    IMPORT_TIME = "import_time"  # its libraries took too long to be imported
    IMPORT_END = "import_end"  # one of them ended the process


class Report(BaseModel):
    """The supervisor's line."""

    stopped: Literal["time", "memory", "processes", "output", "answer"] | None
    exit: int | None
    signal: int | None
    seconds: Annotated[float, Field(ge=0, le=_MAX_SECONDS, allow_inf_nan=False)]
    cpu_s: Annotated[float, Field(ge=0, le=_MAX_SECONDS, allow_inf_nan=False)]
    printed: Annotated[int, Field(ge=0)]
    at: tuple[int, str] | None
    left: Annotated[int, Field(ge=0)]
    oom_kills: int | None
    memory_peak: Annotated[int, Field(ge=0, le=2**60)] | None


@dataclass(frozen=True)
class Seen:
    """What the host saw of a call.

    ``report`` is the guest's last frame, ``stop`` why we ended it, ``detail`` more on that, and
    ``ending`` what the engine said, where it was asked.
    """

    report: bytes | None
    stop: Stop | None = None
    detail: str = ""
    ending: Ending | None = None


def classify(seen: Seen, limits: Limits) -> Outcome:
    """Return the outcome, without `printed` and `seconds`."""
    if seen.stop is Stop.CANCELLED:
        return Outcome(kind=Kind.REFUSED, reason="cancelled")
    if seen.ending is not None and seen.ending.oom_killed:
        return _exceeded(Limit.MEMORY, limits, limits.memory_mb)
    if seen.stop is Stop.TIME:
        return _exceeded(Limit.TIME, limits)
    if seen.stop is Stop.IMPORT_TIME:
        exceeded = Exceeded(limit=Limit.TIME, configured=settings.IMPORT_S, unit="s")
        reason = "its libraries were being imported"
        return Outcome(kind=Kind.LIMIT_EXCEEDED, exceeded=exceeded, reason=reason)
    if seen.stop is Stop.IMPORT_END:
        reason = f"a library ended the process while it was imported {seen.detail}".strip()
        return Outcome(kind=Kind.MODULE_ERROR, reason=clean(reason)[:_REASON])
    if seen.stop is Stop.OUTPUT:
        return _exceeded(Limit.OUTPUT, limits)
    if seen.stop is Stop.BROKEN:
        return _broken(seen.detail)
    if seen.report is None:
        status = "" if seen.ending is None else f" (exit status {seen.ending.status})"
        what = "did not come up" if seen.stop is Stop.LATE else f"ended early{status}"
        return Outcome(
            kind=Kind.ENGINE_FAILURE,
            reason=clean(f"the sandbox's own program {what} {seen.detail}".strip())[:_REASON],
        )
    line, _, answer = seen.report.partition(b"\n")
    try:
        report = Report.model_validate_json(line)
    except ValidationError:
        return _broken("the sandbox's own program sent no report")
    outcome = _ended(report, limits) or _answered(answer, limits)
    return outcome.model_copy(update={"cpu_s": report.cpu_s})


def printed_by(report: bytes) -> int:
    """How many bytes the supervisor says it passed on; 0 where that cannot be read."""
    try:
        return Report.model_validate_json(report.partition(b"\n")[0]).printed
    except ValidationError:
        return 0


def is_blank(seen: Seen) -> bool:
    """True if the container may serve a further call: the child ended by itself, left nothing.

    Its processes are gone in any case. What cannot be told for certain is taken for a no.
    """
    if seen.report is None or seen.stop is not None:
        return False
    try:
        report = Report.model_validate_json(seen.report.partition(b"\n")[0])
    except ValidationError:
        return False
    ended = report.stopped is None and report.exit == 0
    return ended and not report.oom_kills and not report.left


def needs_engine(seen: Seen) -> bool:
    """True if only the engine can say whether memory ran out: the guest did not, or could not."""
    if seen.report is None:
        return True
    try:
        return Report.model_validate_json(seen.report.partition(b"\n")[0]).oom_kills is None
    except ValidationError:
        return False


def _ended(report: Report, limits: Limits) -> Outcome | None:
    """The outcome, if the child did not live to answer or went beyond a limit."""
    reason = f"stopped in line {report.at[0]}, in {report.at[1]}" if report.at else ""
    if report.stopped == "memory" or report.oom_kills:
        peak = None if report.memory_peak is None else report.memory_peak / 2**20
        return _exceeded(Limit.MEMORY, limits, peak, reason)
    # The kernel's signal for it; where that is ignored, it kills a second later. The supervisor
    # sends the same signal, but only after it has stopped the call for another reason.
    killed = report.signal == signal.SIGKILL and report.cpu_s >= limits.cpu_s * _CPU_SLACK
    if report.stopped is None and (killed or report.signal == signal.SIGXCPU):
        return _exceeded(Limit.CPU, limits, report.cpu_s, reason)
    match report.stopped:
        case "time":
            return _exceeded(Limit.TIME, limits, report.seconds, reason)
        case "processes":
            return _exceeded(Limit.PROCESSES, limits, None, reason)
        case "output":
            return _exceeded(Limit.OUTPUT, limits)
        case "answer":
            return _exceeded(Limit.VALUE_SIZE, limits)
        case None:
            pass
    if report.signal is not None:
        how = f"was killed by {_signal_name(report.signal)}"
    elif report.exit != 0:
        how = f"ended with exit status {report.exit}"
    else:
        return None
    return Outcome(
        kind=Kind.MODULE_ERROR, reason=f"the module's process {how} before it returned a value"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _answered(answer: bytes, limits: Limits) -> Outcome:
    if not answer:
        return Outcome(
            kind=Kind.MODULE_ERROR, reason="the module ended its process before it returned a value"
        )
    try:
        said = values.from_text(answer)
        match said:
            case {"kind": "value", "value": tree}:
                return _value(tree, limits)
            case {"kind": "error", "fault": dict(fault)}:
                return Outcome(kind=Kind.MODULE_ERROR, fault=_fault(fault))
            case {"kind": "refused", "code": str(code), "reason": str(reason), "line": line}:
                lines = [] if line is None else [{"number": line, "function": "<module>"}]
                fault = {"type": code, "message": reason, "lines": lines}
                return Outcome(kind=Kind.REFUSED, fault=_fault(fault))
            case {"kind": "too_large", "reason": str(reason), "unit": unit}:
                return _too_large(unit, limits, reason)
            case {"kind": "bad_value", "reason": str(reason)}:
                return _broken(reason)
    except values.TooLarge as problem:
        return _too_large(problem.unit, limits, str(problem))
    except (values.ValueProblem, ValidationError):
        pass
    return _broken("what came back is no answer of the sandbox's own program")


def _value(tree: values.Tree, limits: Limits) -> Outcome:
    try:
        values.check(tree, limits.value)
    except values.TooLarge:
        raise
    except values.ValueProblem as problem:
        return _broken(str(problem))
    size = len(values.encode(tree)[0])
    if size > limits.value.size:
        return _exceeded(Limit.VALUE_SIZE, limits, size)
    return Outcome(kind=Kind.VALUE, value=tree)


def _fault(said: dict[str, Any]) -> Fault:
    """A fault as the guest tells it. Raises ValidationError if it is none."""
    fault = Fault.model_validate(said)
    lines = tuple(
        Line(number=line.number, function=clean(line.function), text=clean(line.text))
        for line in fault.lines
    )
    return Fault(type=clean(fault.type), message=clean(fault.message), lines=lines)


def _broken(reason: str) -> Outcome:
    return Outcome(kind=Kind.CONTRACT_BROKEN, reason=clean(reason)[:_REASON])


def _too_large(unit: object, limits: Limits, reason: str) -> Outcome:
    bounds = {"levels": limits.value.depth, "items": limits.value.items}
    known = unit if isinstance(unit, str) and unit in bounds else "bytes"
    exceeded = Exceeded(
        limit=Limit.VALUE_SIZE, configured=bounds.get(known, limits.value.size), unit=known
    )
    return Outcome(kind=Kind.LIMIT_EXCEEDED, exceeded=exceeded, reason=clean(reason)[:_REASON])


def _exceeded(limit: Limit, limits: Limits, seen: float | None = None, reason: str = "") -> Outcome:
    configured, unit = {
        Limit.TIME: (limits.time_s, "s"),
        Limit.CPU: (limits.cpu_s, "s of processor time"),
        Limit.MEMORY: (limits.memory_mb, "MB"),
        Limit.PROCESSES: (limits.processes, "processes"),
        Limit.OUTPUT: (limits.output_kb, "KB"),
        Limit.VALUE_SIZE: (limits.value.size, "bytes"),
    }[limit]
    rounded = None if seen is None else round(seen, 3)
    exceeded = Exceeded(limit=limit, configured=configured, seen=rounded, unit=unit)
    return Outcome(kind=Kind.LIMIT_EXCEEDED, exceeded=exceeded, reason=clean(reason)[:_REASON])
