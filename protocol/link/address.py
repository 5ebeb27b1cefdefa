"""Where a broker is."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from protocol.errors import BadRequest


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int


def parse_url(url: str) -> Address:
    """Read ``mqtt://host:port``. Raises BadRequest for whatever else it is."""
    try:
        parts = urlsplit(url)
        port = parts.port or 1883
    except ValueError as e:
        raise BadRequest(f"{url!r:.100} is no broker address: {e}") from None
    if parts.scheme != "mqtt" or not parts.hostname:
        raise BadRequest(f"{url!r:.100} is no broker address; write mqtt://host:port")
    return Address(parts.hostname, port)
