"""Which values may travel, and how they are written down.

A value is None, bool, int, float, str, bytes, list, tuple, a dict with string keys, a NumPy array
or scalar, nested. It travels as a *tree*: only what JSON has, plus bytes, with a one-key dict as
the mark of what JSON lacks::

    {"~t": [...]}                     a tuple
    {"~f": "nan" | "inf" | "-inf"}    a float that JSON cannot write
    {"~a": [dtype, shape, bytes]}     an array, little-endian, C order
    {"~d": [key, value]}              a dict that would look like a mark
    {"~b": base64}                    bytes, in JSON text only

A tree without bytes is written as JSON, one with bytes as CBOR (RFC 8949). The file needs only the
standard library, because it is also baked into the sandbox images, where the guest program uses it
(there always as JSON); NumPy and cbor2 are imported when they are first needed.
"""

from __future__ import annotations

import binascii
import math
import sys
from array import array
from collections.abc import Callable
from json import JSONDecoder, JSONEncoder  # made once below: what patches json harms itself only
from typing import Any, Final, NamedTuple

Value = Any
Tree = Any

JSON: Final = "application/json"
CBOR: Final = "application/cbor"
MARKS: Final = frozenset({"~t", "~f", "~a", "~d", "~b"})
_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
#: dtype as NumPy writes it -> bytes an item. Objects, text and dates have no place on the wire.
_ITEM_SIZES: Final = {
    "|b1": 1, "|i1": 1, "|u1": 1, "<i2": 2, "<u2": 2, "<i4": 4, "<u4": 4, "<i8": 8, "<u8": 8,
    "<f2": 2, "<f4": 4, "<f8": 8, "<c8": 8, "<c16": 16,
}  # fmt: skip
#: The ranges that CBOR and every store share without big-number extensions.
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


class ValueProblem(ValueError):
    """A value, or bytes said to be one, is not of a kind that may travel."""


class TooLarge(ValueProblem):
    """A value is larger or nested deeper than allowed; ``unit`` is the bound's: see `Bounds`."""

    def __init__(self, message: str, unit: str = "bytes") -> None:
        super().__init__(message)
        self.unit = unit


class Bounds(NamedTuple):  # a dataclass would cost the sandbox's cold start 10 ms of imports
    """What a value may be at most: bytes when encoded, levels of nesting, items in all."""

    size: int = 1024 * 1024
    depth: int = 32
    items: int = 200_000


#: What a value may be where nobody said anything else.
BOUNDS: Final = Bounds()


def pack(value: Value, bounds: Bounds = BOUNDS) -> Tree:
    """Turn a value into its tree.

    NumPy scalars become Python's. Raises ValueProblem naming the place of what may not travel.
    """
    return _Packer(bounds).pack(value, 0, "value")


class _Packer:
    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.items = 0
        self.room = bounds.size

    def pack(self, value: Any, depth: int, where: str) -> Tree:
        self.items += 1
        if depth > self.bounds.depth:
            raise TooLarge(
                f"{where[:80]} is nested deeper than {self.bounds.depth} levels", "levels"
            )
        if self.items > self.bounds.items:
            raise TooLarge(
                f"the value has more than {self.bounds.items} items; use an array", "items"
            )
        if value is None or value is True or value is False:
            return value
        kind = type(value)
        if issubclass(kind, str):
            self._take(len(value))
            return _text(str(value), where)
        if issubclass(kind, int):
            return _integer(int(value), where)
        if issubclass(kind, float):
            number = float(value)
            return number if math.isfinite(number) else {"~f": str(number)}
        if issubclass(kind, (bytes, bytearray, memoryview)):
            self._take(value.nbytes if issubclass(kind, memoryview) else len(value))
            return bytes(value)
        if issubclass(kind, (list, tuple)):
            packed = [self.pack(v, depth + 1, f"{where}[{i}]") for i, v in enumerate(value)]
            return packed if issubclass(kind, list) else {"~t": packed}
        if issubclass(kind, dict):
            return self._dict(value, depth, where)
        if issubclass(kind, array):
            self._take(len(value) * value.itemsize)
            return _array_tree(value)
        numpy = sys.modules.get("numpy")  # a NumPy value cannot exist unless NumPy is loaded
        if numpy is not None and isinstance(value, numpy.generic):
            if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
                raise ValueProblem(f"{where} is a NumPy {value.dtype}, which may not travel")
            return self.pack(value.item(), depth, where)
        if numpy is not None and isinstance(value, numpy.ndarray):
            self._take(value.nbytes)
            return _ndarray_tree(numpy, value, where)
        raise ValueProblem(
            f"{where} is a {kind.__module__}.{kind.__qualname__}; allowed are None, bool, int, "
            "float, str, bytes, list, tuple, dict with string keys, and NumPy arrays and scalars"
        )

    def _take(self, size: int) -> None:
        """Count what is sure to be in the encoded value, before anything is copied."""
        self.room -= size
        if self.room < 0:
            raise TooLarge(f"the value is larger than {self.bounds.size} bytes")

    def _dict(self, value: dict[Any, Any], depth: int, where: str) -> Tree:
        packed = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueProblem(f"{where} has the key {key!r:.60}; keys must be str")
            name = _text(str(key), where)
            packed[name] = self.pack(item, depth + 1, f"{where}[{name!r:.60}]")
        if len(packed) == 1 and not MARKS.isdisjoint(packed):
            return {"~d": [item for pair in packed.items() for item in pair]}
        return packed


