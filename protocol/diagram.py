"""``python -m protocol.diagram``: the life cycles as a page, made from their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from protocol.lifecycle import ASSIGNMENT, DEPLOYMENT, ENVIRONMENT, TASK, terminal

_HEAD: Final = """\
# Life cycles

Made from `protocol/lifecycle.py` by `python -m protocol.diagram`. Nothing else changes a state.
"""
_TABLES: Final[Mapping[str, Mapping[Any, frozenset[Any]]]] = {
    "Task": TASK,
    "Assignment": ASSIGNMENT,
    "Deployment": DEPLOYMENT,
    "Environment": ENVIRONMENT,
}


def page() -> str:
    """The page, in Markdown with diagrams in Mermaid."""
    parts = [_HEAD]
    for name, table in _TABLES.items():
        lines = "\n".join(_lines(table))
        parts.append(f"## {name}\n\n```mermaid\nstateDiagram-v2\n{lines}\n```\n")
    return "\n".join(parts)


def _lines(table: Mapping[Any, frozenset[Any]]) -> Iterator[str]:
    kind: Any = type(next(iter(table)))
    states: list[StrEnum] = list(kind)  # as they are written down; sets have no order
    yield f"    [*] --> {states[0].value}"
    for old in states:
        yield from (f"    {old.value} --> {new.value}" for new in states if new in table[old])
        if terminal(table, old):
            yield f"    {old.value} --> [*]"


if __name__ == "__main__":
    print(page(), end="")
