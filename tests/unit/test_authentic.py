"""Messages with their sender's signature: as they were sent they are taken, and in no other way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.journal import SEEN_DAYS
from oodida.pki import Pki
from protocol import access, identity, topics
from protocol.errors import BadSignature, NotSigned
from protocol.identity import ROLES, Identity
from protocol.link import Incoming, Outgoing, authentic, packets
from protocol.link.authentic import OLDEST_S
from protocol.signing import CLOCKS_DIFFER_S, Signer, Trust

NOW: Final = dt.datetime.now(dt.UTC).replace(microsecond=0)
AT: Final = NOW.timestamp()
CLOUD: Final = "orchestrator:o-1"
#: Each channel, with who sends on it and who receives.
CHANNELS: Final[dict[str, tuple[str, str, str]]] = {
    "presence": ("vehicle:car-1", topics.presence("vehicles", "car-1"), CLOUD),
    "reports": ("vehicle:car-1", topics.reports("vehicles", "car-1"), CLOUD),
    "worker's reports": ("worker:w-1", topics.reports("workers", "w-1"), CLOUD),
    "requests": ("analyst:ada", topics.requests("ada"), CLOUD),
    "orders": (CLOUD, topics.orders("vehicles", "car-1"), "vehicle:car-1"),
    "offboard orders": (CLOUD, topics.offboard_orders(), "worker:w-1"),
    "offboard modules": (CLOUD, topics.offboard_modules("ada", "m"), "worker:w-1"),
    "modules": (CLOUD, topics.modules("car-1", "ada", "m"), "vehicle:car-1"),
    "revoked": (CLOUD, topics.revoked(), "worker:w-1"),
    "receipts": (CLOUD, topics.receipts("vehicles", "car-1"), "vehicle:car-1"),
    "replies": (CLOUD, topics.replies("ada", "c"), "analyst:ada"),
    "events": (CLOUD, topics.events("ada", "x"), "analyst:ada"),
}
Make = Callable[[str], Signer]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.init(tmp_path_factory.mktemp("authentic") / "pki", ["localhost"], NOW)


@pytest.fixture(scope="module")
def trust(pki: Pki) -> Trust:
    return Trust.load(pki.folder / "ca.pem")


@pytest.fixture(scope="module")
def signer(pki: Pki) -> Make:
    made: dict[str, Signer] = {}

    def make(who: str) -> Signer:
        if who not in made:
            made[who] = Signer(pki.enroll(identity.parse(who), NOW)[0])
        return made[who]

    return make


def check(trust: Trust, message: Incoming, now: float, to: str = CLOUD) -> Identity:
    return authentic.check(trust, message, identity.parse(to), now)


def over_the_wire(message: Outgoing, **changes: Any) -> Incoming:
    """The message as it comes, after a broker has changed it."""
    packet = packets.publish(7, message)
    ((_, whole, body),) = packets.split(bytearray(packet), 2**20)
    came = packets.read_publish(whole, body)
    incoming = Incoming(
        came.topic.decode(), came.payload, came.content_type, came.response_topic,
        came.correlation, lambda: None, came.signature,
    )  # fmt: skip
    return incoming._replace(**changes)


def signed_by(who: Signer, topic: str, at: float) -> Incoming:
    """A message that was signed at a time, as it comes."""
    sent = authentic.signed(who, Outgoing(topic, b"{}"), at)
    return Incoming(topic, b"{}", sent.content_type, None, None, lambda: None, sent.signature)


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_is_sent_comes_as_its_senders(signer: Make, trust: Trust, channel: str) -> None:
    who, topic, to = CHANNELS[channel]
    sent = Outgoing(topic, b"{}", response_topic=topics.replies("ada", "c"), correlation=b"\0\xff")
    came = over_the_wire(authentic.signed(signer(who), sent, AT))
    assert check(trust, came, AT, to) == identity.parse(who)


@given(data=st.data())
def test_a_change_anywhere_is_found(signer: Make, trust: Trust, data: st.DataObject) -> None:
    payload = data.draw(st.binary(max_size=20))
    correlation = data.draw(st.none() | st.binary(max_size=8))
    to = data.draw(st.none() | st.just(topics.replies("ada", "c-1")))
    sent = Outgoing(
        topics.requests("ada"), payload, "application/cbor", response_topic=to,
        correlation=correlation,
    )  # fmt: skip
    came = over_the_wire(authentic.signed(signer("analyst:ada"), sent, AT))
    changed: dict[str, st.SearchStrategy[Any]] = {
        "topic": st.sampled_from([topics.requests("adb"), topics.reports("vehicles", "ada")]),
        "payload": st.binary(max_size=20),
        "content_type": st.sampled_from(["application/json", ""]),
        "response_topic": st.none() | st.sampled_from([topics.replies("ada", "c-2"), ""]),
        "correlation": st.none() | st.binary(max_size=8),
    }
    field = data.draw(st.sampled_from(sorted(changed)))
    other = data.draw(changed[field].filter(lambda value: value != getattr(came, field)))
    with pytest.raises(BadSignature):
        check(trust, came._replace(**{field: other}), AT)


@given(st.text(max_size=400) | st.from_regex(r'\{"certificate": ?"[A-Za-z=]*"\}'))
def test_a_signature_that_is_none_is_refused(trust: Trust, text: str) -> None:
    message = Incoming(topics.requests("ada"), b"", "", None, None, lambda: None, text)
    with pytest.raises(BadSignature):
        check(trust, message, AT)
    with pytest.raises(NotSigned):
        check(trust, message._replace(signature=None), AT)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_changed_bit_of_the_signature_is_found(
    signer: Make, trust: Trust, at: int, bit: int
) -> None:
    sent = authentic.signed(signer("analyst:ada"), Outgoing(topics.requests("ada"), b"{}"), AT)
    text = bytearray((sent.signature or "").encode())
    text[at % len(text)] ^= 1 << bit
    with pytest.raises(BadSignature):
        check(trust, over_the_wire(sent, signature=text.decode(errors="replace")), AT)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("role", ROLES)
def test_nobody_else_speaks_on_a_channel(
    signer: Make, trust: Trust, channel: str, role: str
) -> None:
    """With a certificate of our authority, but not the one whose topic it is."""
    who, topic, to = CHANNELS[channel]
    for name in ("other", "car-1", "ada", "w-1", "o-1"):
        other = Identity(role, name)  # type: ignore[arg-type]
        came = over_the_wire(authentic.signed(signer(str(other)), Outgoing(topic, b"{}"), AT))
        if access.may(role, name, "send", topic):
            assert role == who.partition(":")[0]
            assert check(trust, came, AT, to) == other
        else:
            with pytest.raises(BadSignature, match="may send nothing to"):
                check(trust, came, AT, to)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("role", ROLES)
def test_what_was_said_to_somebody_is_for_nobody_else(
    signer: Make, trust: Trust, channel: str, role: str
) -> None:
    """As it was signed, and brought to another by a broker that wants him to take it."""
    who, topic, to = CHANNELS[channel]
    came = over_the_wire(authentic.signed(signer(who), Outgoing(topic, b"{}"), AT))
    for name in ("other", "car-1", "car-2", "ada", "w-1", "w-2"):
        other = Identity(role, name)  # type: ignore[arg-type]
        common = role == "worker" and to == "worker:w-1" and ("offboard" in topic)
        common = common or (role in ("vehicle", "worker") and topic == topics.revoked())
        if (role == "orchestrator" and to == CLOUD) or common or str(other) == to:
            assert check(trust, came, AT, str(other)) == identity.parse(who)
        else:
            with pytest.raises(BadSignature, match=f"is not for {other}"):
                check(trust, came, AT, str(other))


def test_another_authoritys_word_counts_for_nothing(
    pki: Pki, trust: Trust, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = pki.init(tmp_path_factory.mktemp("other") / "pki", ["localhost"], NOW)
    stranger = Signer(other.enroll(identity.parse("analyst:ada"), NOW)[0])
    sent = authentic.signed(stranger, Outgoing(topics.requests("ada"), b"{}"), AT)
    with pytest.raises(BadSignature, match="another authority"):
        check(trust, over_the_wire(sent), AT)


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_was_kept_back_for_too_long_is_refused(pki: Pki, trust: Trust, channel: str) -> None:
    who, topic, to = CHANNELS[channel]
    early = NOW - dt.timedelta(days=20)
    key = Signer(pki.enroll(identity.parse(who), early, 60)[0])
    oldest = OLDEST_S.get(topic.rpartition("/")[2])
    at = early.timestamp()
    came = over_the_wire(authentic.signed(key, Outgoing(topic, b"{}"), at))
    taken = partial(check, trust, came, to=to)
    with pytest.raises(BadSignature, match="in the future"):
        taken(at - CLOCKS_DIFFER_S - 1)
    taken(at - CLOCKS_DIFFER_S)
    if oldest is None:
        taken(AT)
    else:
        taken(at + oldest)
        with pytest.raises(BadSignature, match="kept back"):
            taken(at + oldest + 1)


def test_of_who_is_revoked_no_request_is_taken_and_what_was_sent_before_is(
    pki: Pki, signer: Make
) -> None:
    told = Trust.load(pki.folder / "ca.pem")
    gone, car = signer("analyst:gone"), signer("vehicle:gone")
    asked = signed_by(gone, topics.requests("gone"), AT)
    said = signed_by(car, topics.reports("vehicles", "gone"), AT)
    will = signed_by(car, topics.presence("vehicles", "gone"), AT)
    check(told, asked, AT)
    for who in (gone.who, car.who):
        pki.revoke(who, NOW + dt.timedelta(seconds=5))
    told.take_back(told.read_revoked(pki.folder / "revoked" / "crl.pem"))
    with pytest.raises(BadSignature, match="has been revoked"):
        check(told, asked, AT + 6)
    check(told, said, AT + 6)
    check(told, will, AT + 6)
    with pytest.raises(BadSignature, match="had been revoked"):
        check(told, signed_by(car, topics.reports("vehicles", "gone"), AT + 5), AT + 6)


def test_orders_are_remembered_for_longer_than_they_are_taken() -> None:
    """Whoever repeats an order to a vehicle repeats one that the vehicle knows."""
    assert OLDEST_S["orders"] < SEEN_DAYS * 86_400