def _text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueProblem(f"{where} holds a lone surrogate, which is not valid text") from None
    return text


def _integer(number: int, where: str) -> int:
    if not _INT_MIN <= number <= _INT_MAX:
        raise ValueProblem(f"{where} is an integer beyond 64 bits; send it as float or str")
    return number


def _array_tree(value: array[Any]) -> Tree:
    code = {1: "1", 2: "2", 4: "4", 8: "8"}[value.itemsize]
    kind = "f" if value.typecode in "fd" else "i" if value.typecode in "bhilq" else "u"
    return {"~a": [("|" if code == "1" else "<") + kind + code, [len(value)], value.tobytes()]}


def _ndarray_tree(numpy: Any, value: Any, where: str) -> Tree:
    dtype = value.dtype.newbyteorder("<").str
    if dtype not in _ITEM_SIZES:
        raise ValueProblem(f"{where} is an array of {value.dtype}, which may not travel")
    return {"~a": [dtype, list(value.shape), numpy.asarray(value, dtype).tobytes()]}


def check(tree: Tree, bounds: Bounds = BOUNDS) -> Tree:
    """Return the tree if it is one that `pack` could have made; raise ValueProblem if not.

    This is how a value from a stranger is taken: without building a NumPy array from it.
    """
    left = bounds.items
    stack: list[tuple[Any, int]] = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        left -= 1
        if depth > bounds.depth:
            raise TooLarge(f"the value is nested deeper than {bounds.depth} levels", "levels")
        if left < 0:
            raise TooLarge(f"the value has more than {bounds.items} items", "items")
        if isinstance(node, dict):
            inner = _open_mark(node)
            if inner is None:
                continue
            for key in inner if isinstance(inner, dict) else ():
                if not isinstance(key, str):
                    raise ValueProblem("a dict has a key that is not a str")
                _text(key, "a key")
            children = inner.values() if isinstance(inner, dict) else inner
            stack.extend((child, depth + 1) for child in children)
        elif isinstance(node, list):
            if len(node) > left:  # before they are all put on the stack
                raise TooLarge(f"the value has more than {bounds.items} items", "items")
            stack.extend((child, depth + 1) for child in node)
        elif isinstance(node, str):
            _text(node, "a text")
        elif isinstance(node, float):
            if not math.isfinite(node):
                raise ValueProblem("a float that is not finite has to be marked")
        elif isinstance(node, int):  # and bool
            _integer(node, "a number")
        elif node is not None and not isinstance(node, bytes):
            raise ValueProblem(f"a {type(node).__name__} may not travel")
    return tree


def _open_mark(node: dict[Any, Any]) -> dict[Any, Any] | list[Any] | None:
    """What is still to be checked inside a dict: its items, its marked content, or nothing."""
    mark = next(iter(node)) if len(node) == 1 else None
    if mark not in MARKS:
        return node
    inner = node[mark]
    if mark == "~t" and isinstance(inner, list):
        return inner
    if mark == "~d" and isinstance(inner, list) and len(inner) == 2 and _is_mark(inner[0]):
        return inner[1:]
    if mark == "~f" and isinstance(inner, str) and inner in _FLOATS:
        return None
    if mark == "~a" and isinstance(inner, list) and len(inner) == 3:
        _check_array(*inner)
        return None
    raise ValueProblem(f"the mark {mark} does not hold what it should")


def _is_mark(key: Any) -> bool:
    return isinstance(key, str) and key in MARKS


def _check_array(dtype: Any, shape: Any, data: Any) -> None:
    if not isinstance(dtype, str) or dtype not in _ITEM_SIZES:
        raise ValueProblem("an array has a dtype that may not travel")
    if not isinstance(shape, list) or len(shape) > 32:
        raise ValueProblem("an array's shape is not a list of up to 32 lengths")
    if not all(type(n) is int and 0 <= n < 2**48 for n in shape):
        raise ValueProblem("an array's shape holds something else than lengths")
    if 0 in shape and math.prod(n or 1 for n in shape) > 65_536:
        raise ValueProblem("an empty array's shape is absurd")  # lists would be made of it
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * _ITEM_SIZES[dtype]:
        raise ValueProblem("an array's bytes do not fit its shape")


