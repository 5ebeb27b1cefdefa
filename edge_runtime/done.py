"""How a task ended, what its budget and its contract make of it, and what is told of it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from edge_runtime.admission import Admitted
from protocol.account import Gaps, Usage
from protocol.errors import OodidaError
from protocol.lifecycle import TaskState
from protocol.limits import Limits
from protocol.messages import Ended, OffboardOrder, OnboardOrder, TaskReport, new_id
from protocol.outcome import Exceeded, Kind, Limit, Outcome


@dataclass(frozen=True)
class Done:
    """How a task ended, and the code that did it; ``refused`` if none was run.

    ``image`` is the image that a module ran in, by its content, and ``limits`` what held for it.
    """

    outcome: Outcome
    digest: str | None = None
    generation: int = 0
    refused: bool = False
    environment: str = ""
    image: str = ""
    limits: Limits | None = None


def refused(refusal: OodidaError) -> Done:
    """Nothing was run, for this reason."""
    return Done(refusal_of(refusal), refused=True)


def refusal_of(refusal: OodidaError) -> Outcome:
    """The outcome of what an error kept from being run, or from leaving the vehicle."""
    code = str(refusal.details.get("reason_code") or refusal.code)
    return Outcome(kind=Kind.REFUSED, reason=refusal.message[:2000], code=code)


def withheld(report: TaskReport, refusal: OodidaError) -> TaskReport:
    """The report of a task whose value may not leave the vehicle: as if no code had run."""
    return TaskReport(
        id=new_id(),
        task=report.task,
        attempt=report.attempt,
        state=TaskState.REJECTED,
        outcome=refusal_of(refusal),
        seconds=report.seconds,
        usage=report.usage,
    )


def report_of(
    order: OnboardOrder | OffboardOrder, done: Done, started: float, gaps: Gaps | None
) -> TaskReport:
    """What is told of a task that began at a moment of the monotonic clock."""
    outcome = done.outcome
    ended: Ended = TaskState.SUCCEEDED if outcome.ok else TaskState.FAILED
    return TaskReport(
        id=new_id(),
        task=order.id,
        attempt=order.attempt,
        state=TaskState.REJECTED if done.refused else ended,
        outcome=outcome,
        digest=done.digest,
        generation=done.generation,
        seconds=time.monotonic() - started,
        gaps=gaps,
        usage=Usage(cpu_s=outcome.cpu_s, container_starts=outcome.starts),
    )


def over_budget(what: str, most: float, used: float) -> Outcome:
    """Nothing is left of what the assignment may use here."""
    unit = {"cpu_s": "s of processor time", "bytes_sent": "bytes sent"}.get(
        what, "container starts"
    )
    exceeded = Exceeded(limit=Limit.BUDGET, configured=most, seen=used, unit=unit)
    reason = "the vehicle's budget for this assignment is used up"
    return Outcome(kind=Kind.LIMIT_EXCEEDED, exceeded=exceeded, reason=reason)


def lowered(cpu_s: int, left: float | None) -> int:
    """The limit on a call's processor time, where a budget has so many seconds left."""
    return cpu_s if left is None else min(cpu_s, max(1, math.ceil(left)))


def of_budget(
    outcome: Outcome, left: float, whose: str = "the budget of this assignment had left here"
) -> Outcome:
    """How a call ended whose processor time was lowered to what its budget had left."""
    if outcome.exceeded is None or outcome.exceeded.limit is not Limit.CPU:
        return outcome
    exceeded = outcome.exceeded.model_copy(update={"limit": Limit.BUDGET, "configured": left})
    reason = f"it was what {whose}. {outcome.reason}".strip()
    return outcome.model_copy(update={"exceeded": exceeded, "reason": reason[:2000]})


def by_contract(outcome: Outcome, admitted: Admitted) -> Outcome:
    """The outcome, unless its value is not what the module declared."""
    broken = None if admitted.contract is None else admitted.contract.check(outcome.value)
    if not outcome.ok or broken is None:
        return outcome
    changes = {"kind": Kind.CONTRACT_BROKEN, "value": None, "reason": broken[:2000]}
    return outcome.model_copy(update=changes)
