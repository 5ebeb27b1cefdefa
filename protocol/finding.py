"""What a check of a machine or a deployment found."""

from __future__ import annotations

from enum import StrEnum

from protocol.outcome import Frozen


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it works, and should be seen to
    PROBLEM = "problem"  # it does not work, or a limit does not hold


class Finding(Frozen):
    """One thing that was looked at: what was seen and, unless it is ok, what to do."""

    name: str
    level: Level
    seen: str
    todo: str = ""


def ok(name: str, seen: str) -> Finding:
    """Make a finding that asks for nothing."""
    return Finding(name=name, level=Level.OK, seen=seen)


def warning(name: str, seen: str, todo: str) -> Finding:
    """Make a finding that should be seen to."""
    return Finding(name=name, level=Level.WARNING, seen=seen, todo=todo)


def problem(name: str, seen: str, todo: str) -> Finding:
    """Make a finding that has to be seen to."""
    return Finding(name=name, level=Level.PROBLEM, seen=seen, todo=todo)