def unpack(tree: Tree, arrays: Callable[[str, list[int], bytes], Any] | None = None) -> Value:
    """Turn a checked tree into the value. `arrays` makes an array; default NumPy's, else lists."""
    make = arrays or (numpy_array if _has_numpy() else list_array)
    if isinstance(tree, list):
        return [unpack(item, make) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        ((mark, inner),) = tree.items()
        if mark == "~t":
            return tuple(unpack(item, make) for item in inner)
        if mark == "~f":
            return _FLOATS[inner]
        if mark == "~a":
            return make(*inner)
        if mark == "~d":
            return {inner[0]: unpack(inner[1], make)}
    return {key: unpack(item, make) for key, item in tree.items()}


def _has_numpy() -> bool:
    try:
        import numpy as np  # noqa: F401
    except ImportError:
        return False
    return True


def numpy_array(dtype: str, shape: list[int], data: bytes) -> Any:
    """An array of its own memory, so that a module may write into it."""
    import numpy as np

    return np.frombuffer(data, dtype).reshape(shape).copy()


def list_array(dtype: str, shape: list[int], data: bytes) -> Any:
    """The same as nested lists, where there is no NumPy."""
    import struct

    codes = {"b": "?", "i": " bh i   q", "u": " BH I   Q", "f": "  e f   d"}
    kind, size = dtype[1], _ITEM_SIZES[dtype]
    if kind == "c":
        raise ValueProblem("complex arrays need NumPy")
    code = codes[kind] if kind == "b" else codes[kind][size]
    return _nest(list(struct.unpack(f"<{len(data) // size}{code}", data)), shape)


def _nest(flat: list[Any], shape: list[int]) -> Any:
    if not shape:
        return flat[0]
    if len(shape) == 1:
        return flat
    step = math.prod(shape[1:])
    return [_nest(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


class _HasBytes(Exception):
    """A tree holds bytes, which JSON does not."""


def _no_bytes(node: Any) -> Any:
    raise _HasBytes if isinstance(node, bytes) else TypeError(f"{type(node).__name__} in a tree")


def _marked(node: Any) -> dict[str, str]:
    return {"~b": binascii.b2a_base64(node, newline=False).decode()}


def _writer(default: Callable[[Any], Any]) -> Callable[[Any], str]:
    return JSONEncoder(
        separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=default
    ).encode


_write_plain: Final = _writer(_no_bytes)
_write_marked: Final = _writer(_marked)


def encode(tree: Tree) -> tuple[bytes, str]:
    """Write a tree: (bytes, content type)."""
    try:
        return _write_plain(tree).encode(), JSON
    except _HasBytes:
        import cbor2

        return cbor2.dumps(tree), CBOR


def decode(data: bytes, content_type: str, *, depth: int = 64) -> Tree:
    """Read what `encode` wrote, from anybody: ValueProblem for whatever else it is.

    The caller has bounded the size of `data`; what is made of it is of that order.
    """
    if content_type == CBOR:
        return _decode_cbor(data, depth)
    if content_type != JSON:
        raise ValueProblem(f"the content type {content_type!r:.60} is not known")
    return _parse(data, _read_plain)


#: The tags that cbor2 knows. A tree has none; some of them make much of little, or cycles.
_TAGS: Final = (*range(300), 1004, 43_000, 55_799)


def _decode_cbor(data: bytes, depth: int) -> Tree:
    import io

    import cbor2

    def refuse(*_: Any) -> Any:
        raise ValueProblem("a tag has no place in a value")

    stream = io.BytesIO(data)
    try:
        tree = cbor2.CBORDecoder(
            stream,
            max_depth=depth,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            tag_hook=refuse,
            semantic_decoders=dict.fromkeys(_TAGS, refuse),
        ).decode()
    except (
        cbor2.CBORError,
        ValueError,
        TypeError,
        RecursionError,
        OverflowError,
        MemoryError,
    ) as e:
        raise ValueProblem(f"not valid CBOR: {type(e).__name__}") from None
    if stream.read(1):
        raise ValueProblem("there are bytes after the CBOR item")
    return tree


def _no_constant(name: str) -> Any:
    raise ValueProblem(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueProblem("a JSON object has one key twice")
    return made


def _with_bytes(pairs: list[tuple[str, Any]]) -> Any:
    node = _unique(pairs)
    if len(node) == 1 and "~b" in node:
        try:
            return binascii.a2b_base64(node["~b"], strict_mode=True)
        except (TypeError, ValueError, binascii.Error):
            raise ValueProblem("bytes are not valid base64") from None
    return node


def _reader(pairs: Callable[[list[tuple[str, Any]]], Any]) -> Callable[[str], Any]:
    return JSONDecoder(parse_constant=_no_constant, object_pairs_hook=pairs).decode


_read_plain: Final = _reader(_unique)
_read_marked: Final = _reader(_with_bytes)


def _parse(data: bytes, read: Callable[[str], Any]) -> Tree:
    problem: ValueProblem
    try:
        return read(data.decode())
    except ValueProblem:
        raise
    except RecursionError:
        problem = TooLarge("the JSON is nested too deeply", "levels")
    except ValueError as e:  # bad UTF-8, bad JSON, an integer of thousands of digits
        problem = ValueProblem(f"not valid JSON: {e!s:.120}")
    try:
        raise problem  # out here: what json raises holds the whole text
    finally:
        del problem  # no cycle


def to_text(tree: Tree) -> bytes:
    """Write a tree always as JSON, bytes as base64: for the sandbox's pipe, stores and people."""
    return _write_marked(tree).encode()


def from_text(data: bytes) -> Tree:
    """Read what `to_text` wrote. ValueProblem for whatever else it is."""
    return _parse(data, _read_marked)
