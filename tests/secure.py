"""A broker that asks for certificates, and clients that need not behave."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import queue
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from oodida.pki import Pki
from protocol import identity
from protocol.identity import Identity
from protocol.link import packets
from tests.conftest import TEST_LABEL

WAIT_S: Final = 20.0
#: What a connection ends as that TLS has refused.
NO_TLS: Final = -1


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Secure(NamedTuple):
    """A broker with its authority."""

    port: int
    pki: Pki

    @property
    def url(self) -> str:
        return f"mqtts://127.0.0.1:{self.port}"

    def enroll(self, who: str, days: float = 1) -> Path:
        """The folder of an identity, ``role:name``."""
        return self.pki.enroll(identity.parse(who), now(), days)[0]


@contextlib.contextmanager
def secure_broker(folder: Path, settings: str = "") -> Iterator[Secure]:
    """The image that is shipped, with the settings for certificates, and a deployment's own."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    from images.build import ensure

    pki = Pki.init(folder / "pki", ["localhost", "127.0.0.1"], now())
    container = DockerContainer(ensure("broker", progress=print)).with_exposed_ports(8883)
    container.with_command(["-c", "/etc/mosquitto/secure.conf"])
    container.with_volume_mapping(str(pki.folder / "broker"), "/etc/mosquitto/identity", "ro")
    if settings:
        own = folder / "conf.d"
        own.mkdir()
        (own / "own.conf").write_text(settings)
        folder.chmod(0o755)
        container.with_volume_mapping(str(own), "/etc/mosquitto/conf.d", "ro")
    user = (pki.folder / "broker").stat()
    container.with_kwargs(
        labels={TEST_LABEL: str(os.getpid())},
        user=f"{user.st_uid}:{user.st_gid}",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
    )
    container.waiting_for(LogMessageWaitStrategy("mosquitto version .* running"))
    with container:
        yield Secure(int(container.get_exposed_port(8883)), pki)


class _Careless(Client):
    """paho, without a look at what it sends."""

    @staticmethod
    def _topic_wildcard_len_check(topic: bytes) -> MQTTErrorCode:  # noqa: ARG004
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    @staticmethod
    def _filter_wildcard_len_check(sub: bytes) -> MQTTErrorCode:  # noqa: ARG004
        return MQTTErrorCode.MQTT_ERR_SUCCESS


class Raw:
    """A client that does as it is told; each verb gives the broker's reason code."""

    def __init__(
        self,
        broker: Secure,
        folder: Path | None,
        client_id: str,
        will: tuple[str, bytes, bool] | None = None,
    ) -> None:
        self.heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._answers: queue.Queue[int] = queue.Queue()
        self._broker = broker
        client = _Careless(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(broker.pki.folder / "ca.pem")
        if folder is not None:
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        client.tls_set_context(context)
        if will is not None:
            client.will_set(will[0], will[1], qos=1, retain=will[2])
        client.on_connect = lambda *told: self._answers.put(told[3].value)
        client.on_disconnect = lambda *_: self._answers.put(NO_TLS)
        client.on_publish = lambda *told: self._answers.put(told[3].value)
        client.on_subscribe = lambda *told: self._answers.put(told[3][0].value)
        client.on_message = lambda *told: self.heard.put((told[2].topic, bytes(told[2].payload)))
        self._client = client

    def connect(self) -> int:
        try:
            self._client.connect("127.0.0.1", self._broker.port)
        except (ssl.SSLError, OSError):
            return NO_TLS
        self._client.loop_start()
        return self._answers.get(timeout=WAIT_S)

    def publish(
        self,
        topic: str,
        payload: bytes = b"evil",
        *,
        retain: bool = False,
        signature: str | None = None,
    ) -> int:
        properties = None
        if signature is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = (packets.SIGNATURE, signature)
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return self._answers.get(timeout=WAIT_S)

    def subscribe(self, topic: str) -> int:
        self._client.subscribe(topic, qos=1)
        return self._answers.get(timeout=WAIT_S)

    def die(self) -> None:
        """End without a goodbye, so that the broker says the last will."""
        sock: Any = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_lost(self) -> None:
        """Until the broker has ended it."""
        assert self._answers.get(timeout=WAIT_S) == NO_TLS


_numbers = itertools.count(1)


@contextlib.contextmanager
def raw(
    broker: Secure, who: Identity, will: tuple[str, bytes, bool] | None = None
) -> Iterator[Raw]:
    """One that is let in."""
    folder = broker.pki.folder / "identities" / who.role / who.name
    if not folder.is_dir():
        broker.enroll(str(who))
    made = Raw(broker, folder, who.client_id(f"raw-{next(_numbers)}"), will)
    assert made.connect() == 0
    try:
        yield made
    finally:
        made.close()
