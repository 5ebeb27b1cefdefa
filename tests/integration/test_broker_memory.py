"""A broker that is sent packets which never end goes on for the others, in the memory it has."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import docker
import pytest

from protocol import topics
from tests.conftest import TEST_LABEL
from tests.secure import WAIT_S, Raw, Secure, secure_broker

PACKET = 8 * 2**20
MEMORY = 48 * 2**20
CONNECTIONS = 25


def varint(number: int) -> bytes:
    """MQTT 5, section 1.5.5."""
    digits = bytearray()
    while True:
        number, digit = divmod(number, 128)
        digits.append(digit | (128 if number else 0))
        if not number:
            return bytes(digits)


def unending(secure: Secure, folder: Path, client_id: str, stack: ExitStack) -> None:
    """Connect, and send all of a large packet but its last byte; as far as the broker takes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(secure.pki.folder / "ca.pem")
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with suppress(OSError):  # it may end the connection, at any time
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", secure.port), WAIT_S))
        sock = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
        id_ = client_id.encode()
        hello = b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + len(id_).to_bytes(2) + id_
        sock.sendall(b"\x10" + varint(len(hello)) + hello)
        assert sock.recv(1) == b"\x20"
        topic = topics.reports("vehicles", "evil").encode()
        body = len(topic).to_bytes(2) + topic + b"\x00\x01\x00"
        sock.sendall(b"\x32" + varint(PACKET) + body + bytes(PACKET - len(body) - 1))


def resident(port: int) -> int:
    """How many bytes the broker at a port has in memory."""
    with closing(docker.from_env()) as client:
        (found,) = [
            container
            for container in client.containers.list(filters={"label": TEST_LABEL})
            if str(port) in str(container.ports)
        ]
    status = Path(f"/proc/{found.attrs['State']['Pid']}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.usefixtures("engine")
def test_packets_that_never_end_do_not_end_the_broker(tmp_path: Path) -> None:
    with secure_broker(tmp_path, f"memory_limit {MEMORY}\n") as secure, ExitStack() as stack:
        car, evil = secure.enroll("vehicle:car-1"), secure.enroll("vehicle:evil")
        honest = Raw(secure, car, "vehicle:car-1")
        assert honest.connect() == 0
        for number in range(CONNECTIONS):
            unending(secure, evil, f"vehicle:evil/{number}", stack)
        # What TLS takes is not counted by the broker: it is less than this for each connection.
        assert resident(secure.port) < MEMORY + (CONNECTIONS + 20) * 2**20 < CONNECTIONS * PACKET
        assert honest.publish(topics.reports("vehicles", "car-1"), b"{}") < 0x80
        stack.close()
        again = Raw(secure, car, "vehicle:car-1/2")
        assert again.connect() == 0
        honest.close()
        again.close()
