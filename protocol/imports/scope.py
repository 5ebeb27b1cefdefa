"""What names mean in one scope of a source: imports, or whatever else is bound to them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: A name that may mean more than so many things is followed for the first ones alone: a hostile
#: source must not take long.
MEANINGS: Final = 4


class Scope:
    """A module, function, class or comprehension (``kind``), and the scope around it."""

    def __init__(self, parent: Scope | None, kind: str) -> None:
        self.parent, self.kind = parent, kind
        self.top: Scope = parent.top if parent is not None else self
        self.imports: dict[str, list[str]] = {}
        self.others: set[str] = set()
        self.of_module: set[str] = set()
        self.of_parent: set[str] = set()

    def owner(self, name: str) -> Scope:
        """The scope in which an assignment here binds a name."""
        if name in self.of_module:
            return self.top
        if name in self.of_parent and self.parent is not None:
            return self.parent
        return self

    def bind(self, name: str, meaning: str | None = None) -> None:
        """Bind a name here; ``meaning`` is what was imported."""
        scope = self.owner(name)
        if meaning is None:
            scope.others.add(name)
            return
        known = scope.imports.setdefault(name, [])
        if meaning not in known and len(known) < MEANINGS:
            known.append(meaning)

    def meanings(self, name: str) -> Sequence[str] | None:
        """What a name may mean as seen from here; None if it is bound nowhere.

        A name that is bound by an import, and otherwise too, is taken for the import.
        """
        scope: Scope | None = self.owner(name)
        while scope is not None:
            if scope is self or scope.kind != "class":
                if name in scope.imports:
                    return scope.imports[name]
                if name in scope.others:
                    return ()
            scope = scope.parent
        return None
