"""Bytes that are nearly right: what somebody would send who wants to see a parser fall.

Everything is drawn from a `Random`, so that a number is enough to make a case again. A payload that
can be read as JSON or CBOR is changed as a tree, others byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import cbor2

#: Stands in a tree for a number of more digits than Python writes.
HUGE: Final = "\0huge"
#: Values that something may not have been made for.
HOSTILE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, HUGE,
    0.0, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"), "", " ", "a", "a" * 5000,
    "\ud800", "\0", "\n", "\x1b[31m", "é", "\u202e", "..", "../x", "a/b", "+", "#", "~t", "1",
    "custom", "minimal", "science", b"", b"\xff" * 40, [], {}, [[]], [None] * 300, ["a"] * 70,
    {"": 0}, {"~t": []}, {"~t": 0}, {"~f": "nan"}, {"~f": "boom"}, {"~d": ["~t", 1]}, {"~d": []},
    {"~a": ["<f8", [2**40], b""]}, {"~a": ["|b1", [0, 9**9], b""]}, {"~a": ["<f8", [1], b"\0" * 8]},
    {"~a": [[], {}, 0]}, {"~b": "AAA="}, {"~b": "!"}, {"kind": "task"}, {"mode": "submit"},
    {str(i): i for i in range(200)}, {"$ref": "#"}, {"type": "array"},
)  # fmt: skip
#: What is put between bytes where there is no tree.
TOKENS: Final = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b"\xef\xbb\xbf", b"NaN", b"-Infinity", b"1e999",
    b'{"a":1,"a":2}', b'"kind":"cancel",', b"[" * 300, b"{" * 300, b'{"a":' * 300, b"9" * 5000,
    b"\xd9\xd9\xf7\xd9\xd9\xf7", b"\xc0\x00", b"\xd8\x1c\x80\x82", b"\xd8\x1d\x00", b"\x9f",
    b"\xbf\xff", b"\x81" * 300, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", b"\x7f\x00",
    b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xf9\x7e\x00", b"\xa2\x61a\x01\x61a\x02", b"\n",
    b"\r", b'"', b"'", b"\\", b",", b";", b"=", b"[a]\n", b"# ", b"x={}\n", b"default=1\n",
)  # fmt: skip
Encode = Callable[[Any], bytes]


def to_json(tree: Any) -> bytes:
    """A tree as JSON, with what JSON should not have: NaN, lone surrogates, numbers without end."""
    text = json.dumps(tree, default=_odd)
    return text.replace(json.dumps(HUGE), "9" * 5000).encode()


def _odd(node: Any) -> Any:
    return {"~b": node.hex()} if isinstance(node, bytes) else str(node)


def to_cbor(tree: Any) -> bytes:
    """A tree as CBOR, with big numbers and with text that is none."""
    return cbor2.dumps(_cbor(tree))


def _cbor(node: Any) -> Any:
    if isinstance(node, dict):
        return {_cbor(key): _cbor(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_cbor(item) for item in node]
    if node == HUGE:
        return 10**5000
    return node.encode(errors="replace").decode() if isinstance(node, str) else node


def tree_of(data: bytes) -> tuple[Any, Encode] | None:
    """What a payload holds, and how to write it again; None if it is neither JSON nor CBOR."""
    try:
        return json.loads(data), to_json
    except (ValueError, RecursionError):
        pass
    try:
        tree = cbor2.loads(data)
    except Exception:  # noqa: BLE001 - it is no CBOR, whatever the library makes of it
        return None
    return (tree, to_cbor) if isinstance(tree, dict | list) else None


def mangle(data: bytes, dice: Random) -> bytes:
    """Change a payload in one to four places."""
    for _ in range(dice.randint(1, 4)):
        found = tree_of(data) if dice.random() < 0.7 else None
        if found is None:
            data = _bytes(data, dice)
            continue
        tree, write = found
        try:
            data = write(_tree(tree, dice))
        except (ValueError, TypeError, RecursionError, OverflowError, cbor2.CBORError):
            data = _bytes(data, dice)
    return data


def _tree(tree: Any, dice: Random) -> Any:
    places = list(_places(tree))
    if not places or dice.random() < 0.03:
        return dice.choice(HOSTILE)
    holder, key = dice.choice(places)
    match dice.randrange(7):
        case 0 | 1 | 2:
            holder[key] = dice.choice(HOSTILE)
        case 3:
            del holder[key]
        case 4 if isinstance(holder, dict):
            holder[dice.choice(("", "kind", "id", "~t", "extra", "é", "\n"))] = dice.choice(HOSTILE)
        case 5:
            deep = holder[key]
            for _ in range(dice.choice((1, 33, 65, 500))):
                deep = [deep] if dice.random() < 0.5 else {"a": deep}
            holder[key] = deep
        case _:
            other, where = dice.choice(
                places
            )  # a value of another place, of the right kind perhaps
            holder[key] = other.get(where) if isinstance(other, dict) else (other or [None])[0]
    return tree


def _places(tree: Any) -> Sequence[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    stack = [tree]
    while stack and len(found) < 500:
        node = stack.pop()
        if isinstance(node, dict | list):
            keys = node.keys() if isinstance(node, dict) else range(len(node))
            found += [(node, key) for key in keys]
            stack += node.values() if isinstance(node, dict) else node
    return found


def _bytes(data: bytes, dice: Random) -> bytes:
    at = dice.randint(0, len(data))
    to = min(len(data), at + dice.choice((0, 1, 2, 8, 64)))
    match dice.randrange(6):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[to:]
        case 2:
            return data[:at] + dice.choice(TOKENS) + data[to:]
        case 3:
            return data[:to] + data[at:to] * dice.choice((1, 3, 50)) + data[to:]
        case 4:
            return data + data[at:]
        case _:
            if not data:
                return dice.randbytes(8)
            at = min(at, len(data) - 1)
            return data[:at] + bytes((data[at] ^ 1 << dice.randrange(8),)) + data[at + 1 :]
