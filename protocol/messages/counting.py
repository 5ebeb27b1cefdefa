"""How many items a message holds, found before any is made.

Four megabytes can be millions of lists, and each of those takes sixty bytes and a microsecond. So
items are counted first, and no further than up to what a message may have.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.errors import BadRequest
from protocol.values import CBOR

#: A value has 200 000 items at most (`protocol.values.Bounds`), and an entry of a dict is two.
MOST: Final = 500_000
#: With more marks than that, a message has so many quotes at most: each text takes its time.
TEXTS: Final = 200_000
#: Smaller ones are read at once.
SMALL: Final = 64 * 1024
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def require_few(data: bytes, content_type: str) -> None:
    """Raises BadRequest if a message holds more items than any has a use for."""
    if len(data) <= SMALL:
        return
    few = _few_cbor(data) if content_type == CBOR else _few_json(data)
    if not few:
        raise BadRequest(f"the message has more than {MOST} items; use arrays")


def _few_json(data: bytes) -> bool:
    if _marks(data) <= MOST:
        return True
    if data.count(b'"') > TEXTS:
        return False
    return _marks(_TEXT.sub(b"", data)) <= MOST  # most of them may be in texts, such as a table's


def _marks(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _few_cbor(data: bytes) -> bool:
    """Head by head (RFC 8949, section 3): what they say of lengths is not believed, but skipped."""
    at, count, size = 0, 0, len(data)
    while at < size:
        count += 1
        if count > MOST:
            return False
        head = data[at]
        at += 1
        length = head & 0x1F
        if 24 <= length <= 27:
            wide = 1 << (length - 24)
            length = int.from_bytes(data[at : at + wide])
            at += wide
        if head >> 5 in (2, 3):  # bytes and text
            at += length
    return True
