"""Proofs: they hold as they were made, and no byte of one can be changed, not even by the cloud."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from oodida.cli.app import app
from oodida.pki import Pki
from protocol import identity, proof, values
from protocol.assignment import Offboard, Select
from protocol.errors import BadProof
from protocol.messages import Entry, Head
from protocol.module import digest_of
from protocol.outcome import Kind
from protocol.participation import Participation
from protocol.proof import Proof, sealed
from protocol.result_receipt import WindowRead, of_inputs
from protocol.signing import fingerprint
from tests.proofs import (
    LIMITS,
    SOURCE,
    SPEC,
    VALUES,
    World,
    asked,
    entries,
    made,
    module,
    older,
    receipt,
)

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
AT = NOW.timestamp()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("proof") / "pki", NOW)


def test_it_holds_as_it_was_made_and_after_it_was_written_and_read(world: World) -> None:
    whole = made(world)
    proof.verify(whole, world.trust)
    again = proof.read(whole.written())
    assert again == whole
    again.verify(world.pki.folder / "ca.pem", world.pki.folder / "broker" / "crl.pem")


def test_it_holds_for_who_may_use_fewer_vehicles_than_she_asked_for(world: World) -> None:
    fewer = SPEC.model_copy(update={"vehicles": Select.where(fleet="south")})
    proof.verify(made(world, assignment=fewer), world.trust)


@given(data=st.data())
def test_a_changed_byte_anywhere_is_found(world: World, data: st.DataObject) -> None:
    written = bytearray(_written(world))
    at = data.draw(st.integers(0, len(written) - 1))
    change = data.draw(st.sampled_from(["flip", "remove", "insert", "cut"]))
    if change == "flip":
        written[at] ^= 1 << data.draw(st.integers(0, 7))
    elif change == "remove":
        del written[at]
    elif change == "insert":
        written.insert(at, data.draw(st.integers(0, 255)))
    else:
        del written[at:]
    with pytest.raises(BadProof):
        proof.verify(proof.read(bytes(written)), world.trust)


_cache: dict[int, bytes] = {}


def _written(world: World) -> bytes:
    return _cache.setdefault(id(world), made(world).written())


def _swap(world: World, vehicle: str, **changes: Any) -> list[Entry]:
    return [
        entry.model_copy(update=changes) if entry.vehicle == vehicle else entry
        for entry in entries(world)
    ]


def _as(world: World, vehicle: str, value: Any, **changes: Any) -> list[Entry]:
    """A vehicle that signs something else."""
    words = {"value": value, "receipt": receipt(world, f"vehicle:{vehicle}", value, **changes)}
    return _swap(world, vehicle, **words)


MAX = SPEC.model_copy(update={"offboard": Offboard("max")})
OTHER = SOURCE.replace("sum", "max")
OTHERS = digest_of(OTHER, "minimal")
WINDOW = WindowRead(signals=("SPEED",), first=10, count=10, began=AT, ended=AT)
#: What the cloud itself could try, who has the key that seals.
LIES: dict[str, tuple[str, Callable[[World], Proof]]] = {
    "another value of a vehicle": (
        "not the one that it has signed",
        lambda w: made(w, _swap(w, "car-1", value=9.0)),
    ),
    "another result": ("not the one that the worker", lambda w: made(w, value=9.0)),
    "a vehicle left out": (
        "not those of the vehicles",
        lambda w: made(w, entries(w)[1:]),
    ),
    "a vehicle left out everywhere": (
        "combined other values",
        lambda w: made(w, entries(w)[1:], participation={
            v: Participation(status="included") for v in list(VALUES)[1:]}),
    ),
    "one vehicle's receipt for another": (
        "signed by vehicle:car-2",
        lambda w: made(w, _swap(w, "car-1", receipt=entries(w)[1].receipt)),
    ),
    "the worker's receipt of other inputs": (
        "combined other values",
        lambda w: made(w, receipt=receipt(w, "worker:w-1", 4.5, inputs=of_inputs([1.0]))),
    ),
    "a vehicle's as the worker's": (
        "signed by vehicle:car-1",
        lambda w: made(w, receipt=receipt(w, "vehicle:car-1", 4.5)),
    ),
    "another question": ("not what ada has signed", lambda w: made(w, assignment=MAX)),
    "another question of hers": (
        "something else than was asked", lambda w: made(w, **asked(w, MAX)),
    ),
    "another's question": (
        "what vehicle:car-1 has signed", lambda w: made(w, **asked(w, by="vehicle:car-1")),
    ),
    "another user": ("not what analyst:ada has signed", lambda w: made(w, user_id="bob")),
    "another assignment": ("not what analyst:ada has signed", lambda w: made(w, id="a-2")),
    "an iteration too many": ("asked for 3 iterations", lambda w: made(w, iteration=4)),
    "other vehicles": (
        "asked for other vehicles",
        lambda w: made(w, assignment=SPEC.model_copy(update={"vehicles": Select.ids("car-1")})),
    ),
    "other vehicles from the start": (
        "not what ada has signed", lambda w: made(w, vehicles=Select.where(model="etios")),
    ),
    "a vehicle that she has not named": (
        "not asked for the vehicle car-9",
        lambda w: made(w, **asked(w, SPEC.model_copy(update={"vehicles": Select.ids(*VALUES)}))),
    ),
    "another iteration": ("is of iteration 2", lambda w: made(w, iteration=3)),
    "another value before": (
        "another value of the iteration before", lambda w: made(w, previous=7),
    ),
    "another window": (
        "another window",
        lambda w: made(w, _as(w, "car-1", 1.5, window=WINDOW.model_copy(update={"count": 9}))),
    ),
    "a mix of code": (
        "made by different code",
        lambda w: made(w, _as(w, "car-1", 1.5, code=entries(w)[0].receipt.code.model_copy(
            update={"digest": OTHERS, "generation": 1})), modules=(module(w), older(w))),
    ),
    "another code than the one asked for": (
        "not made by the code",
        lambda w: made(w, **asked(w, SPEC.model_copy(
            update={"consistency": "pinned", "digest": OTHERS}))),
    ),
    "too few": (
        "4 vehicles were asked for",
        lambda w: made(w, **asked(w, SPEC.model_copy(update={"quorum": 4}))),
    ),
    "an earlier window": (
        "another window",
        lambda w: made(w, _as(w, "car-1", 1.5, window=WINDOW.model_copy(update={"first": 0}))),
    ),
    "higher limits": (
        "other limits",
        lambda w: made(w, _as(w, "car-1", 1.5, code=entries(w)[0].receipt.code.model_copy(
            update={"limits": LIMITS.model_copy(update={"memory_mb": 65})}))),
    ),
    "other parameters": (
        "other parameters", lambda w: made(w, _as(w, "car-1", 1.5, params=fingerprint({"a": 1}))),
    ),
    "another outcome": (
        "of no value", lambda w: made(w, _as(w, "car-1", 1.5, outcome=Kind.MODULE_ERROR)),
    ),
    "no code": ("signed by nobody", lambda w: made(w, modules=())),
    "other code": ("does not fit", lambda w: made(w, modules=(module(w, OTHER),))),
    "code for a vehicle": ("does not fit", lambda w: made(w, modules=(module(w, to="car-1"),))),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_not_even_who_seals_it_can_change_what_others_have_signed(world: World, lie: str) -> None:
    said, make = LIES[lie]
    with pytest.raises(BadProof, match=said):
        proof.verify(make(world), world.trust)


def test_only_an_orchestrator_seals_and_only_our_authority_counts(
    world: World, tmp_path: Path
) -> None:
    whole = made(world)
    words = {name: getattr(whole.head, name) for name in Head.model_fields if name != "seal"}
    by_worker = sealed(world.signers["worker:w-1"], AT, **words)
    with pytest.raises(BadProof, match="no orchestrator"):
        proof.verify(whole.model_copy(update={"head": by_worker}), world.trust)
    other = Pki.init(tmp_path / "pki", ["localhost"], NOW)
    with pytest.raises(BadProof, match="another authority"):
        whole.verify(other.folder / "ca.pem")


def test_a_certificate_that_was_taken_back_before_is_found(world: World) -> None:
    whole = made(world)
    pki = world.pki
    pki.enroll(identity.parse("vehicle:car-1"), NOW)
    pki.revoke(identity.parse("vehicle:car-1"), NOW - dt.timedelta(seconds=1))
    whole.verify(pki.folder / "ca.pem")
    with pytest.raises(BadProof, match="revoked"):
        whole.verify(pki.folder / "ca.pem", pki.folder / "broker" / "crl.pem")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b"null\n", b'{"head": 1}', b"[" * 9999]
)
def test_what_is_no_proof_is_told(data: bytes) -> None:
    with pytest.raises(BadProof, match="no proof"):
        proof.read(data)


def test_the_command_checks_a_file_without_the_cloud(world: World, tmp_path: Path) -> None:
    file, ca = tmp_path / "x.proof.json", str(world.pki.folder / "ca.pem")
    file.write_bytes(made(world).written())

    def verify(*words: str) -> tuple[int, str]:
        said = CliRunner().invoke(app, ["verify", str(file), *words], env={"OODIDA_IDENTITY": ""})
        return said.exit_code, said.output

    status, said = verify("--authority", ca)
    assert (status, "every signature holds" in said) == (0, True), said
    status, said = verify("--authority", ca, "--json")
    assert values.from_text(said.encode())["holds"] is True
    status, said = verify()
    assert (status, "--authority" in said) == (1, True), said
    other = Pki.init(tmp_path / "other", ["localhost"], NOW).folder / "ca.pem"
    status, said = verify("--authority", str(other), "--json")
    assert (status, f"another authority (the authority is that of {other};" in said) == (1, True)
    file.write_bytes(file.read_bytes().replace(b"4.5", b"4.6"))
    status, said = verify("--authority", ca)
    assert (status, "bad_proof" in said) == (1, True), said
