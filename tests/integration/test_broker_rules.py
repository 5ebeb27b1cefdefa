"""Every verb on every topic, at the broker that is shipped: as each role, as nobody, crafted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol import access, identity, topics
from protocol.access import may
from protocol.identity import Identity
from protocol.link import private
from tests.conftest import until
from tests.secure import NO_TLS, Raw, Secure, now, raw, secure_broker

NOT_AUTHORISED = 0x87
#: Whoever does what, and the others, whose topics are not theirs.
ACTORS = [
    Identity("vehicle", "car-1"), Identity("worker", "w-1"), Identity("analyst", "ann"),
    Identity("orchestrator", "o-1"),
]  # fmt: skip
NAMES = ("car-1", "car-2", "w-1", "w-2", "ann", "bob", "o-1")


def every_topic() -> list[str]:
    """Each channel of each name in each family, whoever has it."""
    found = [topics.offboard_orders(), topics.offboard_modules("ann", "m"), topics.revoked()]
    for name in NAMES:
        found += [topics.requests(name), topics.replies(name, "c"), topics.events(name, "x")]
        found += [topics.modules(name, "ann", "m")]
        for family in ("vehicles", "workers"):
            for make in (topics.presence, topics.orders, topics.reports, topics.receipts):
                found.append(make(family, name))
    return found


CRAFTED = [
    "#", "+", "$SYS/#", "$SYS/broker/uptime", "$CONTROL/dynamic-security/v1", "oodida/#",
    "oodida/v1/#", "oodida/v1/+/+/#", "oodida/v1/vehicles/+/orders", "oodida/v1/vehicles/car-1/#",
    "oodida/v1/vehicles//orders", "oodida/v1/vehicles/car-1/x/orders", "oodida/v1/vehicles/car-1/",
    "oodida/v1/vehicles/cär-1/orders", "oodida/v1/vehicles/" + "x" * 60_000 + "/orders",
    "oodida/v1/vehicles/car-11/orders", "oodida/v1/vehicles/car-/orders", "/", "a", "",
]  # fmt: skip
SHARES = ["orchestrators", "workers", "mine", ""]


@pytest.fixture(scope="module")
def secure(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:  # noqa: ARG001
    with secure_broker(tmp_path_factory.mktemp("secure")) as made:
        yield made


def can_be_sent_to(topic: str) -> bool:
    return bool(topic) and not set("+#") & set(topic)


@pytest.mark.parametrize("who", ACTORS, ids=str)
def test_publishing_and_retaining_are_as_the_rules_say(secure: Secure, who: Identity) -> None:
    with raw(secure, who) as client:
        for topic in filter(can_be_sent_to, [*every_topic(), *CRAFTED]):
            for retain in (False, True):
                code = client.publish(topic, b"", retain=retain)
                allowed = may(who.role, who.name, "retain" if retain else "send", topic)
                # "No matching subscribers" is no refusal.
                assert (code in {0, 0x10}) is allowed, (topic, retain, code)
                assert allowed or code == NOT_AUTHORISED, (topic, code)


@pytest.mark.parametrize("who", ACTORS, ids=str)
def test_subscribing_and_sharing_are_as_the_rules_say(secure: Secure, who: Identity) -> None:
    filters = [*every_topic(), *(t for t in CRAFTED if t)]
    shared = [f"$share/{group}/{t}" for group in SHARES[:3] for t in filters if len(t) < 1000]
    families = [
        topics.all_of(family, channel)
        for family in ("vehicles", "workers", "analysts")
        for channel in ("presence", "orders", "reports", "receipts", "requests")
    ]
    shared += [topics.subscription(t, group) for group in SHARES[:3] for t in families]
    with raw(secure, who) as client:
        for topic in [*filters, *families, *shared]:
            code = client.subscribe(topic)
            allowed = may(who.role, who.name, "subscribe", topic)
            assert code == (1 if allowed else NOT_AUTHORISED), (topic, code)


@pytest.mark.parametrize("who", ACTORS, ids=str)
def test_a_last_will_reaches_nobody_that_a_message_would_not(secure: Secure, who: Identity) -> None:
    others = [Identity("vehicle", "car-2"), Identity("worker", "w-2"), Identity("analyst", "bob"),
              Identity("orchestrator", "o-2")]  # fmt: skip
    hearers = []
    for other in others:
        folder = secure.enroll(str(other))
        hearer = Raw(secure, folder, other.client_id(f"hears-{who.role}"))
        assert hearer.connect() == 0
        for rule in access.RULES:
            if (rule.role, rule.verb) == (other.role, "subscribe"):
                assert hearer.subscribe(rule.topic.replace(access.SELF, other.name)) == 1
        hearers.append(hearer)
    folder = secure.enroll(str(who))
    told = []
    for number, topic in enumerate(filter(can_be_sent_to, every_topic())):
        payload = f"{who.role}-{number}".encode()
        retain = may(who.role, who.name, "retain", topic)
        client = Raw(secure, folder, who.client_id("dies"), (topic, payload, retain))
        assert client.connect() == 0
        client.die()
        if may(who.role, who.name, "send", topic):
            told += [payload for o in others if may(o.role, o.name, "receive", topic)]
    # The next one under the id ends the last one, and so its will is told before.
    last = Raw(secure, folder, who.client_id("dies"))
    assert last.connect() == 0
    last.close()
    with raw(secure, Identity("orchestrator", "o-3")) as cloud, raw(secure, ACTORS[0]) as car:
        for topic in (topics.orders("vehicles", "car-2"), topics.orders("workers", "w-2"),
                      topics.replies("bob", "c")):  # fmt: skip
            assert cloud.publish(topic, b"end") == 0
        assert car.publish(topics.presence("vehicles", "car-1"), b"end") == 0
    heard = []
    for hearer in hearers:
        while (message := hearer.heard.get(timeout=20))[1] != b"end":
            heard.append(message[1])
        hearer.close()
    # What another has left at the broker is told anew to whoever subscribes.
    assert sorted(m for m in heard if m.startswith(who.role.encode())) == sorted(told)


def test_what_is_retained_is_shown_to_nobody_else(secure: Secure) -> None:
    own, foreign = topics.modules("car-1", "ann", "m"), topics.modules("car-2", "ann", "m")
    with raw(secure, Identity("orchestrator", "o-1")) as cloud, raw(secure, ACTORS[0]) as car:
        for topic in (foreign, own):
            assert cloud.publish(topic, b"code", retain=True) in {0, 0x10}
        assert car.subscribe("oodida/v1/vehicles/+/modules/+/+") == NOT_AUTHORISED
        assert car.subscribe(foreign) == NOT_AUTHORISED
        assert car.subscribe(topics.own_modules("car-1")) == 1
        assert car.heard.get(timeout=20) == (own, b"code")
        for topic in (foreign, own):
            cloud.publish(topic, b"", retain=True)


@pytest.mark.parametrize(
    "client_id",
    ["", "car-1", "vehicle:car-2", "vehicle:car-11", "vehicle:car-", "vehicle:car-1+",
     "worker:car-1", "vehicle:car-1:x", "analyst:ann/c", "orchestrator:o-1", "+", "#", "/",
     "vehicle:/", "vehicle:#", "véhicle:car-1", "Vehicle:car-1", " vehicle:car-1", "x" * 60_000],
)  # fmt: skip
def test_nobody_takes_the_client_id_of_another(secure: Secure, client_id: str) -> None:
    folder = secure.enroll("vehicle:car-1")
    client = Raw(secure, folder, client_id)
    assert client.connect() in {NOT_AUTHORISED, NO_TLS}
    client.close()


def test_one_name_has_so_many_connections_and_no_more(secure: Secure) -> None:
    folder, other = secure.enroll("analyst:many"), secure.enroll("analyst:man")
    clients = [Raw(secure, folder, f"analyst:many/{number}") for number in range(30)]
    assert {client.connect() for client in clients} == {0}
    assert Raw(secure, folder, "analyst:many/more").connect() == NOT_AUTHORISED
    again = Raw(secure, folder, "analyst:many/7")  # takes the place of the one that had its id
    assert again.connect() == 0
    clients[7].wait_lost()
    neighbour = Raw(secure, other, "analyst:man/1")
    assert neighbour.connect() == 0
    clients[0].close()
    assert until(lambda: Raw(secure, folder, "analyst:many/later").connect() == 0)
    for client in (*clients, again, neighbour):
        client.close()


def test_without_a_certificate_or_with_the_brokers_own_nobody_comes_in(
    secure: Secure, tmp_path: Path
) -> None:
    for folder in (None, secure.pki.folder / "broker"):
        client = Raw(secure, folder, "vehicle:car-1")
        assert client.connect() == NO_TLS
    other = secure.pki.init(tmp_path / "other", ["localhost"], now())
    stranger, _ = other.enroll(identity.of("vehicle", "car-1"), now())
    assert Raw(secure, stranger, "vehicle:car-1").connect() == NO_TLS


def subject(*fields: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in fields])


ROLE, NAME = NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME


@pytest.mark.parametrize(
    ("name", "client_id"),
    [
        (subject((NAME, "car-1")), "vehicle:car-1"),
        (subject((ROLE, "vehicle")), "vehicle:"),
        (subject((ROLE, "vehicle"), (NAME, "+")), "vehicle:+"),
        (subject((ROLE, "vehicle"), (NAME, "#")), "vehicle:#"),
        (subject((ROLE, "vehicle"), (NAME, "a/b")), "vehicle:a/b"),
        (subject((ROLE, "vehicle"), (NAME, "car-1:x")), "vehicle:car-1:x"),
        (subject((ROLE, "vehicle"), (NAME, "cär")), "vehicle:cär"),
        (subject((ROLE, "vehicle"), (NAME, "car-1\0x")), "vehicle:car-1"),
        (subject((ROLE, "vehicle"), (NAME, "car-1"), (NAME, "car-2")), "vehicle:car-2"),
        (subject((ROLE, "vehicle"), (ROLE, "worker"), (NAME, "car-1")), "worker:car-1"),
        (subject((ROLE, "orchestrator:o-1/"), (NAME, "x")), "orchestrator:o-1"),
        (subject((ROLE, "v" * 60), (NAME, "x")), "v" * 60 + ":x"),
    ],
    ids=repr,
)
def test_even_our_authority_lets_in_no_crafted_name(
    secure: Secure, tmp_path: Path, name: x509.Name, client_id: str
) -> None:
    issue = secure.pki._authority._issue
    made = issue(name, now(), 1, ExtendedKeyUsageOID.CLIENT_AUTH, ())
    private.write(tmp_path / "cert.pem", made.certificate)
    private.write(tmp_path / "key.pem", made.key)
    client = Raw(secure, tmp_path, client_id)
    assert client.connect() == NOT_AUTHORISED
    client.close()


def test_a_role_without_rules_may_do_nothing(secure: Secure, tmp_path: Path) -> None:
    issue = secure.pki._authority._issue
    name = subject((ROLE, "anonymous"), (NAME, "x"))
    made = issue(name, now(), 1, ExtendedKeyUsageOID.CLIENT_AUTH, ())
    private.write(tmp_path / "cert.pem", made.certificate)
    private.write(tmp_path / "key.pem", made.key)
    client = Raw(secure, tmp_path, "anonymous:x")
    assert client.connect() == 0
    assert client.subscribe(topics.orders("vehicles", "car-1")) == NOT_AUTHORISED
    assert client.publish(topics.reports("vehicles", "x")) == NOT_AUTHORISED
    client.close()


def test_whoever_is_revoked_loses_all_connections_and_nobody_else_does(secure: Secure) -> None:
    gone, stays = Identity("analyst", "gone"), Identity("worker", "gone")
    with raw(secure, stays) as other:
        folder = secure.enroll(str(gone))
        clients = [Raw(secure, folder, gone.client_id(f"c-{n}")) for n in range(3)]
        assert [client.connect() for client in clients] == [0, 0, 0]
        secure.pki.revoke(gone, now())
        for client in clients:
            client.wait_lost()
        assert Raw(secure, folder, gone.client_id("c-9")).connect() == NOT_AUTHORISED
        assert other.publish(topics.reports("workers", "gone"), b"") in {0, 0x10}


def test_a_certificate_that_expires_loses_its_connection(secure: Secure) -> None:
    folder = secure.enroll("vehicle:brief", days=3 / 86400)
    client = Raw(secure, folder, "vehicle:brief")
    began = now()
    assert client.connect() == 0
    client.wait_lost()
    assert now() >= began + dt.timedelta(seconds=1)
    assert Raw(secure, folder, "vehicle:brief").connect() == NO_TLS


@pytest.mark.parametrize("spoil", [lambda _: b"", lambda _: b"nonsense", lambda c: c[:-60]])
def test_a_list_that_cannot_be_read_leaves_the_one_before(
    secure: Secure, spoil: Callable[[bytes], bytes]
) -> None:
    gone = Identity("vehicle", "spoiled")
    folder = secure.enroll(str(gone))
    secure.pki.revoke(gone, now())
    assert Raw(secure, folder, str(gone)).connect() == NOT_AUTHORISED  # the list has been read
    path = secure.pki.folder / "broker" / "crl.pem"
    good = path.read_bytes()
    private.write(path, spoil(good))
    assert Raw(secure, folder, str(gone)).connect() == NOT_AUTHORISED
    private.write(path, good)
    with raw(secure, ACTORS[0]):
        pass


def test_an_old_list_of_another_authority_frees_nobody(secure: Secure, tmp_path: Path) -> None:
    gone = Identity("vehicle", "freed")
    folder = secure.enroll(str(gone))
    secure.pki.revoke(gone, now())
    assert Raw(secure, folder, str(gone)).connect() == NOT_AUTHORISED  # the list has been read
    path = secure.pki.folder / "broker" / "crl.pem"
    good = path.read_bytes()
    other = secure.pki.init(tmp_path / "other", ["localhost"], now())
    private.write(path, (other.folder / "broker" / "crl.pem").read_bytes())
    assert Raw(secure, folder, str(gone)).connect() == NOT_AUTHORISED
    private.write(path, good)
