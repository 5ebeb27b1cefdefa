"""Signatures and endorsements: what was vouched for holds, and a changed byte anywhere does not."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.vouched import Vouched
from oodida.pki import Pki
from orchestrator.store.queries import Brief
from orchestrator.vouching import Vouching
from protocol import endorsement, identity
from protocol.endorsement import OFFBOARD, TRIAL, Endorsement
from protocol.errors import BadIdentity, BadSignature, NotSigned
from protocol.lifecycle import TaskState
from protocol.limits import LimitsAsked
from protocol.messages import Deploy, ModuleMessage, TaskReport
from protocol.module import Module, Side, digest_of
from protocol.outcome import Kind, Outcome
from protocol.result_receipt import CodeRun, of_inputs, signed
from protocol.revocation import NOTHING
from protocol.signing import CLOCKS_DIFFER_S, Signature, Signer, Trust, canonical, fingerprint
from tests.conftest import until

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
AT = NOW.timestamp()
SOURCE = "def custom_code(window):\n    return 1\n"


class World(NamedTuple):
    pki: Pki
    analyst: Signer
    vouching: Vouching
    trust: Trust


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    pki = Pki.init(tmp_path_factory.mktemp("trust") / "pki", ["localhost"], NOW)
    analyst, _ = pki.enroll(identity.of("analyst", "ada"), NOW)
    orchestrator, _ = pki.enroll(identity.of("orchestrator", "o-1"), NOW)
    vouching = Vouching.load(orchestrator)
    return World(pki, Signer(analyst), vouching, vouching.trust)


def deploy(**changes: Any) -> Deploy:
    fields = {
        "user_id": "ada", "mode": "deploy_onboard", "id": "d-1", "name": "harsh",
        "custom_code": SOURCE, "limits": LimitsAsked(lower={"time_s": 2}),
        "returns": {"type": "number"},
    }  # fmt: skip
    return Deploy.model_validate({**fields, **changes})


def module(world: World, to: str = "vehicle:car-1", generation: int = 3, **changes: Any) -> Module:
    """A module as it goes to somebody; `changes` are made to it afterwards."""
    signed = deploy().signed(world.analyst, AT)
    made = Module(
        user_id="ada", name="harsh", side=signed.side, generation=generation,
        environment="minimal", source=SOURCE, digest=digest_of(SOURCE, "minimal"),
        limits=signed.limits, returns=signed.returns,
    )  # fmt: skip
    assert signed.signature is not None
    both = world.vouching.endorsed(
        made, to, deployment="d-1", asked="minimal", analyst=signed.signature, now=AT
    )
    return both.model_copy(update=changes)


def test_what_both_vouch_for_is_taken_by_whom_it_is_for_and_by_nobody_else(world: World) -> None:
    sent = ModuleMessage.of(module(world)).module()
    Vouched(world.trust, "vehicle:car-1").check(sent)
    for other in ("vehicle:car-2", OFFBOARD, TRIAL, "car-1"):
        with pytest.raises(BadSignature, match="does not fit"):
            Vouched(world.trust, other).check(sent)
    with pytest.raises(BadSignature):
        Vouched(world.trust, "vehicle:car-1").check_trial(sent)
    Vouched(world.trust).check_trial(module(world, TRIAL))


OTHER = SOURCE.replace("1", "2")
CHANGES: list[dict[str, Any]] = [
    {"source": OTHER, "digest": digest_of(OTHER, "minimal")},
    {"environment": "science", "digest": digest_of(SOURCE, "science")},
    {"digest": "0" * 64},
    {"generation": 4},
    {"generation": 2},
    {"name": "gentle"},
    {"user_id": "bob"},
    {"side": Side.OFFBOARD},
    {"limits": LimitsAsked()},
    {"limits": LimitsAsked(profile="large", lower={"time_s": 2})},
    {"returns": None},
    {"returns": {"type": "string"}},
    {"image": "here:1/x@sha256:" + "0" * 64},
]


@pytest.mark.parametrize("change", CHANGES, ids="-".join)
def test_a_changed_field_is_found(world: World, change: dict[str, Any]) -> None:
    changed = module(world).model_copy(update=change)
    with pytest.raises(BadSignature):
        Vouched(world.trust, "vehicle:car-1").check(changed)


@pytest.mark.parametrize("part", ["deployment", "asked"])
def test_a_changed_word_of_the_request_is_found(world: World, part: str) -> None:
    sent = module(world)
    assert sent.endorsement is not None
    both = sent.endorsement.model_copy(update={part: "other"})
    with pytest.raises(BadSignature):
        Vouched(world.trust, "vehicle:car-1").check(sent.model_copy(update={"endorsement": both}))


@given(whose=st.sampled_from(["analyst", "cloud"]), data=st.data())
def test_a_changed_bit_of_a_signature_or_certificate_is_found(
    world: World, whose: str, data: st.DataObject
) -> None:
    sent = module(world)
    assert sent.endorsement is not None
    signature: Signature = getattr(sent.endorsement, whose)
    part = data.draw(st.sampled_from(["certificate", "signature", "at"]))
    if part == "at":
        changed: Any = signature.at + data.draw(st.sampled_from([-1.0, 1.0, 1e-3, 3600.0]))
    else:
        raw = bytearray(base64.b64decode(getattr(signature, part)))
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        changed = base64.b64encode(bytes(raw)).decode()
    broken = signature.model_copy(update={part: changed})
    both = sent.endorsement.model_copy(update={whose: broken})
    with pytest.raises(BadSignature):
        Vouched(world.trust, "vehicle:car-1").check(sent.model_copy(update={"endorsement": both}))


def test_signatures_of_the_wrong_people_are_refused(world: World, tmp_path: Path) -> None:
    sent = module(world)
    assert sent.endorsement is not None

    def refused(match: str, **changes: Any) -> None:
        assert sent.endorsement is not None
        both = Endorsement.model_validate({**sent.endorsement.model_dump(), **changes})
        with pytest.raises(BadSignature, match=match):
            Vouched(world.trust, "vehicle:car-1").check(
                sent.model_copy(update={"endorsement": both})
            )

    bob = Signer(world.pki.enroll(identity.of("analyst", "bob"), NOW)[0])
    car = Signer(world.pki.enroll(identity.of("vehicle", "car-9"), NOW)[0])
    by_bob = endorsement.sign(
        bob, name="harsh", side=sent.side, source=SOURCE, limits=sent.limits,
        returns=sent.returns, deployment="d-1", asked="minimal", at=AT,
    )  # fmt: skip
    refused("analyst:ada", analyst=by_bob.model_dump())
    for stranger in (bob, car, world.analyst):
        forged = endorsement.counter_sign(
            stranger, sent, "vehicle:car-1", deployment="d-1", asked="minimal",
            analyst=sent.endorsement.analyst, at=AT,
        ).endorsement  # fmt: skip
        assert forged is not None
        refused("should be by an orchestrator", cloud=forged.cloud.model_dump())
    elsewhere = Pki.init(tmp_path / "pki", ["localhost"], NOW)
    evil = Vouching.load(elsewhere.enroll(identity.of("orchestrator", "o-1"), NOW)[0])
    forged = evil.endorsed(
        sent,
        "vehicle:car-1",
        deployment="d-1",
        asked="minimal",
        analyst=sent.endorsement.analyst,
        now=AT,
    ).endorsement
    assert forged is not None
    refused("another authority", cloud=forged.cloud.model_dump())


def test_unsigned_code_is_refused_where_there_is_an_authority(world: World) -> None:
    bare = module(world, endorsement=None)
    with pytest.raises(NotSigned):
        Vouched(world.trust, "vehicle:car-1").check(bare)
    with pytest.raises(NotSigned, match="OODIDA_IDENTITY"):
        world.vouching.check(deploy(), AT)
    Vouched(None, "vehicle:car-1").check(bare)


def test_one_generation_is_one_module(world: World) -> None:
    here = module(world)
    vouched = Vouched(world.trust, "vehicle:car-1")
    vouched.check_arrival(here, here, AT)
    vouched.check_arrival(here, module(world, generation=2), AT)
    other = here.model_copy(update={"digest": "1" * 64})
    with pytest.raises(BadSignature, match="is another module"):
        vouched.check_arrival(here, other, AT)


def test_a_request_holds_for_as_long_as_clocks_differ(world: World) -> None:
    signed = deploy().signed(world.analyst, AT)
    world.vouching.check(signed, AT + CLOCKS_DIFFER_S - 1)
    for late in (AT + CLOCKS_DIFFER_S + 1, AT - CLOCKS_DIFFER_S - 1):
        with pytest.raises(BadSignature, match="set the clock"):
            world.vouching.check(signed, late)
    for change in ({"id": "d-2"}, {"name": "x"}, {"environment": "science"}, {"user_id": "bob"}):
        with pytest.raises(BadSignature):
            world.vouching.check(signed.model_copy(update=change), AT)


def test_the_certificate_has_to_have_been_valid_then(world: World) -> None:
    folder, made = world.pki.enroll(identity.of("analyst", "eve"), NOW, days=1)
    eve = Signer(folder)
    inside, outside = AT + 3600, made.until.timestamp() + 1
    assert str(world.trust.verify(eve.sign("p", {}, inside), "p", {})) == "analyst:eve"
    with pytest.raises(BadSignature, match="not valid when"):
        world.trust.verify(eve.sign("p", {}, outside), "p", {})
    world.pki.revoke(eve.who, NOW + dt.timedelta(minutes=5))
    told = Trust.load(world.pki.folder / "ca.pem", world.pki.folder / "broker" / "crl.pem")
    told.verify(eve.sign("p", {}, AT), "p", {})
    with pytest.raises(BadSignature, match="revoked"):
        told.verify(eve.sign("p", {}, inside), "p", {})


def test_the_cloud_keeps_to_the_list_that_there_is_now(world: World, tmp_path: Path) -> None:
    folder, _ = world.pki.enroll(identity.of("analyst", "liv"), NOW)
    beside = tmp_path / "identity"
    shutil.copytree(world.pki.folder / "identities" / "orchestrator" / "o-1", beside)
    assert Vouching.load(beside).revoked.now is NOTHING  # nobody has told it of a list
    shutil.copy(world.pki.folder / "revoked" / "crl.pem", beside)
    cloud = Vouching.load(beside)
    signed = deploy(user_id="liv").signed(Signer(folder), AT)
    cloud.check(signed, AT)
    other = Pki.init(tmp_path / "other", ["localhost"], NOW)
    with pytest.raises(BadIdentity, match="not a list of the authority"):
        Vouching.load(beside, other.folder / "revoked" / "crl.pem")

    async def replaced() -> None:
        async with asyncio.TaskGroup() as group:
            following = group.create_task(cloud.follow())
            shutil.copy(world.pki.folder / "revoked" / "crl.pem", beside)
            assert await asyncio.to_thread(until, refused)
            following.cancel()

    def refused() -> bool:
        try:
            cloud.check(signed, AT)
        except BadSignature as problem:
            return "has been revoked" in str(problem)
        return False

    world.pki.revoke(identity.of("analyst", "liv"), NOW + dt.timedelta(minutes=1))
    asyncio.run(replaced())
    shutil.copy(other.folder / "revoked" / "crl.pem", beside)
    for _ in range(3):
        assert not cloud.revoked.look(), "a list of another authority frees somebody"


def test_a_renewed_certificate_is_used_from_then_on(world: World) -> None:
    who = identity.of("analyst", "zoe")
    folder, first = world.pki.enroll(who, NOW, days=1)
    zoe, later = Signer(folder), first.until.timestamp() + 3600
    world.pki.enroll(who, NOW, days=9)
    assert world.trust.verify(zoe.sign("p", {}, later), "p", {}) == who
    (folder / "cert.pem").write_text("half a certif")
    assert world.trust.verify(zoe.sign("p", {}, later), "p", {}) == who


def test_a_purpose_is_part_of_what_is_signed(world: World) -> None:
    signature = world.analyst.sign("a", {"x": 1}, AT)
    for purpose, statement in (("b", {"x": 1}), ("a", {"x": 2}), ("a", {"x": 1, "y": 1})):
        with pytest.raises(BadSignature, match="is not what"):
            world.trust.verify(signature, purpose, statement)


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.booleans()))
def test_the_order_of_fields_does_not_matter_and_all_else_does(statement: dict[str, Any]) -> None:
    backwards = dict(reversed(statement.items()))
    assert canonical("p", statement) == canonical("p", backwards)
    assert canonical("p", {**statement, "more": 1}) != canonical("p", {**statement, "more": 2})


def test_what_cannot_sign_is_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(BadIdentity, match="no identity that can sign"):
        Signer(tmp_path)
    with pytest.raises(BadIdentity, match="no orchestrator's"):
        Vouching.load(world.pki.folder / "identities" / "analyst" / "ada")
    with pytest.raises(BadIdentity, match="holds no authority"):
        Trust.load(tmp_path / "ca.pem")


def test_a_result_is_taken_with_the_receipt_of_who_made_it_and_of_this_very_one(
    world: World,
) -> None:
    worker = Signer(world.pki.enroll(identity.of("worker", "w-1"), NOW)[0])
    brief = Brief("t-1", 1, "a-1", 2, "offboard", "", "queued", answered=False)
    inputs = of_inputs([1.5, 2.5])

    def report(signer: Signer = worker, **changes: Any) -> TaskReport:
        words: dict[str, Any] = {
            "assignment": "a-1", "iteration": 2, "task": "t-1", "attempt": 1,
            "code": CodeRun(method="mean", user_id="ada", digest="d" * 64),
            "params": fingerprint({}), "previous": fingerprint(None), "inputs": inputs,
            "outcome": Kind.VALUE, "value": fingerprint(2.0), "seconds": 0.1, "cpu_s": 0.1,
            "container_starts": 0,
        }  # fmt: skip
        return TaskReport(
            id="r", task="t-1", attempt=1, state=TaskState.SUCCEEDED, digest="d" * 64,
            outcome=Outcome(kind=Kind.VALUE, value=2.0),
            receipt=signed(signer, AT, **{**words, **changes}),
        )  # fmt: skip

    def check(said: TaskReport, value: float = 2.0) -> None:
        world.vouching.check_result("workers", "w-1", brief, said, value, inputs)

    check(report())
    with pytest.raises(BadSignature, match="combined other values"):
        check(report(inputs=of_inputs([1.5, 9.0])))
    with pytest.raises(BadSignature, match="of another result"):
        check(report(), 3.0)
    for change in ({"task": "t-2"}, {"attempt": 2}, {"assignment": "a-2"}, {"iteration": 3}):
        with pytest.raises(BadSignature, match="of another result"):
            check(report(**change))
    with pytest.raises(BadSignature, match="should be by worker:w-1"):
        check(report(world.analyst))
    with pytest.raises(NotSigned):
        check(report().model_copy(update={"receipt": None}))


def test_what_arrives_is_vouched_for_now_and_what_is_here_stays_so(world: World) -> None:
    late = AT + 40 * 86_400
    vouched = Vouched(world.trust, "vehicle:car-1")
    vouched.check(module(world))
    with pytest.raises(BadSignature, match="not valid any more"):
        vouched.check_arrival(module(world), None, late)


def test_a_named_environment_has_one_image_and_the_cloud_signs_after_the_analyst(
    world: World,
) -> None:
    signed = deploy().signed(world.analyst, AT)
    assert signed.signature is not None
    bare = module(world, endorsement=None)
    image = "elsewhere.example:443/x@sha256:" + "f" * 64
    for changes, at, said in (
        ({"image": image}, AT, "not for this image"),
        ({"environment": "a" * 64, "digest": digest_of(SOURCE, "a" * 64)}, AT, "not for this"),
        ({}, AT - CLOCKS_DIFFER_S - 1, "before its analyst did"),
    ):
        both = world.vouching.endorsed(
            bare.model_copy(update=changes), "vehicle:car-1", deployment="d-1", asked="minimal",
            analyst=signed.signature, now=at,
        )  # fmt: skip
        with pytest.raises(BadSignature, match=said):
            Vouched(world.trust, "vehicle:car-1").check(both)


def test_a_later_revocation_changes_nothing_of_those_before(world: World) -> None:
    names = [identity.of("analyst", name) for name in ("first", "second")]
    first, _ = (Signer(world.pki.enroll(who, NOW, days=9)[0]) for who in names)
    world.pki.revoke(names[0], NOW + dt.timedelta(minutes=1))
    world.pki.revoke(names[1], NOW + dt.timedelta(days=2))
    forged = first.sign("p", {}, AT + 3600)
    told = Trust.load(world.pki.folder / "ca.pem", world.pki.folder / "broker" / "crl.pem")
    with pytest.raises(BadSignature, match="revoked"):
        told.verify(forged, "p", {})
