"""Where a broker is."""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from protocol.errors import BadRequest

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


class Address(NamedTuple):
    """Where a broker listens, and whether it speaks TLS there."""

    host: str
    port: int
    tls: bool = False

    @property
    def is_loopback(self) -> bool:
        """True if what is said there stays on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_url(url: str) -> Address:
    """Read ``mqtt://host:port`` or ``mqtts://host:port``. Raises BadRequest for whatever else."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as e:
        raise BadRequest(f"{url!r:.100} is no broker address: {e}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadRequest(f"{url!r:.100} is no broker address; write mqtts://host:port, or mqtt://")
    return Address(parts.hostname, port, parts.scheme == "mqtts")
