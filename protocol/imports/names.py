"""Which modules and attributes a source uses, with dotted names. Pure; nothing is executed.

``import os as o; o.system("ls")`` uses ``os`` and ``os.system``. Found are imports of every form,
attributes of what was imported, and ``__import__``, ``importlib.import_module`` and ``getattr``
with constants. What is put together at run time cannot be found, so this is no wall.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from protocol.imports.scope import Scope

#: A function that is itself the result of a call is looked into so deep: a hostile source must not
#: take long.
_DEPTH: Final = 4
_IMPORTERS: Final = ("importlib.import_module", "importlib.__import__", "builtins.__import__")
_GETATTR: Final = "builtins.getattr"


class Use(NamedTuple):
    """A name that is used: line from 1, offset in bytes of UTF-8 from 0.

    With ``star`` it is everything below the name. A relative import keeps its leading dots.
    """

    line: int
    offset: int
    name: str
    star: bool = False


def used_names(source: str) -> list[Use]:
    """The names that a source uses, in no order; none if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the analyst's code, and not for our log
            tree = ast.parse(source)
        reader = _Reader()
        reader.read(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return list(dict.fromkeys(reader.uses()))


class _Reader:
    """Walks a tree without recursion: first all that is bound, then all that is used."""

    def __init__(self) -> None:
        self._found: list[Use] = []
        self._expressions: list[tuple[ast.Attribute | ast.Call, Scope]] = []
        self._stack: list[tuple[ast.AST, Scope]] = []
        self._read: set[int] = set()  # expressions that are part of one that has been looked at

    def read(self, tree: ast.Module) -> None:
        """Take in what is bound where, and imported."""
        self._stack.append((tree, Scope(None, "module")))
        while self._stack:
            node, scope = self._stack.pop()
            self._visit(node, scope)

    def _push(self, nodes: Sequence[ast.AST | None], scope: Scope) -> None:
        # Reversed, so that they are visited in their order: `global` comes before what it is about.
        self._stack.extend((node, scope) for node in reversed(nodes) if node is not None)

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.Import():
                self._import(node, scope)
            case ast.ImportFrom():
                self._import_from(node, scope)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._function(node, scope)
                return
            case ast.ClassDef():
                scope.bind(node.name)
                self._push([*node.decorator_list, *node.bases, *node.keywords], scope)
                self._push(node.body, Scope(scope, "class"))
                return
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node, scope)
                return
            case ast.NamedExpr():
                outer = scope
                while outer.kind == "comprehension" and outer.parent is not None:
                    outer = outer.parent
                outer.bind(node.target.id)
            case ast.Name(ctx=ast.Store() | ast.Del()):
                scope.bind(node.id)
            case ast.Global():
                scope.of_module.update(node.names)
            case ast.Nonlocal():
                scope.of_parent.update(node.names)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                scope.bind(name)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                scope.bind(name)
            case ast.Attribute() | ast.Call():
                self._expressions.append((node, scope))
            case _:
                pass
        self._push(list(ast.iter_child_nodes(node)), scope)

    def _import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            self._use(alias, alias.name)
            if alias.asname is not None:
                scope.bind(alias.asname, alias.name)
            else:
                top = alias.name.partition(".")[0]
                scope.bind(top, top)

    def _import_from(self, node: ast.ImportFrom, scope: Scope) -> None:
        base = "." * node.level + (node.module or "")
        for alias in node.names:
            if alias.name == "*":
                self._use(node, base, star=True)
                continue
            name = f"{base}{alias.name}" if base.endswith(".") else f"{base}.{alias.name}"
            if base != "__future__":  # that imports nothing
                self._use(alias, name)
            scope.bind(alias.asname or alias.name, name)

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Scope
    ) -> None:
        inner = Scope(scope, "function")
        arguments = node.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        named += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
        for argument in named:
            inner.bind(argument.arg)
        outside: list[ast.AST | None] = [*arguments.defaults, *arguments.kw_defaults]
        outside += [argument.annotation for argument in named]
        if isinstance(node, ast.Lambda):
            self._push(outside, scope)
            self._push([node.body], inner)
            return
        scope.bind(node.name)
        self._push([*node.decorator_list, *outside, node.returns], scope)
        self._push(node.body, inner)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, scope: Scope
    ) -> None:
        inner = Scope(scope, "comprehension")
        first, *rest = node.generators
        self._push([first.iter], scope)
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._push([first.target, *first.ifs, *rest, *results], inner)

    def _use(self, node: ast.alias | ast.stmt | ast.expr, name: str, *, star: bool = False) -> None:
        self._found.append(Use(node.lineno, node.col_offset, name, star))

    # --- attributes and calls -----------------------------------------------------------------

    def uses(self) -> Iterator[Use]:
        """Every use, the imports first. An attribute's attribute is one use, with the long name."""
        for node, scope in self._expressions:  # the outer ones come before their parts
            if isinstance(node, ast.Call) and (full := self._imported(node, scope, 0)):
                self._use(node, full)
            if id(node) not in self._read:
                for name in self._names(node, scope, 0, parts=self._read):
                    self._use(node, name)
        yield from self._found

    def _names(
        self, node: ast.expr, scope: Scope, depth: int, parts: set[int] | None = None
    ) -> list[str]:
        """What an expression may be, with dotted names; what it is made of is added to `parts`."""
        below: list[str] = []
        found: Sequence[str] = ()
        while True:
            if parts is not None:
                parts.add(id(node))
            if isinstance(node, ast.Attribute):
                below.append(node.attr)
                node = node.value
            elif isinstance(node, ast.NamedExpr):
                node = node.value
            elif isinstance(node, ast.Name):
                found = scope.meanings(node.id) or ()
                break
            elif isinstance(node, ast.Call) and (full := self._imported(node, scope, depth)):
                found = (full if self._gives_all(node, scope, depth) else full.partition(".")[0],)
                break
            elif isinstance(node, ast.Call) and self._is_getattr(node, scope, depth):
                below.append(str(_text(node.args[1])))
                node = node.args[0]
            else:
                return []
        tail = "".join(f".{name}" for name in reversed(below))
        return [f"{name}{tail}" for name in found]

    def _function_is(self, node: ast.Call, scope: Scope, depth: int, wanted: Sequence[str]) -> str:
        """Which of the wanted functions is called; empty if none."""
        if isinstance(node.func, ast.Name) and scope.meanings(node.func.id) is None:
            names = [f"builtins.{node.func.id}"]
        else:
            names = self._names(node.func, scope, depth + 1) if depth < _DEPTH else []
        return next((name for name in names if name in wanted), "")

    def _is_getattr(self, node: ast.Call, scope: Scope, depth: int) -> bool:
        if len(node.args) not in (2, 3) or not _text(node.args[1]):
            return False
        return bool(self._function_is(node, scope, depth, [_GETATTR]))

    def _imported(self, node: ast.Call, scope: Scope, depth: int) -> str:
        """The full name that a call imports; empty if it is no import, or of no constant."""
        name = _text(_argument(node, 0, "name"))
        if not name or not self._function_is(node, scope, depth, _IMPORTERS):
            return ""
        package = _text(_argument(node, 1, "package"))
        level = len(name) - len(name.lstrip("."))
        if level and package:
            return f"{package.rsplit('.', level - 1)[0]}.{name[level:]}".rstrip(".")
        return name

    def _gives_all(self, node: ast.Call, scope: Scope, depth: int) -> bool:
        """True if a call that imports ``a.b`` gives ``a.b``, and not ``a``."""
        if self._function_is(node, scope, depth, _IMPORTERS[:1]):
            return True
        listed = _argument(node, 3, "fromlist")
        return isinstance(listed, ast.List | ast.Tuple) and bool(listed.elts)


def _argument(node: ast.Call, place: int, name: str) -> ast.expr | None:
    if place < len(node.args):
        return node.args[place]
    return next((k.value for k in node.keywords if k.arg == name), None)


def _text(node: ast.expr | None) -> str:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else ""
