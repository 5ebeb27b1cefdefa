"""Python's types as schemas, in the dialect that tells values apart as Python does."""

from __future__ import annotations

from typing import Final

from protocol.contract.likeness import MARK
from protocol.contract.schema import Schema

_NUMPY_FLOATS: Final = ("floating", "float16", "float32", "float64", "half", "single", "double")
_NUMPY_INTS: Final = (
    "integer", "signedinteger", "unsignedinteger", "int_", "intp", "uint", "uintp", "long", "ulong",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)  # fmt: skip
_NUMPY_ANY: Final = ("generic", "number", "complexfloating", "complex64", "complex128")
NONE: Final[Schema] = {"title": "None", "type": "null"}
_BOOL: Final[Schema] = {"title": "bool", "type": "boolean"}
_INT: Final[Schema] = {"title": "int", "type": ["integer", "boolean"]}  # a bool is one in Python
_FLOAT: Final[Schema] = {"title": "float", "type": ["number", "boolean"]}  # and an int will do
STR: Final[Schema] = {"title": "str", "type": "string"}
_BYTES: Final[Schema] = {
    "title": "bytes",
    "type": "object",
    "properties": {MARK: STR},
    "required": [MARK],
}
SIMPLE: Final[dict[str, Schema]] = {
    "None": NONE, "types.NoneType": NONE, "bool": _BOOL, "int": _INT, "float": _FLOAT,
    "str": STR, "bytes": _BYTES, "bytearray": _BYTES, "memoryview": _BYTES,
    "object": {}, "typing.Any": {}, "typing.Text": STR,
    "numpy.bool_": _BOOL, "numpy.bool": _BOOL,
    **{f"numpy.{name}": _FLOAT for name in _NUMPY_FLOATS},
    **{f"numpy.{name}": _INT for name in _NUMPY_INTS},
}  # fmt: skip
#: What an array's elements may be, by its scalar type: stricter, because arrays have one.
SCALARS: Final[dict[str, Schema]] = {
    "numpy.bool_": {"type": "boolean"}, "numpy.bool": {"type": "boolean"}, "bool": _BOOL,
    "typing.Any": {}, "float": {"type": "number"}, "int": {"type": "integer"},
    **{f"numpy.{name}": {"type": "number"} for name in _NUMPY_FLOATS},
    **{f"numpy.{name}": {"type": "integer"} for name in _NUMPY_INTS},
    **{f"numpy.{name}": {} for name in _NUMPY_ANY},
}  # fmt: skip
_ABSTRACT_LISTS: Final = ("Sequence", "MutableSequence", "Iterable", "Collection")
LISTS: Final = frozenset(("list", "typing.List")) | {
    f"{place}.{name}" for place in ("typing", "collections.abc") for name in _ABSTRACT_LISTS
}
DICTS: Final = frozenset(
    ("dict", "typing.Dict", "typing.Mapping", "typing.MutableMapping", "collections.abc.Mapping",
     "collections.abc.MutableMapping", "collections.OrderedDict", "collections.defaultdict")
)  # fmt: skip
TUPLES: Final = frozenset(("tuple", "typing.Tuple"))
ARRAYS: Final = frozenset(("numpy.ndarray", "numpy.typing.NDArray", "array.array"))
WRAPPERS: Final = {
    f"typing.{name}": name for name in ("Annotated", "Required", "NotRequired", "ReadOnly", "Final")
}
TYPED_DICT: Final = "typing.TypedDict"
