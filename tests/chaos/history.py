"""Every change of state, in order: a way through the tables, which ends where the row is. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from protocol.lifecycle import ASSIGNMENT, DEPLOYMENT, ENDED, TASK

_TABLES: Final[dict[str, Mapping[str, frozenset[str]]]] = {
    "task": {old.value: frozenset(new) for old, new in TASK.items()},
    "assignment": {old.value: frozenset(new) for old, new in ASSIGNMENT.items()},
    "deployment": {old.value: frozenset(new) for old, new in DEPLOYMENT.items()},
}


@dataclass(frozen=True)
class Change:
    """A row of the table of transitions."""

    kind: str
    subject: str
    attempt: int
    old: str
    new: str


#: Whose state it is: kind, id and attempt.
Subject = tuple[str, str, int]


def broken(changes: Iterable[Change], states: Mapping[Subject, str]) -> Iterator[str]:
    """What is wrong with the changes, in their order. ``states`` is what the rows say now."""
    ways: dict[Subject, list[Change]] = defaultdict(list)
    for change in changes:
        ways[change.kind, change.subject, change.attempt].append(change)
    for subject, way in ways.items():
        name = " ".join(map(str, subject))
        if way[0].old not in ("", "collecting" if subject[0] == "assignment" else ""):
            yield f"{name} begins as {way[0].old}"
        for before, change in pairwise(way):
            if change.old != before.new:
                yield f"{name} was {before.new}, and then went on from {change.old}"
        for change in way[1:]:
            if change.new not in _TABLES[change.kind].get(change.old, ()):
                yield f"{name} went from {change.old} to {change.new}"
        if subject in states and states[subject] != way[-1].new:
            yield f"{name} is {states[subject]}, and was last told to be {way[-1].new}"
        # An answer that took effect twice would be told twice.
        ends = [c.new for c in way if c.kind == "task" and c.new in ENDED and c.old not in ENDED]
        if len(ends) > 1:
            yield f"{name} ended {len(ends)} times: {', '.join(ends)}"
    for subject in states.keys() - ways.keys():
        yield f"{' '.join(map(str, subject))} has no history"
