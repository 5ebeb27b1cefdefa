"""What the names at the top of a module's source stand for, found without running any of it."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Final

Bound = ast.expr | ast.ClassDef | ast.FunctionDef | None
#: Where the standard library has what these others have, too.
_SAME: Final = (("typing_extensions.", "typing."), ("numpy._typing.", "numpy.typing."))
#: `type X = ...`, which only a Python from 3.12 on can parse.
_TYPE_STATEMENT: Final = re.compile(r"^type[ \t]+([^\W\d]\w*)[ \t]*=", re.MULTILINE)


def parse(source: str) -> ast.Module | None:
    """The source's syntax tree, also of newer syntax that only names types; None if it has none."""
    for text in (source, _TYPE_STATEMENT.sub(r"\1 =", source)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the module's text, not ours
                return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


class Bindings:
    """The imports and definitions at the top of a module; the last of a name counts."""

    def __init__(self, module: ast.Module) -> None:
        self.imports: dict[str, str] = {}
        self.defined: dict[str, Bound] = {}
        #: Names that were defined more than once, so that it depends on when one looks.
        self.again: set[str] = set()
        for statement in _statements(module.body):
            self._take(statement)

    def dotted(self, node: ast.expr) -> str:
        """The full name of what a name or attribute stands for; empty if it is neither.

        A name that the module itself defines is given as it is, with a dot before it.
        """
        steps: list[str] = []
        while isinstance(node, ast.Attribute):
            steps.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        name = node.id
        if name in self.imports:
            base = self.imports[name]
        else:
            base = f".{name}" if name in self.defined else name
        full = ".".join([base, *reversed(steps)])
        for other, standard in _SAME:
            full = standard + full.removeprefix(other) if full.startswith(other) else full
        return full

    def function(self, name: str) -> ast.FunctionDef | None:
        """The function that a name stands for, also by `name = other`; None if it is none."""
        for _ in range(10):
            found = self.defined.get(name)
            if isinstance(found, ast.FunctionDef):
                return found
            if not isinstance(found, ast.Name):
                return None
            name = found.id
        return None

    def _take(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                self._import(alias.asname or top, alias.name if alias.asname else top)
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                source = "" if statement.level else statement.module
                self._import(alias.asname or alias.name, f"{source}.{alias.name}")
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            self._define(statement.name, statement)
        elif isinstance(statement, ast.AsyncFunctionDef):
            self._define(statement.name, None)
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                self._assign(target, statement.value if len(statement.targets) == 1 else None)
        elif isinstance(statement, ast.AnnAssign):
            self._assign(statement.target, statement.value)
        elif type(statement).__name__ == "TypeAlias":  # from Python 3.12 on
            self._assign(statement.name, statement.value)  # type: ignore[attr-defined]

    def _assign(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            self._define(target.id, value)
        elif isinstance(target, ast.Tuple | ast.List):
            for inner in target.elts:
                if isinstance(inner, ast.Name):
                    self._define(inner.id, None)

    def _define(self, name: str, bound: Bound) -> None:
        if name in self.defined or name in self.imports:
            self.again.add(name)
        self.imports.pop(name, None)
        self.defined[name] = bound

    def _import(self, name: str, full: str) -> None:
        if name in self.defined:
            self.again.add(name)
            del self.defined[name]
        self.imports[name] = full


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at the top, also those under `if` and `try`, in their order."""
    stack = list(reversed(body))
    while stack:
        statement = stack.pop()
        yield statement
        inner: list[ast.stmt] = []
        if isinstance(statement, ast.If):
            inner = [*statement.body, *statement.orelse]
        elif isinstance(statement, ast.Try):
            handlers = [s for handler in statement.handlers for s in handler.body]
            inner = [*statement.body, *handlers, *statement.orelse, *statement.finalbody]
        elif isinstance(statement, ast.With):
            inner = statement.body
        stack.extend(reversed(inner))
