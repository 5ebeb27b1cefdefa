"""The link over TLS: who is let in, what each refusal is called, and renewal without downtime."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import oodida
from oodida.pki import Pki
from protocol import errors, identity, topics
from protocol.link import Link, Outgoing, Will
from protocol.link.connection import Connection
from protocol.link.option import identified
from protocol.messages import new_id
from tests.secure import Secure, now, secure_broker


@pytest.fixture(scope="module")
def secure(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:  # noqa: ARG001
    with secure_broker(tmp_path_factory.mktemp("secure")) as made:
        yield made


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(timed())


def refused(
    kind: type[errors.OodidaError],
    url: str,
    folder: Path | None,
    client_id: str,
    patience_s: float = 20,
) -> str:
    async def scenario() -> None:
        with pytest.raises(errors.LinkError) as caught:
            async with Link(url, client_id, identity=folder, patience_s=patience_s):
                pass
        assert type(caught.value) is kind, repr(caught.value)
        said.append(str(caught.value))

    said: list[str] = []
    run(scenario)
    return said[0]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - links tell of nothing
        await asyncio.sleep(0.02)


def test_a_vehicle_and_the_cloud_speak_over_tls(secure: Secure) -> None:
    orders = topics.orders("vehicles", "car-1")
    car = secure.enroll("vehicle:car-1")
    cloud = secure.enroll("orchestrator:o-1")

    async def scenario() -> None:
        async with (
            Link(secure.url, "vehicle:car-1", identity=car, subscriptions=[orders]) as vehicle,
            Link(secure.url, "orchestrator:o-1/1", identity=cloud) as orchestrator,
        ):
            big = b"x" * (8 * 1024 * 1024)
            await orchestrator.publish(Outgoing(orders, big))
            message = await vehicle.receive()
            message.acknowledge()
            assert message.payload == big

    run(scenario)


def test_an_analyst_is_who_the_certificate_says(secure: Secure) -> None:
    folder = secure.enroll("analyst:ann")
    with oodida.connect(secure.url, identity=folder) as fleet:
        assert fleet.user == "ann"
    with pytest.raises(errors.WrongName, match="analyst:ann, and not of analyst:bob"):
        oodida.connect(secure.url, "bob", identity=folder)
    with pytest.raises(
        errors.WrongName, match=r"vehicle:car-1, and only analysts .* enroll analyst"
    ):
        oodida.connect(secure.url, "car-1", identity=secure.enroll("vehicle:car-1"))


def test_a_program_takes_no_name_but_its_certificates(secure: Secure) -> None:
    folder = secure.enroll("vehicle:car-1")
    assert identified(secure.url, folder, "vehicle", "car-1") == folder
    assert identified(secure.url, folder, "vehicle", None) == folder
    for role, name in (("vehicle", "car-2"), ("worker", "car-1")):
        with pytest.raises(errors.WrongName):
            identified(secure.url, folder, role, name)


def test_tls_needs_an_identity_and_an_identity_tls(secure: Secure) -> None:
    folder = secure.enroll("vehicle:car-1")
    with pytest.raises(errors.BadIdentity, match="OODIDA_IDENTITY or --identity"):
        Link(secure.url, "vehicle:car-1")
    for host in ("broker.example", "0.0.0.0", "10.0.0.5", "[2001:db8::1]", "127.0.0.1.example"):  # noqa: S104
        for proof in (folder, None):
            with pytest.raises(errors.NotEncrypted, match=re.escape(f"write mqtts://{host}:")):
                Link(f"mqtt://{host}:1883", "vehicle:car-1", identity=proof)
    Link("mqtt://127.0.0.1:1883", "vehicle:car-1", identity=folder)  # nobody is between


def test_each_refusal_has_its_name(secure: Secure, tmp_path: Path) -> None:
    car = secure.enroll("vehicle:car-1")
    other = Pki.init(tmp_path / "other", ["127.0.0.1"], now())
    stranger, _ = other.enroll(identity.of("vehicle", "car-1"), now())
    said = refused(errors.UnknownAuthority, secure.url, stranger, "vehicle:car-1")
    assert f"another authority than the one in {stranger}/ca.pem" in said
    assert "--pki of this broker" in said
    elsewhere = secure.url.replace("127.0.0.1", "127.0.0.2")
    assert "not for 127.0.0.2" in refused(errors.WrongHost, elsewhere, car, "vehicle:car-1")
    # It knows the broker, but the broker does not know it.
    (stranger / "ca.pem").write_bytes((car / "ca.pem").read_bytes())
    said = refused(errors.NotAuthorised, secure.url, stranger, "vehicle:car-1")
    assert "--pki of this broker" in said
    assert "client's name" in refused(errors.NotAuthorised, secure.url, car, "vehicle:car-2")
    broker = tmp_path / "pretends"
    broker.mkdir()
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (broker / name).write_bytes((secure.pki.folder / "broker" / name).read_bytes())
        (broker / name).chmod(0o600)
    refused(errors.BadIdentity, secure.url, broker, "broker:broker")


def test_a_folder_that_cannot_be_used_says_why(secure: Secure, tmp_path: Path) -> None:
    refused(errors.BadIdentity, secure.url, tmp_path, "vehicle:car-1")
    loose = secure.pki.enroll(identity.of("vehicle", "car-1"), now(), to=tmp_path / "loose")[0]
    (loose / "key.pem").chmod(0o640)
    assert "chmod 600" in refused(errors.LooseKey, secure.url, loose, "vehicle:car-1")
    (loose / "key.pem").chmod(0o600)
    (loose / "key.pem").write_bytes((secure.enroll("vehicle:car-2") / "key.pem").read_bytes())
    refused(errors.BadIdentity, secure.url, loose, "vehicle:car-1")
    early = now().replace(year=now().year - 1)
    old = secure.pki.enroll(identity.of("vehicle", "car-1"), early, 1, tmp_path / "old")[0]
    assert "enroll" in refused(errors.CertificateExpired, secure.url, old, "vehicle:car-1")


def test_no_tls_where_it_is_expected_says_so(broker: str, secure: Secure) -> None:
    plain = broker.replace("mqtt://", "mqtts://").replace("localhost", "127.0.0.1")
    folder = secure.enroll("vehicle:car-1")
    said = refused(errors.LinkError, plain, folder, "vehicle:car-1", 2)
    assert f"write {plain.replace('mqtts:', 'mqtt:')}" in said
    assert "`oodida up`" not in said, "it runs"


def test_tls_where_none_is_expected_says_so(secure: Secure) -> None:
    plain = secure.url.replace("mqtts:", "mqtt:")
    said = refused(errors.LinkError, plain, None, "vehicle:car-1", 2)
    assert f"Does it want TLS? Then write {secure.url}" in said
    assert "`oodida up`" not in said, "it runs"


def test_revoking_ends_the_open_connection_and_refuses_the_next(secure: Secure) -> None:
    car, other = secure.enroll("vehicle:gone"), secure.enroll("vehicle:stays")
    cloud = secure.enroll("orchestrator:o-1")
    presence = topics.presence("vehicles", "gone")
    will = Will(presence, b"died", delay_s=0)

    async def scenario() -> None:
        async with (
            Link(secure.url, "orchestrator:o-1/2", identity=cloud, subscriptions=[presence]) as o,
            Link(secure.url, "vehicle:stays", identity=other) as stays,
            Link(secure.url, "vehicle:gone", identity=car, will=lambda: will) as gone,
        ):
            secure.pki.revoke(identity.of("vehicle", "gone"), now())
            assert (await o.receive()).payload == b"died"
            await until(lambda: "Not authorized" in gone._last_problem)
            assert not gone.connected
            assert stays.connected
            # Enrolled again into the same folder, it comes back by itself.
            secure.enroll("vehicle:gone")
            await gone.wait_up()

    run(scenario)
    secure.pki.revoke(identity.of("vehicle", "gone"), now())
    refused(errors.NotAuthorised, secure.url, car, "vehicle:gone")


def test_a_link_changes_to_a_renewed_certificate_before_the_old_one_ends(secure: Secure) -> None:
    """Messages go both ways all the time: each arrives, and nobody is taken for dead."""
    orders = topics.orders("vehicles", "renewed")
    reports = topics.reports("vehicles", "renewed")
    presence = topics.presence("vehicles", "renewed")
    cloud = secure.enroll("orchestrator:o-1")
    folder = secure.enroll("vehicle:renewed", days=8 / 86400)
    ups: list[float] = []
    enough = asyncio.Event()
    sent: dict[str, set[bytes]] = {orders: set(), reports: set()}
    came: dict[str, set[bytes]] = {orders: set(), reports: set(), presence: set()}

    async def up() -> None:
        ups.append(now().timestamp())

    async def read(link: Link) -> None:
        while True:
            message = await link.receive()
            came[message.topic].add(message.payload)
            message.acknowledge()

    async def send(link: Link, topic: str) -> None:
        """As a reporter or an outbox does it: again, until the broker has it."""
        while not enough.is_set():
            message = Outgoing(topic, new_id().encode())
            sent[topic].add(message.payload)
            while (await link.publish_many([message]))[0] is not None:
                await link.wait_up()

    async def scenario() -> None:
        heard = [
            presence,
            topics.subscription(topics.all_of("vehicles", "reports"), "orchestrators"),
        ]
        async with (
            Link(secure.url, "orchestrator:o-1/3", identity=cloud, subscriptions=heard) as o,
            Link(
                secure.url, "vehicle:renewed", identity=folder, subscriptions=[orders],
                session_expiry_s=60, will=lambda: Will(presence, b"died"), on_up=up,
            ) as car,
        ):  # fmt: skip
            readers = [asyncio.create_task(read(link)) for link in (o, car)]
            senders = [
                asyncio.create_task(send(car, reports)), asyncio.create_task(send(o, orders)),
            ]  # fmt: skip
            ends = now().timestamp() + 8
            await until(lambda: all(came[topic] for topic in sent))
            secure.enroll("vehicle:renewed")  # nothing is restarted, and nothing is told of it
            await until(lambda: len(ups) == 2)
            assert ups[1] < ends, "while the old one still held"
            await until(lambda: now().timestamp() > ends + 1)  # by then the broker had ended it
            enough.set()
            await asyncio.gather(*senders)
            await until(lambda: all(sent[topic] <= came[topic] for topic in sent))
            assert len(ups) == 2
            assert not came[presence], "nobody took it for dead"
            for task in readers:
                task.cancel()

    run(scenario)


def test_who_goes_away_for_a_renewed_certificate_and_does_not_come_back_is_gone(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot say goodbye between its two connections: the will is told for it."""
    presence = topics.presence("vehicles", "unlucky")
    cloud = secure.enroll("orchestrator:o-1")
    folder = secure.enroll("vehicle:unlucky", days=8 / 86400)

    async def scenario() -> None:
        async with (
            Link(secure.url, "orchestrator:o-1/6", identity=cloud, subscriptions=[presence]) as o,
            Link(
                secure.url, "vehicle:unlucky", identity=folder, session_expiry_s=60,
                will=lambda: Will(presence, b"died", delay_s=1),
            ) as car,
        ):  # fmt: skip
            await car.publish(Outgoing(presence, b"born", retain=True))
            assert (await o.receive()).payload == b"born"

            async def nothing(*_: object) -> None:
                await asyncio.Event().wait()

            monkeypatch.setattr(Connection, "open", nothing)  # the network is gone meanwhile
            secure.enroll("vehicle:unlucky")
            assert (await o.receive()).payload == b"died"

    run(scenario)


def test_a_certificate_that_ends_unrenewed_ends_the_connection_until_there_is_another(
    secure: Secure,
) -> None:
    orders = topics.orders("vehicles", "late")
    cloud = secure.enroll("orchestrator:o-1")
    folder = secure.enroll("vehicle:late", days=3 / 86400)

    async def scenario() -> None:
        async with (
            Link(secure.url, "orchestrator:o-1/4", identity=cloud) as o,
            Link(
                secure.url, "vehicle:late", identity=folder, subscriptions=[orders],
                session_expiry_s=60,
            ) as car,
        ):  # fmt: skip
            await until(lambda: not car.connected)
            await o.publish(Outgoing(orders, b"meanwhile"))
            await until(lambda: "enroll" in car._last_problem)
            secure.enroll("vehicle:late")
            message = await car.receive()
            assert message.payload == b"meanwhile"
            message.acknowledge()

    run(scenario)
