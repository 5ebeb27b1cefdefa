"""Where everybody has a certificate: what nobody vouched for does not run, and a proof holds."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

import oodida
from edge_runtime.vouched import Vouched
from oodida.cli.proving import read
from oodida.pki import Pki
from protocol import endorsement, identity, messages, topics
from protocol.endorsement import TRIAL
from protocol.errors import BadProof, BadSignature, ModuleRefused, NoProof, NotSigned
from protocol.identity import IdentityRole
from protocol.link import Link, Outgoing, authentic
from protocol.messages import (
    ORDER,
    Cancel,
    Deploy,
    ModuleMessage,
    ModuleReport,
    OffboardOrder,
    OnboardOrder,
    Presence,
    TaskReport,
    Verdict,
    VerifyOrder,
    VerifyReport,
    new_id,
)
from protocol.module import Module, Side, digest_of
from protocol.revocation import FILE
from protocol.signing import Signer, Trust
from tests.conftest import until
from tests.secure import Raw, Secure

pytestmark = pytest.mark.timeout(180)
SOURCE = "def custom_code(window):\n    return len(window)\n"
EVIL = "def custom_code(window):\n    return 666\n"
SIGNAL = "VEHICLE_SPEED"


class Trusted(NamedTuple):
    fleet: oodida.Fleet
    folder: Path

    @property
    def pki(self) -> Pki:
        return Pki(self.folder / "pki")

    def enroll(self, who: str) -> Path:
        now = dt.datetime.now(dt.UTC)
        return self.pki.enroll(identity.parse(who), now, 1)[0]

    def stored(self, vehicle: str, name: str) -> str:
        """What a vehicle has on its disk under a name."""
        found = self.folder / f"vehicle-{vehicle}" / "modules" / "onboard" / f"ada@{name}.py"
        return found.read_text() if found.exists() else ""

    def refused(self, vehicle: str, name: str) -> set[object]:
        """The generations that a vehicle has refused, as the audit log has them."""
        acts = self.fleet.audit(f"vehicle:{vehicle}", "module")
        return {act.details["generation"] for act in acts if act.subject == name}

    def log(self, part: str) -> str:
        """What a part has said."""
        return (self.folder / "logs" / f"{part}.log").read_text()


@pytest.fixture(scope="module")
def trusted(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusted]:  # noqa: ARG001
    folder = tmp_path_factory.mktemp("trusted")
    with oodida.local({"car-1": None, "car-2": None}, user="ada", folder=folder) as fleet:
        yield Trusted(fleet, folder)


def test_the_cloud_hears_within_seconds_who_was_revoked(trusted: Trusted) -> None:
    trusted.enroll("analyst:mallory")
    trusted.pki.revoke(identity.parse("analyst:mallory"), dt.datetime.now(dt.UTC))
    assert until(lambda: "crl.pem has changed" in trusted.log("orchestrator"), 10)


def say(trusted: Trusted, topic: str, message: BaseModel) -> None:
    """As a hostile broker would: it can speak in the cloud's place.

    It has the certificate of an orchestrator for that, and no analyst's.
    """
    who = identity.of("orchestrator", "evil")
    folder = trusted.enroll(str(who))

    async def scenario() -> None:
        async with Link(trusted.fleet.url, who.client_id(new_id()), identity=folder) as link:
            await link.publish(Outgoing(topic, *messages.encode(message)))

    asyncio.run(scenario())


def raw_of(trusted: Trusted, folder: Path, who: str) -> Raw:
    """A connection of a client that signs nothing, as what a broker makes up is not signed."""
    port = int(trusted.fleet.url.rpartition(":")[2])
    made = Raw(Secure(port, trusted.pki), folder, f"{who}/{new_id()}")
    assert made.connect() == 0
    return made


def module(name: str, source: str, generation: int = 9) -> Module:
    return Module(
        user_id="ada", name=name, side=Side.ONBOARD, generation=generation, source=source,
        environment="minimal", digest=digest_of(source, "minimal"),
    )  # fmt: skip


def kept(folder: Path, vehicle: str, name: str) -> ModuleMessage:
    """A module with both signatures, as a vehicle has stored it."""
    path = folder / f"vehicle-{vehicle}" / "modules" / "onboard" / f"ada@{name}.json"
    facts = json.loads(path.read_bytes())
    made = Module.model_validate({**facts, "source": path.with_suffix(".py").read_text()})
    return ModuleMessage.of(made)


def test_a_deployment_runs_and_its_value_can_be_proved(trusted: Trusted, tmp_path: Path) -> None:
    fleet = trusted.fleet
    fleet.deploy(SOURCE, name="count")
    fleet.deploy("def custom_code(results):\n    return sum(results)\n", name="add", to="cloud")
    run = fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("custom", module="count", signals=SIGNAL, samples=20),
            offboard=oodida.Offboard("custom", module="add"),
            iterations=2,
        )
    )
    assert run.result(60) == 40
    for number in (1, 2):
        proof = run.proof(number)
        proof.verify(trusted.pki.folder / "ca.pem")
        assert [entry.vehicle for entry in proof.entries] == ["car-1", "car-2"]
        assert {m.name for m in proof.head.modules} == {"count", "add"}
        for entry in proof.entries:
            code, window = entry.receipt.code, entry.receipt.window
            assert code.digest == digest_of(SOURCE, "minimal")
            assert code.image.startswith("sha256:")
            assert code.limits is not None
            assert window is not None
            assert (window.first, window.count) == ((number - 1) * 20, 20)
            assert entry.receipt.container_starts == 1
        written = proof.written()
        changed = written.replace(b'"value":20', b'"value":21', 1)
        assert changed != written
        file = tmp_path / "changed"
        file.write_bytes(changed)
        with pytest.raises(BadProof):
            read(file).verify(trusted.pki.folder / "ca.pem")


def test_built_in_methods_have_receipts_too(trusted: Trusted) -> None:
    run = trusted.fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("mean", signals=SIGNAL, samples=20),
            offboard=oodida.Offboard("max"),
        )
    )
    run.result(60)
    run.proof().verify(trusted.pki.folder / "ca.pem")


def test_what_a_hostile_broker_sends_is_refused_and_not_stored(trusted: Trusted) -> None:
    trusted.fleet.deploy(SOURCE, name="safe")
    trusted.fleet.deploy(SOURCE + "# two\n", name="safe")
    assert until(lambda: "# two" in trusted.stored("car-1", "safe"))
    own, others = kept(trusted.folder, "car-1", "safe"), kept(trusted.folder, "car-2", "safe")
    bare = ModuleMessage.of(module("safe", EVIL))
    digest = digest_of(EVIL, "minimal")
    attacks = [
        bare,
        bare.model_copy(update={"generation": 10, "endorsement": own.endorsement}),
        own.model_copy(update={"generation": 11, "custom_code": EVIL, "digest": digest}),
        own.model_copy(update={"generation": 12}),
        others.model_copy(update={"generation": 13}),
    ]
    for attack in attacks:
        say(trusted, topics.modules("car-1", "ada", "safe"), attack)
        assert until(lambda a=attack: a.generation in trusted.refused("car-1", "safe"))  # type: ignore[misc]
    say(trusted, topics.modules("car-1", "ada", "safe"), others)  # as it is: another vehicle's
    assert until(lambda: "does not fit" in trusted.log("vehicle-car-1"))
    assert "# two" in trusted.stored("car-1", "safe")
    told = [act for act in trusted.fleet.audit() if act.action == "module"]
    assert {(act.actor, act.allowed, act.details["generation"]) for act in told} >= {
        ("vehicle:car-1", False, generation) for generation in (9, 10, 11, 12, 13)
    }
    run = trusted.fleet.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1"),
            onboard=oodida.Onboard("custom", module="safe", signals=SIGNAL, samples=20),
            offboard=oodida.Offboard("max"),
        )
    )
    assert run.result(60) == 20  # what is there runs on


def test_an_older_generation_is_refused_though_it_is_signed(trusted: Trusted) -> None:
    trusted.fleet.deploy(SOURCE, name="newer")
    assert until(lambda: trusted.stored("car-1", "newer") != "")
    old = kept(trusted.folder, "car-1", "newer")
    trusted.fleet.deploy(SOURCE + "# two\n", name="newer")
    say(trusted, topics.modules("car-1", "ada", "newer"), old)
    marker = trusted.fleet.deploy(SOURCE, name="marker")  # whatever was said before is handled
    assert until(lambda: marker.states == {"car-1": "ready", "car-2": "ready"})
    assert "# two" in trusted.stored("car-1", "newer")


def test_what_a_broker_makes_up_in_the_clouds_place_is_dropped(trusted: Trusted) -> None:
    """Orders and receipts that no orchestrator has signed, or somebody else has."""
    fleet = trusted.fleet
    fleet.deploy(SOURCE, name="mine")
    order = OnboardOrder(
        id=new_id(), assignment=new_id(), iteration=1, user_id="ada", method="custom",
        module="mine", signals=(SIGNAL,), samples=5, first=0, timeout_s=30,
    )  # fmt: skip
    topic = topics.orders("vehicles", "car-1")
    unsigned, _ = messages.encode(order)
    link = raw_of(trusted, trusted.enroll("orchestrator:evil"), "orchestrator:evil")
    assert link.publish(topic, unsigned) == 0
    assert until(lambda: f"{topic} has no signature" in trusted.log("vehicle-car-1"))
    thief = Signer(trusted.enroll("vehicle:car-2"))  # whose key is a vehicle's
    forged = authentic.signed(thief, Outgoing(topic, unsigned), time.time())
    assert link.publish(topic, unsigned, signature=forged.signature) == 0
    assert until(lambda: "vehicle:car-2 may send nothing" in trusted.log("vehicle-car-1"))
    link.close()
    assert f"dropped a message on {topic}" in trusted.log("vehicle-car-1")
    assert order.id not in trusted.log("orchestrator")  # nothing came of it


def test_with_an_orchestrators_key_alone_nothing_can_be_ordered(trusted: Trusted) -> None:
    """Whoever has stolen it orders what no analyst has asked for, or more than he did."""
    run = trusted.fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("mean", signals=SIGNAL, samples=20),
            offboard=oodida.Offboard("max"),
        )
    )
    run.result(60)
    asked = run.proof().head
    order = OnboardOrder(
        id=new_id(), assignment=asked.id, iteration=1, user_id="ada", method="mean",
        signals=SIGNAL, samples=20, first=0, timeout_s=30, mandate=asked.mandate,
    )  # fmt: skip
    changes: list[dict[str, Any]] = [
        {"mandate": None},
        {"assignment": new_id()},
        {"signals": "LATITUDE"},
        {"samples": 2000, "rate_hz": 10.0},  # one that is not carried out at once
        {"method": "custom", "module": "mine"},
        {"user_id": "olga"},
        {"iteration": 2},
    ]
    topic, log = topics.orders("vehicles", "car-1"), partial(trusted.log, "vehicle-car-1")
    for change in changes:
        one = order.model_copy(update={"id": new_id(), **change})
        say(trusted, topic, one)
        assert until(lambda one=one: f"the task {one.id} of {one.user_id} is refused" in log())  # type: ignore[misc]
    combine = OffboardOrder(
        id=new_id(), assignment=asked.id, iteration=1, user_id="ada", method="mean",
        results=[1.0], timeout_s=30, mandate=asked.mandate,
    )  # fmt: skip
    say(trusted, topics.offboard_orders(), combine)
    assert until(lambda: f"the task {combine.id} of ada is refused" in trusted.log("worker-1"))


@pytest.mark.parametrize("role", ["analyst", "vehicle", "worker"])
def test_what_a_broker_makes_up_in_anothers_place_is_refused_and_audited(
    trusted: Trusted, role: IdentityRole
) -> None:
    """A cancellation in an analyst's name, a vehicle's failure, a worker's verdict."""
    fleet, name = trusted.fleet, f"victim-{role}"
    said: dict[str, tuple[str, BaseModel]] = {
        "analyst": (topics.requests(name), Cancel(user_id=name, assignment=new_id())),
        "vehicle": (
            topics.reports("vehicles", name),
            ModuleReport(
                id=new_id(), user_id="ada", name="m", side=Side.ONBOARD, generation=1,
                digest="0" * 64, state="ready",
            ),
        ),
        "worker": (
            topics.reports("workers", name),
            VerifyReport(id=new_id(), order=new_id(), verdict=Verdict(ok=True)),
        ),
    }  # fmt: skip
    topic, message = said[role]
    link = raw_of(trusted, trusted.enroll(f"{role}:{name}"), f"{role}:{name}")
    assert link.publish(topic, messages.encode(message)[0]) == 0
    link.close()
    actor = name if role == "analyst" else f"{role}:{name}"
    assert until(lambda: bool([*fleet.audit(actor)]))
    assert {act.code for act in fleet.audit(actor)} == {"not_signed"}


