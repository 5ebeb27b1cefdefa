"""The result contract that a module declares by the annotation of `custom_code`.

Only the source's syntax tree is read; nothing of it is run. What is not understood is not guessed:
then there is no contract, and a note says which annotation is not checked, and why.
"""

from __future__ import annotations

import ast
import binascii
from typing import Any, Final, NamedTuple

from protocol.contract.bindings import Bindings, parse
from protocol.contract.contract import Contract
from protocol.contract.likeness import MARK, key_of
from protocol.contract.python_types import (
    ARRAYS,
    DICTS,
    LISTS,
    NONE,
    SCALARS,
    SIMPLE,
    STR,
    TUPLES,
    TYPED_DICT,
    WRAPPERS,
)
from protocol.contract.schema import PYTHON, Schema
from protocol.errors import BadContract
from protocol.module import MAX_SOURCE
from protocol.verification import FUNCTION

#: Annotations within each other, aliases followed; and parts in all.
MAX_LEVELS: Final = 24
MAX_PARTS: Final = 1000


class Declared(NamedTuple):
    """What a source says of its result.

    ``contract`` is None where nothing is declared, where anything is allowed, and where the
    annotation is not understood; only then ``note`` says so. ``line`` is that of the annotation,
    0 if there is none.
    """

    contract: Contract | None = None
    note: str = ""
    line: int = 0


def from_source(source: str) -> Declared:
    """Read the annotation of a source's `custom_code`. Raises nothing; runs nothing."""
    module = parse(source) if len(source) <= MAX_SOURCE else None
    if module is None:
        return Declared(note="the result is not checked: the source cannot be parsed")
    names = Bindings(module)
    function = names.function(FUNCTION)
    if function is None or function.returns is None:
        return Declared()
    line = function.returns.lineno
    try:
        schema = _Reader(names).read(function.returns)
        contract = Contract.of_schema({"$schema": PYTHON, **schema}) if schema else None
    except _Unclear as e:
        return Declared(None, _note(e.node or function.returns, line, str(e)), line)
    except BadContract as e:
        return Declared(None, _note(function.returns, line, e.message), line)
    except RecursionError:
        return Declared(None, _note(function.returns, line, "it is nested too deeply"), line)
    return Declared(contract, "", line)


def _note(node: ast.expr, line: int, reason: str) -> str:
    try:
        text = ast.unparse(node)
    except (RecursionError, ValueError):
        text = "the annotation"
    shown = "".join(c if c.isprintable() else "?" for c in text[:60])
    return f"the result is not checked: `{shown}` in line {line}: {reason[:150]}"


class _Unclear(Exception):
    def __init__(self, reason: str, node: ast.expr | None = None) -> None:
        super().__init__(reason)
        self.node = node


