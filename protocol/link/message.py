"""What goes over a link: messages both ways, and what is said of us when we are gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from protocol.values import JSON


class Outgoing(NamedTuple):
    """A message to publish. ``expiry_s``: the broker drops it if nobody took it by then.

    ``signature`` is put in by the link, where there are certificates (`protocol.link.authentic`).
    """

    topic: str
    payload: bytes
    content_type: str = JSON
    retain: bool = False
    expiry_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    signature: str | None = None


class Will(NamedTuple):
    """What the broker says for us, `delay_s` after it lost us without a goodbye."""

    topic: str
    payload: bytes
    delay_s: int = 2
    signature: str | None = None


class Incoming(NamedTuple):
    """A message that came. `acknowledge` it once it is handled, or it will come again."""

    topic: str
    payload: bytes
    content_type: str
    response_topic: str | None
    correlation: bytes | None
    acknowledge: Callable[[], None]
    signature: str | None = None