def test_who_was_revoked_ships_and_orders_nothing_though_the_broker_lets_him_in(
    trusted: Trusted, tmp_path: Path
) -> None:
    """A stolen key of an orchestrator, and a broker that does not keep to the authority's list."""
    fleet, pki = trusted.fleet, trusted.pki
    fleet.deploy(SOURCE, name="held")
    assert until(lambda: trusted.stored("car-1", "held") != "")
    own, at = kept(trusted.folder, "car-1", "held"), time.time() - 60
    stolen = tmp_path / "stolen"
    shutil.copytree(trusted.enroll("orchestrator:evil"), stolen)
    thief = Signer(stolen)
    lists = [pki.folder / "broker" / FILE, pki.folder / "revoked" / FILE]
    before = lists[0].read_bytes()
    pki.revoke(thief.who, dt.datetime.now(dt.UTC))
    lists[0].write_bytes(before)  # the broker's own, of which it has kept an older one
    listed, parts = lists[1].read_bytes(), ("vehicle-car-1", "vehicle-car-2", "worker-1")
    for part in parts:
        assert until(lambda p=part: (trusted.folder / p / FILE).read_bytes() == listed), part  # type: ignore[misc]
    assert own.endorsement is not None
    again = endorsement.counter_sign(
        thief, own.module().model_copy(update={"generation": 9}), endorsement.vehicle("car-1"),
        deployment=own.endorsement.deployment, asked=own.endorsement.asked,
        analyst=own.endorsement.analyst, at=at,
    )  # fmt: skip
    order = OnboardOrder(
        id=new_id(), assignment=new_id(), iteration=1, user_id="ada", method="custom",
        module="held", signals=(SIGNAL,), samples=5, first=0, timeout_s=30,
    )  # fmt: skip
    said: list[tuple[str, BaseModel]] = [
        (topics.modules("car-1", "ada", "held"), ModuleMessage.of(again)),
        (topics.orders("vehicles", "car-1"), order),
    ]
    link = raw_of(trusted, stolen, "orchestrator:evil")
    for topic, message in said:
        payload, _ = messages.encode(message)
        dated_back = authentic.signed(thief, Outgoing(topic, payload), at)
        assert link.publish(topic, payload, signature=dated_back.signature) == 0
    # And the list before, with a word of its own.
    older = authentic.signed(thief, Outgoing(topics.revoked(), before), at)
    assert link.publish(topics.revoked(), before, signature=older.signature) == 0
    link.close()
    assert until(lambda: 9 in trusted.refused("car-1", "held"))
    log = "vehicle-car-1"
    gone = (
        f"on {topics.orders('vehicles', 'car-1')}: the certificate of {thief.who} has been revoked"
    )
    assert until(lambda: gone in trusted.log(log))
    assert until(lambda: "somebody repeats an older one" in trusted.log(log))
    assert order.id not in trusted.log("orchestrator")  # nothing came of it
    assert (trusted.folder / log / FILE).read_bytes() == listed
    # Whoever comes later is told by the cloud's own word, which replaces that of the thief.
    late = raw_of(trusted, trusted.enroll("vehicle:car-9"), "vehicle:car-9")
    assert late.subscribe(topics.revoked()) == 1
    while late.heard.get(timeout=20) != (topics.revoked(), listed):
        pass
    late.close()
    run = fleet.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1"),
            onboard=oodida.Onboard("custom", module="held", signals=SIGNAL, samples=20),
            offboard=oodida.Offboard("max"),
        )
    )
    assert run.result(60) == 20  # what is there runs on


