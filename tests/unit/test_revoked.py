"""What was taken back reaches vehicles and workers, and no broker can make them forget it."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import metrics
from edge_runtime.revoked import Revoked
from edge_runtime.vouched import Vouched
from oodida.pki import Pki
from oodida.pki.authority import Authority
from orchestrator import revoked
from orchestrator.revoked import Announcer
from orchestrator.vouching import Vouching
from protocol import endorsement, identity, topics
from protocol.errors import BadSignature, BrokerBusy, LinkError
from protocol.limits import LimitsAsked
from protocol.link import Incoming, Link, Outgoing, authentic
from protocol.module import Module, Side, digest_of
from protocol.revocation import FILE, MAX_BYTES
from protocol.signing import Signer, Trust

NOW: Final = dt.datetime.now(dt.UTC).replace(microsecond=0)
AT: Final = NOW.timestamp()
CAR: Final = identity.of("vehicle", "car-1")
SOURCE: Final = "def custom_code(window):\n    return 1\n"
OLD, NEW = {1: NOW}, {1: NOW, 2: NOW}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new(NOW)


class Machine:
    """A vehicle as far as it knows an authority, with its folder."""

    def __init__(self, authority: bytes, folder: Path) -> None:
        self.folder, self._ca = folder, folder / "ca.pem"
        self._ca.write_bytes(authority)
        self.start()

    def start(self) -> None:
        """Anew, with what is in the folder."""
        self.trust = Trust.load(self._ca)
        self.revoked = Revoked(self.trust, self.folder)

    @property
    def taken(self) -> Mapping[int, float]:
        return self.trust._revoked


@pytest.fixture
def car(authority: Authority, tmp_path: Path) -> Machine:
    return Machine(authority.certificate, tmp_path)


def test_a_list_holds_from_then_on_and_after_a_start(authority: Authority, car: Machine) -> None:
    car.revoked.take(authority.revocation_list(NEW, 2, NOW))
    assert car.taken.keys() == {1, 2}
    assert (car.folder / FILE).stat().st_mode & 0o777 == 0o600
    car.start()
    assert car.taken.keys() == {1, 2}
    car.revoked.take(b"")  # somebody has cleared it at the broker
    assert car.taken.keys() == {1, 2}


def test_an_older_list_frees_nobody_also_after_a_start(authority: Authority, car: Machine) -> None:
    day = dt.timedelta(days=1)
    car.revoked.take(authority.revocation_list(NEW, 2, NOW))
    for _ in range(2):
        for number, at in ((1, NOW + day), (2, NOW - day)):
            older = authority.revocation_list(OLD, number, at)
            car.revoked.take(older)
            assert car.taken.keys() == {1, 2}
        car.start()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_in_whatever_order_lists_come_the_newest_holds(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, int]]
) -> None:
    car = Machine(authority.certificate, tmp_path_factory.mktemp("car"))
    seen = [-1]
    for number, minutes in made:
        at = NOW + dt.timedelta(minutes=minutes)
        car.revoked.take(authority.revocation_list({1 + 10 * number + minutes: NOW}, number, at))
        seen.append(*car.taken)
    assert all(one <= other for one, other in pairwise(seen))
    assert seen[-1] == max([-1, *(1 + 10 * number + minutes for number, minutes in made)])


def test_what_is_no_list_of_the_authority_is_refused_told_once_and_counted(
    authority: Authority,
    car: Machine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(metrics.REFUSED, "add", counted.append)
    good = authority.revocation_list(NEW, 2, NOW)
    car.revoked.take(good)
    changed = bytearray(good)
    changed[len(good) // 2] ^= 1
    for bad, code in (
        (Authority.new(NOW).revocation_list({}, 9, NOW), "bad_signature"),
        (good + b" " * MAX_BYTES, "bad_request"),
        (b"not a list", "bad_request"),
        (authority.certificate, "bad_request"),
        (authority.revocation_list(OLD, 1, NOW), "bad_signature"),
    ):
        caplog.clear()
        counted.clear()
        car.revoked.take(bad)
        car.revoked.take(bad)
        assert counted == [code, code]
        assert [r.levelno for r in caplog.records] == [logging.WARNING]
    car.revoked.take(bytes(changed))
    assert car.taken.keys() == {1, 2}


@pytest.mark.parametrize("left", [b"", b"broken", b"x" * (MAX_BYTES + 1)])
def test_a_file_that_is_broken_stops_nobody(
    authority: Authority, car: Machine, left: bytes
) -> None:
    (car.folder / FILE).write_bytes(left)
    car.start()
    assert car.taken == {}
    car.revoked.take(authority.revocation_list(NEW, 2, NOW))
    assert car.taken.keys() == {1, 2}


def test_a_disk_that_takes_nothing_is_tried_again(authority: Authority, car: Machine) -> None:
    listed, place = authority.revocation_list(NEW, 2, NOW), car.folder / FILE
    place.mkdir()  # nothing can be moved there
    car.revoked.take(listed)
    assert car.taken.keys() == {1, 2}
    place.rmdir()
    car.revoked.take(listed)  # as with the next connection
    assert place.read_bytes() == listed


# --- what it means for what comes -----------------------------------------------------------------


class Fleet:
    """An authority, an analyst and two orchestrators; ``car`` hears its lists."""

    def __init__(self, folder: Path) -> None:
        self.pki = Pki.init(folder / "pki", ["localhost"], NOW)
        self.cloud, self.other = self._signer("orchestrator:o-1"), self._signer("orchestrator:o-2")
        self.ada = self._signer("analyst:ada")
        self.car = Machine(self.pki.authority.encode(), folder)
        self.vouched = Vouched(self.car.trust, f"vehicle:{CAR.name}")

    def _signer(self, who: str) -> Signer:
        return Signer(self.pki.enroll(identity.parse(who), NOW)[0])

    def revoke(self, who: Signer, after_s: float = 60) -> None:
        """A certificate is taken back, and the vehicle hears of it."""
        self.pki.revoke(who.who, NOW + dt.timedelta(seconds=after_s))
        self.car.revoked.take((self.pki.folder / "revoked" / FILE).read_bytes())

    def shipped(self, by: Signer, at: float, to: str = f"vehicle:{CAR.name}") -> Module:
        made = Module(
            user_id="ada", name="m", side=Side.ONBOARD, generation=1, source=SOURCE,
            environment="minimal", digest=digest_of(SOURCE, "minimal"),
        )  # fmt: skip
        analyst = endorsement.sign(
            self.ada, name="m", side=Side.ONBOARD, source=SOURCE, limits=LimitsAsked(),
            returns=None, deployment="d-1", asked="minimal", at=AT,
        )  # fmt: skip
        return endorsement.counter_sign(
            by, made, to, deployment="d-1", asked="minimal", analyst=analyst, at=at
        )

    def says(self, by: Signer, topic: str, at: float) -> None:
        """A message comes. Raises BadSignature if it is not taken."""
        sent = authentic.signed(by, Outgoing(topic, b"{}"), at)
        came = Incoming(topic, b"{}", sent.content_type, None, None, lambda: None, sent.signature)
        authentic.check(self.car.trust, came, CAR, AT + 120)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.mark.parametrize(
    "topic", [topics.orders("vehicles", "car-1"), topics.receipts("vehicles", "car-1")]
)
def test_of_a_revoked_orchestrator_no_order_is_taken_whenever_it_was_signed(
    fleet: Fleet, topic: str
) -> None:
    fleet.says(fleet.cloud, topic, AT)
    fleet.revoke(fleet.cloud)
    for at in (AT, AT + 100):
        with pytest.raises(BadSignature, match=r"orchestrator:o-1 ha(s|d) been revoked"):
            fleet.says(fleet.cloud, topic, at)
    fleet.says(fleet.other, topic, AT + 100)


def test_what_was_retained_before_is_heard_and_its_signatures_decide(fleet: Fleet) -> None:
    retained = topics.modules("car-1", "ada", "m"), topics.revoked()
    fleet.revoke(fleet.cloud)
    for topic in retained:
        fleet.says(fleet.cloud, topic, AT)
        with pytest.raises(BadSignature, match="had been revoked"):
            fleet.says(fleet.cloud, topic, AT + 100)


def test_a_module_that_arrives_is_refused_whoever_of_the_two_was_revoked(fleet: Fleet) -> None:
    module = fleet.shipped(fleet.cloud, AT)
    fleet.vouched.check_arrival(module, None, AT)
    fleet.revoke(fleet.cloud)
    with pytest.raises(BadSignature, match="orchestrator:o-1 has been revoked"):
        fleet.vouched.check_arrival(module, None, AT)
    again = fleet.shipped(fleet.other, AT + 100)
    fleet.vouched.check_arrival(again, None, AT + 100)
    fleet.revoke(fleet.ada)
    with pytest.raises(BadSignature, match="analyst:ada has been revoked"):
        fleet.vouched.check_arrival(again, None, AT + 100)


def test_what_is_here_stays_good_and_may_come_again(fleet: Fleet) -> None:
    here = fleet.shipped(fleet.cloud, AT)
    fleet.revoke(fleet.ada)
    fleet.revoke(fleet.cloud)
    fleet.vouched.check(here)
    fleet.vouched.check_arrival(here, here, AT)  # as the broker has it
    fleet.vouched.check_arrival(fleet.shipped(fleet.other, AT + 100), here, AT + 100)


def test_what_was_signed_after_that_is_not_run(fleet: Fleet) -> None:
    late = fleet.shipped(fleet.cloud, AT + 100)
    fleet.vouched.check_arrival(late, None, AT + 100)
    assert fleet.vouched.holds(late)
    fleet.revoke(fleet.cloud)
    assert not fleet.vouched.holds(late)  # so it is written down anew once it comes from another
    with pytest.raises(BadSignature, match="had been revoked"):
        fleet.vouched.check(late)
    again = fleet.shipped(fleet.other, AT + 100)
    fleet.vouched.check_arrival(again, late, AT + 100)
    assert fleet.vouched.holds(again)


def test_the_cloud_signs_nothing_in_the_future(fleet: Fleet) -> None:
    ahead = fleet.shipped(fleet.cloud, AT + 700)
    with pytest.raises(BadSignature, match="700 s in the future"):
        fleet.vouched.check_arrival(ahead, None, AT)


def test_a_worker_tries_nothing_of_who_was_revoked(fleet: Fleet) -> None:
    trial = fleet.shipped(fleet.cloud, AT, endorsement.TRIAL)
    fleet.vouched.check_trial(trial)
    fleet.revoke(fleet.ada)
    with pytest.raises(BadSignature, match="analyst:ada has been revoked"):
        fleet.vouched.check_trial(trial)
    fleet.revoke(fleet.cloud)
    with pytest.raises(BadSignature, match="orchestrator:o-1 has been revoked"):
        fleet.vouched.check_trial(fleet.shipped(fleet.cloud, AT, endorsement.TRIAL))


# --- who tells them -------------------------------------------------------------------------------


class Broker:
    """A link that takes what is published, or answers as it is told."""

    def __init__(self, *answers: LinkError) -> None:
        self._answers, self.published = list(answers), asyncio.Queue[Outgoing]()

    async def publish(self, message: Outgoing) -> None:
        if self._answers:
            raise self._answers.pop(0)
        self.published.put_nowait(message)


def test_the_cloud_tells_what_was_taken_back_as_it_is_and_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked, "ONCE_MORE_S", 0.01)
    place = fleet.pki.folder / "identities" / "orchestrator" / "o-1"
    vouching = Vouching.load(place, fleet.pki.folder / "revoked" / FILE)
    announcer, broker = Announcer(vouching.revoked), Broker(BrokerBusy())

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(announcer.publish(cast("Link", broker)))
            group.create_task(vouching.follow(announcer.again))
            announcer.again()  # nobody was taken back, so there is nothing to tell
            await asyncio.sleep(0)
            assert broker.published.empty()
            fleet.pki.revoke(fleet.ada.who, NOW)
            async with asyncio.timeout(20):
                told = [await broker.published.get() for _ in range(2)]
            listed = (fleet.pki.folder / "revoked" / FILE).read_bytes()
            for message in told:
                where = (message.topic, message.retain, message.payload)
                assert where == (topics.revoked(), True, listed)
            telling.cancel()
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario())
