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
    outcome = _outcome(method, limits)
    took = {"seconds": time.monotonic() - started, "cpu_s": time.thread_time() - worked}
    return outcome.model_copy(update=took)


def _outcome(method: Callable[[], Any], limits: Limits) -> Outcome:
    try:
        tree = values.pack(method(), limits.value)
    except MethodError as error:
        fault = Fault(type="MethodError", message=str(error)[:2000])
        return Outcome(kind=Kind.MODULE_ERROR, fault=fault)
    except values.TooLarge as problem:
        return _too_large(limits, None, str(problem))
    except values.ValueProblem as problem:
        return Outcome(kind=Kind.CONTRACT_BROKEN, reason=str(problem)[:2000])
    size = len(values.encode(tree)[0])
    if size > limits.value.size:
        return _too_large(limits, size, "")
    return Outcome(kind=Kind.VALUE, value=tree)


def _too_large(limits: Limits, size: int | None, reason: str) -> Outcome:
    exceeded = Exceeded(
        limit=Limit.VALUE_SIZE, configured=limits.value.size, seen=size, unit="bytes"
    )
    return Outcome(kind=Kind.LIMIT_EXCEEDED, exceeded=exceeded, reason=reason[:2000])