def test_a_worker_tries_no_code_that_nobody_vouched_for(trusted: Trusted) -> None:
    order = VerifyOrder(id=new_id(), module=module("trial", EVIL, 1), timeout_s=30)
    say(trusted, topics.offboard_orders(), order)
    assert until(lambda: "the module trial of ada is refused" in trusted.log("worker-1"))


def test_code_that_was_changed_on_the_disk_is_not_run(trusted: Trusted) -> None:
    """The file of a module is taken over at a start: whoever wrote it needs both signatures."""
    trusted.fleet.deploy(SOURCE, name="disk")
    assert until(lambda: trusted.stored("car-1", "disk") != "")
    vouched = Vouched(Trust.load(trusted.enroll("vehicle:car-1") / "ca.pem"), "vehicle:car-1")
    good = kept(trusted.folder, "car-1", "disk").module()
    vouched.check(good)
    changed = good.model_copy(update={"source": EVIL, "digest": digest_of(EVIL, "minimal")})
    with pytest.raises(BadSignature):
        vouched.check(changed)


def test_an_unsigned_deployment_is_refused_and_changes_nothing(trusted: Trusted) -> None:
    with oodida.connect(trusted.fleet.url, "ada", identity=trusted.enroll("analyst:ada")) as fleet:
        connection = fleet._connection
        bare = Deploy(
            user_id="ada", mode="deploy_onboard", id=new_id(), name="bare", custom_code=SOURCE
        )
        with pytest.raises(NotSigned, match="OODIDA_IDENTITY"):
            connection.ask(bare)
        assert connection.signer is not None
        signed = bare.signed(connection.signer, dt.datetime.now(dt.UTC).timestamp())
        with pytest.raises(BadSignature):
            connection.ask(signed.model_copy(update={"custom_code": EVIL}))
        old = bare.signed(connection.signer, 1_000_000_000.0)
        with pytest.raises(BadSignature):
            connection.ask(old)
        assert "bare" not in {m.name for m in fleet.modules()}


