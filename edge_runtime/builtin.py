"""Carrying out a built-in method: our own code, in this process, within the bounds of a value."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from edge_runtime.methods import MethodError
from protocol import values
from protocol.limits import Limits
from protocol.outcome import Exceeded, Fault, Kind, Limit, Outcome


def guarded(method: Callable[[], Any], limits: Limits) -> Outcome:
    """Run a built-in method; what it cannot compute is an outcome, not a failure of ours."""
    started, worked = time.monotonic(), time.thread_time()
    ended = _ended(method, limits.value)
    return Outcome(**ended, seconds=time.monotonic() - started, cpu_s=time.thread_time() - worked)


def _ended(method: Callable[[], Any], bounds: values.Bounds) -> dict[str, Any]:
    """How a method ended, as an outcome has it."""
    try:
        tree = values.pack(method(), bounds)
    except MethodError as error:
        fault = Fault(type="MethodError", message=str(error)[:2000])
        return {"kind": Kind.MODULE_ERROR, "fault": fault}
    except values.TooLarge as problem:
        return _too_large(bounds, None, str(problem))
    except values.ValueProblem as problem:
        return {"kind": Kind.CONTRACT_BROKEN, "reason": str(problem)[:2000]}
    size = len(values.encode(tree)[0])
    if size > bounds.size:
        return _too_large(bounds, size, "")
    return {"kind": Kind.VALUE, "value": tree}


def _too_large(bounds: values.Bounds, size: int | None, reason: str) -> dict[str, Any]:
    exceeded = Exceeded(limit=Limit.VALUE_SIZE, configured=bounds.size, seen=size, unit="bytes")
    return {"kind": Kind.LIMIT_EXCEEDED, "exceeded": exceeded, "reason": reason[:2000]}
