"""What is likely wrong where one side speaks TLS and the other does not: neither can say so."""

from __future__ import annotations

from typing import Final

from protocol.link.address import Address

#: How an alert of TLS begins: its kind, and the highest byte of every version's number.
_ALERT: Final = b"\x15\x03"


def wants_tls(address: Address, first: bytes, *, ended: bool) -> str:
    """Why a broker that we spoke to without TLS may want it; "" where nothing says so.

    ``first`` is how its answer began; ``ended`` is True if it has ended the connection.
    """
    silent = ended and not first
    if address.tls or not (silent or first.startswith(_ALERT)):
        return ""
    how = "ended the connection without a word" if silent else "answered in TLS"
    return (
        f"it {how}. Does it want TLS? Then write mqtts://{_where(address)}, and name the folder "
        "that `oodida enroll` has made, by OODIDA_IDENTITY or --identity. "
        "If not, is it about to stop, or about to start?"
    )


def wants_none(address: Address) -> str:
    """Why a broker that ended the connection when TLS began may speak none."""
    told = "it ended the connection when TLS began. "
    if address.is_loopback:
        return f"{told}Is it a broker without certificates? Then write mqtt://{_where(address)}"
    return (
        f"{told}Is that the port on which it speaks TLS, by default 8883? A broker without "
        "certificates serves its own machine alone: it has to have some, as `oodida pki init` "
        "makes them"
    )


def _where(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"