def test_a_result_without_the_vehicles_own_receipt_is_not_taken(trusted: Trusted) -> None:
    """A report that somebody else has written, or whose value was changed on its way."""
    folder = trusted.enroll("vehicle:car-7")

    async def scenario() -> None:
        who = identity.of("vehicle", "car-7")
        link = Link(
            trusted.fleet.url, who.client_id(), identity=folder,
            subscriptions=[topics.orders("vehicles", "car-7")],
        )  # fmt: skip
        async with link:
            there = Presence(online=True, session=1, signals={"VEHICLE_SPEED": "km/h"})
            presence = messages.encode(there)
            topic = topics.presence("vehicles", "car-7")
            await link.publish(Outgoing(topic, *presence, retain=True))
            await asyncio.to_thread(
                until, lambda: "car-7" in {v.name for v in trusted.fleet.vehicles()}
            )
            run = await asyncio.to_thread(
                trusted.fleet.submit,
                oodida.Assignment(
                    vehicles=oodida.Select.ids("car-7"), deadline_s=4,
                    onboard=oodida.Onboard("mean", signals=SIGNAL, samples=20),
                    offboard=oodida.Offboard("mean"),
                ),
            )  # fmt: skip
            async with asyncio.timeout(30):
                message = await link.receive()
            message.acknowledge()
            order = messages.decode(ORDER, message.payload, message.content_type)
            assert isinstance(order, OnboardOrder)
            forged = TaskReport.model_validate(
                {
                    "id": new_id(), "task": order.id, "attempt": order.attempt,
                    "state": "succeeded", "digest": "0" * 64,
                    "outcome": {"kind": "value", "value": 1.0},
                }
            )  # fmt: skip
            reports = topics.reports("vehicles", "car-7")
            await link.publish(Outgoing(reports, *messages.encode(forged)))
            with pytest.raises(oodida.AssignmentFailed) as failed:
                await asyncio.to_thread(run.result, 60)
            assert failed.value.participation["car-7"].status != "included"
            gone = messages.encode(Presence(online=False, session=1))
            await link.publish(Outgoing(topic, *gone, retain=True))

    asyncio.run(scenario())


def test_the_trial_of_another_module_is_no_word_for_this_one(trusted: Trusted) -> None:
    trusted.fleet.deploy(SOURCE, name="tried")
    assert until(lambda: trusted.stored("car-1", "tried") != "")
    sent = kept(trusted.folder, "car-1", "tried").module()
    with pytest.raises(BadSignature):
        Vouched(Trust.load(trusted.enroll("worker:w-9") / "ca.pem"), TRIAL).check(sent)


def test_without_certificates_nothing_is_proved_and_it_says_so(ada: oodida.Fleet) -> None:
    run = ada.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("mean", signals=SIGNAL, samples=20),
            offboard=oodida.Offboard("max"),
        )
    )
    run.result(60)
    with pytest.raises(NoProof, match="certificates"):
        run.proof()


def test_a_module_that_every_vehicle_refuses_is_refused(trusted: Trusted) -> None:
    with pytest.raises(ModuleRefused):
        trusted.fleet.deploy("import socket\n" + SOURCE, name="net")
