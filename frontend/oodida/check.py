"""The analyst's own first check of a module, in a process of its own with limits.

The cloud checks again in its sandbox; this one is for an answer at once, before anything is sent.
"""

from __future__ import annotations

import json
import signal
from typing import Any, Final

from oodida.trial import TRIER
from protocol import values
from protocol.errors import ModuleRefused
from protocol.imports import rules as import_rules
from protocol.messages import Verdict
from protocol.module import Environment, Side

#: What this machine can judge in an environment whose libraries it has not, or has in others.
_SHAPE: Final = ("syntax_error", "no_custom_code", "wrong_arguments")


def check(source: str, side: Side, environment: str, example: values.Tree = None) -> Verdict:
    """Look at a module by the import rules that are shipped, then try it; the verdict.

    A library that is not installed here but is in the environment is no reason to refuse: then
    the verdict is the cloud's. ``environment`` is "minimal", "science", or anything else for
    libraries of the analyst's own, where only the module's form can be judged here.
    """
    denied = import_rules.verdict(source, side, import_rules.default())
    if denied is not None:
        return denied
    job = {
        "source": source,
        "side": side.value,
        "numpy": environment != Environment.MINIMAL,
        "example": [] if example is None else [example],
    }
    verdict = _try(values.to_text(job))
    elsewhere = verdict.code == "missing_library" and environment != Environment.MINIMAL
    if environment not in list(Environment):
        elsewhere = not verdict.ok and verdict.code not in _SHAPE
    if elsewhere:
        return Verdict(ok=True, warning=f"not tried here: {verdict.reason}")
    return verdict


def require(source: str, side: Side, environment: str, example: values.Tree, name: str) -> Verdict:
    """As `check`, but a refused module raises ModuleRefused."""
    verdict = check(source, side, environment, example)
    if not verdict.ok:
        hint = ""
        if verdict.code == "missing_library" and environment:
            hint = "; bring it along: environment=oodida.Environment([...]), or `oodida deploy -r`"
        raise ModuleRefused(
            f"{name} was refused: {verdict.place}{verdict.reason}{hint}",
            reason_code=verdict.code,
            line=verdict.line,
            column=verdict.column,
            reason=verdict.reason,
        )
    return verdict


def _try(job: bytes) -> Verdict:
    out, status, late = TRIER.run(job)
    if late:
        reason = f"it did not return within {TRIER.time_s} s when it was tried"
        return Verdict(ok=False, code="time", reason=reason)
    return _verdict(out, status)


def _verdict(out: bytes, status: int) -> Verdict:
    try:
        found: Any = json.loads(out)
        return Verdict.model_validate(found)
    except ValueError:
        if status == -signal.SIGXCPU:
            return Verdict(
                ok=False, code="time", reason=f"it computed for more than {TRIER.time_s} s"
            )
        how = f"signal {-status}" if status < 0 else f"status {status}"
        reason = f"its process ended with {how} before it returned"
        return Verdict(ok=False, code="died", reason=reason)
