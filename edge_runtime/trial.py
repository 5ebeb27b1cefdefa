"""What a trial in the sandbox says of a module before anybody is sent it. Pure."""

from __future__ import annotations

from edge_runtime.admission import Admitted
from edge_runtime.argument import INPUT
from edge_runtime.sandbox.frames import clean
from protocol import values
from protocol.messages import Verdict
from protocol.outcome import Outcome


def verdict_of(outcome: Outcome, admitted: Admitted, *, guessed: bool) -> Verdict:
    """What a trial says of a module."""
    if not outcome.ok:
        why = f"when it was tried: {outcome.describe()}"
        return Verdict(ok=False, code=outcome.kind.value, reason=why[:4000])
    try:
        said, returned = values.unpack(outcome.value)
        verdict = _cleaned(Verdict.model_validate(said))
    except (TypeError, ValueError):  # the module got between: whatever it wrote is no verdict
        return Verdict(ok=False, code="contract_broken", reason="the trial gave no verdict")
    notes = [admitted.note]
    if verdict.ok and admitted.contract is not None:
        broken = admitted.contract.check(values.pack(returned, INPUT))
        if broken is not None and not guessed:
            reason = f"what it returned for the example is not what it declares: {broken}"
            return Verdict(ok=False, code="contract_broken", reason=reason)
        if broken is not None:
            notes.append(f"for a made-up argument it returned what it does not declare: {broken}")
    warning = "; ".join(filter(None, (verdict.warning, *notes)))
    return verdict.model_copy(update={"warning": warning[:4000]})


def _cleaned(verdict: Verdict) -> Verdict:
    """The same, without what a terminal acts upon or a store refuses: a module may have said it."""
    said = {name: clean(getattr(verdict, name)) for name in ("code", "reason", "warning")}
    return verdict.model_copy(update=said)