class _Reader:
    """Turns annotations into schemas of the dialect of Python's types."""

    def __init__(self, names: Bindings) -> None:
        self._names = names
        self._open: list[str] = []  # what is being followed, against circles
        self._left = MAX_PARTS

    def read(self, node: ast.expr, level: int = 0) -> Schema:
        """The schema of an annotation. Raises _Unclear for what is not understood."""
        self._left -= 1
        if level > MAX_LEVELS or self._left < 0:
            raise _Unclear("it is too large, its aliases followed", node)
        node = _unquoted(node)
        if isinstance(node, ast.Constant) and node.value is None:
            return NONE
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._union(_alternatives(node), level)
        if isinstance(node, ast.Subscript):
            return self._generic(self._names.dotted(node.value), _arguments(node), node, level)
        name = self._names.dotted(node)
        if name.startswith("."):
            return self._defined(name[1:], node, level)
        if name in SIMPLE:
            return dict(SIMPLE[name])
        return self._generic(name, [], node, level)

    def _generic(self, name: str, given: list[ast.expr], node: ast.expr, level: int) -> Schema:
        below = level + 1
        if name in LISTS and len(given) <= 1:
            return {"title": "list", "type": "array", **self._items(given, below)}
        if name in TUPLES:
            return self._tuple(given, below)
        if name in DICTS and len(given) in (0, 2):
            keys = self._keys(given[0], below) if given else {}
            values = {"additionalProperties": self.read(given[1], below)} if given else {}
            # Bytes are seen as an object too, which is no dict.
            made = {"title": "dict", "type": "object", "properties": {MARK: False}}
            return {**made, **keys, **values}
        if name in ARRAYS:
            return self._array(name, given)
        if name in ("typing.Union", "typing.Optional") and given:
            optional = [NONE] if name.endswith("Optional") else []
            return self._union(given, level, optional)
        if name == "typing.Literal" and given:
            return {"enum": [self._literal(value) for value in given]}
        if name in WRAPPERS and given:
            return self.read(given[0], below)
        raise _Unclear(_reason(name), node)

    def _items(self, given: list[ast.expr], level: int) -> Schema:
        items = self.read(given[0], level) if given else {}
        return {"items": items} if items else {}

    def _tuple(self, given: list[ast.expr], level: int) -> Schema:
        made: Schema = {"title": "tuple", "type": "array"}
        if len(given) == 1 and isinstance(given[0], ast.Tuple) and not given[0].elts:
            return made | {"title": "empty tuple", "maxItems": 0}
        if len(given) == 2 and isinstance(given[1], ast.Constant) and given[1].value is Ellipsis:
            return made | self._items(given[:1], level)
        if not given:
            return made
        made["title"] = f"tuple of {len(given)}"
        made["prefixItems"] = [self.read(one, level) for one in given]
        return made | {"minItems": len(given), "maxItems": len(given)}

    def _keys(self, node: ast.expr, level: int) -> Schema:
        key = self.read(node, level)
        names = key.get("enum")
        if names and all(isinstance(name, str) for name in names):
            return {"propertyNames": {"enum": [key_of(n) for n in names]}}
        if key in ({}, STR):
            return {}
        raise _Unclear("the keys of a dict that travels are str", node)

    def _array(self, name: str, given: list[ast.expr]) -> Schema:
        scalar = given[-1] if given else None
        if name == "numpy.ndarray" and scalar is not None:  # np.ndarray[shape, np.dtype[scalar]]
            dtype = _unquoted(scalar)
            if not isinstance(dtype, ast.Subscript):
                scalar = None
            elif self._names.dotted(dtype.value) != "numpy.dtype":
                raise _Unclear("its second part is no np.dtype", dtype)
            else:
                scalar = _arguments(dtype)[0]
        scalars = [] if scalar is None else _alternatives(_unquoted(scalar))
        elements = [self._scalar(one) for one in scalars]
        made: Schema = {"title": "array", "type": "array"}
        if not elements or {} in elements:
            return made
        element = elements[0] if len(elements) == 1 else {"anyOf": elements}
        for _ in range(3):  # dimensions that are looked into
            made = {"title": "array", "type": "array", "items": {"anyOf": [element, made]}}
        return made

    def _scalar(self, node: ast.expr) -> Schema:
        found = SCALARS.get(self._names.dotted(node))
        if found is None:
            raise _Unclear("no scalar type of an array that may travel", node)
        return {"title": self._names.dotted(node).rpartition(".")[2], **found} if found else {}

    def _union(self, nodes: list[ast.expr], level: int, more: list[Schema] | None = None) -> Schema:
        read = [self.read(node, level + 1) for node in nodes] + (more or [])
        branches = [one for part in read for one in part.get("anyOf", [part])]
        if {} in branches:
            return {}
        return branches[0] if len(branches) == 1 else {"anyOf": branches}

    def _literal(self, node: ast.expr) -> Any:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self._literal(node.operand)
            if type(inner) is int:
                return -inner
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, bytes):
                return {MARK: binascii.b2a_base64(node.value, newline=False).decode()}
            if node.value is None or isinstance(node.value, str | bool | int):
                return node.value
        raise _Unclear("a Literal holds None, bool, int, str or bytes", node)

    def _defined(self, name: str, node: ast.expr, level: int) -> Schema:
        found = self._names.defined.get(name)
        if name in self._open:
            raise _Unclear("it refers to itself, so that checking has no bound", node)
        if name in self._names.again:
            raise _Unclear("it is defined more than once", node)
        self._open.append(name)
        try:
            if isinstance(found, ast.ClassDef):
                return self._class(found, level + 1)
            if isinstance(found, ast.expr):
                return self.read(found, level + 1)
        finally:
            self._open.pop()
        raise _Unclear("it is no type", node)

    def _class(self, node: ast.ClassDef, level: int) -> Schema:
        fields, required = self._fields(node, level)
        made = {"title": node.name, "type": "object", "properties": fields}
        return made | {"required": sorted(required), "additionalProperties": False}

    def _fields(self, node: ast.ClassDef, level: int) -> tuple[dict[str, Schema], set[str]]:
        """The fields of a TypedDict, and which of them must be there."""
        fields: dict[str, Schema] = {}
        required: set[str] = set()
        bases = [self._names.dotted(base) for base in node.bases]
        if not bases or level > MAX_LEVELS or node.decorator_list:
            raise _Unclear("of the classes only a TypedDict travels", ast.Name(node.name))
        for base in bases:
            inherited = self._names.defined.get(base[1:]) if base.startswith(".") else None
            if isinstance(inherited, ast.ClassDef) and base[1:] not in self._open:
                more, needed = self._fields(inherited, level + 1)
                fields |= more
                required |= needed
            elif base != TYPED_DICT:
                raise _Unclear("of the classes only a TypedDict travels", ast.Name(node.name))
        total = not any(
            k.arg == "total" and isinstance(k.value, ast.Constant) and not k.value.value
            for k in node.keywords
        )
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = key_of(statement.target.id)
                fields[name] = self.read(statement.annotation, level + 1)
                needed_here = self._needed(statement.annotation, total=total)
                required = required | {name} if needed_here else required - {name}
        return fields, required

    def _needed(self, node: ast.expr, *, total: bool) -> bool:
        for _ in range(MAX_LEVELS):
            node = _unquoted(node)
            wrapper = self._names.dotted(node.value) if isinstance(node, ast.Subscript) else ""
            if not isinstance(node, ast.Subscript) or wrapper not in WRAPPERS:
                break
            if WRAPPERS[wrapper] in ("Required", "NotRequired"):
                return WRAPPERS[wrapper] == "Required"
            node = _arguments(node)[0]
        return total


def _reason(name: str) -> str:
    if name in ("set", "frozenset", "complex") or name.rpartition(".")[2] in ("Set", "FrozenSet"):
        return "a value of this type may not travel"
    return "the annotation is not one that is understood"


def _unquoted(node: ast.expr) -> ast.expr:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return node
    try:
        return ast.parse(node.value.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _Unclear("it cannot be parsed", node) from None


def _arguments(node: ast.Subscript) -> list[ast.expr]:
    """What stands between the brackets; the whole, if that is an empty tuple."""
    return (isinstance(node.slice, ast.Tuple) and list(node.slice.elts)) or [node.slice]


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """A | B | C as a list, in its order, without recursion."""
    found: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        found.append(node.right)
        node = node.left
    return [node, *reversed(found)]
