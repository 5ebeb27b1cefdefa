"""TLS on one side alone: what is said of it."""

from __future__ import annotations

import pytest

from protocol.link.address import Address, parse_url
from protocol.link.doubt import wants_none, wants_tls

PLAIN = parse_url("mqtt://127.0.0.1:1884")


@pytest.mark.parametrize(
    ("first", "ended"), [(b"", True), (b"\x15\x03", False), (b"\x15\x03", True)]
)
def test_silence_and_an_alert_are_of_one_that_wants_tls(first: bytes, ended: bool) -> None:
    said = wants_tls(PLAIN, first, ended=ended)
    assert "write mqtts://127.0.0.1:1884" in said
    assert "OODIDA_IDENTITY or --identity" in said


@pytest.mark.parametrize(
    ("address", "first", "ended"),
    [
        (PLAIN, b"", False),  # it has not answered yet
        (PLAIN, b"\x20\x03", True),  # it has refused in words of MQTT
        (PLAIN, b"HT", True),  # it speaks something else
        (parse_url("mqtts://127.0.0.1:8883"), b"", True),  # we speak TLS
    ],
)
def test_nothing_is_said_where_nothing_tells_of_tls(
    address: Address,
    first: bytes,
    ended: bool,
) -> None:
    assert not wants_tls(address, first, ended=ended)


def test_mqtt_is_proposed_on_this_machine_alone() -> None:
    assert "write mqtt://[::1]:1883" in wants_none(parse_url("mqtts://[::1]:1883"))
    elsewhere = wants_none(parse_url("mqtts://broker.example:1883"))
    assert "mqtt://" not in elsewhere
    assert "by default 8883" in elsewhere
