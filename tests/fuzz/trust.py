"""What is signed, as `Target`s: nothing is believed but what somebody has signed, as it stands.

Cases of the first kind are taken as they come, and whatever differs from the one that was signed
has to be refused. Those of the second kind are signed here, as one would who has all the keys.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import io
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import TypeAdapter, ValidationError

from edge_runtime.revoked import Revoked
from oodida.cli import proving
from oodida.pki.authority import Authority
from protocol import endorsement, mandate, messages, proof, result_receipt, values
from protocol.errors import BadProof, BadRequest, BadSignature
from protocol.identity import Identity
from protocol.link import credentials, enrolment
from protocol.messages import Entry, ModuleMessage
from protocol.proof import READER, Proof, fingerprint_of
from protocol.result_receipt import ResultReceipt, of_inputs
from protocol.revocation import FILE
from protocol.signing import Signature, Signer, Trust, fingerprint
from tests.fuzz.law import LawBroken, Target
from tests.fuzz.targets import content_type, in_a_file, typed
from tests.fuzz.world import world
from tests.proofs import made, module, receipt

CAR: Final = Identity("vehicle", "car-1")
RECEIPT: Final[TypeAdapter[Any]] = TypeAdapter(ResultReceipt)
WHOLE: Final = made(world())
WRITTEN: Final = WHOLE.written()
SHIPPED: Final = module(world(), to=endorsement.vehicle("car-1"))
_SIGNED: Final = receipt(world(), str(CAR), 1.5)
_DER: Final = base64.b64decode(_SIGNED.signature.certificate)
STATEMENT: Final = {"a": 1}
BEGINS: Final = dt.datetime.fromtimestamp(world().at, dt.UTC)
BY_CAR: Final = world().signers[str(CAR)].sign("fuzz", STATEMENT, world().at)


def _trust() -> Trust:
    """As somebody has it who sees a certificate for the first time."""
    return Trust.load(world().pki.folder / "ca.pem")


def _listed(*serials: int) -> bytes:
    folder = world().pki.folder
    authority = Authority.load(*((folder / name).read_bytes() for name in ("ca.pem", "ca.key")))
    return authority.revocation_list(dict.fromkeys(serials, BEGINS), len(serials), BEGINS)


OLDER: Final = _listed(1)


def _must_be(same: bool) -> None:
    if not same:
        raise LawBroken("it holds, and is not what was signed")


# --- as it comes ----------------------------------------------------------------------------------


def _proof(path: Path) -> None:
    found = proving.read(path)
    proof.verify(found, _trust())
    _must_be(path.read_bytes() == WRITTEN)


def _certificate(data: bytes) -> None:
    """A certificate, as it is in every signature that comes in a message."""
    text = base64.b64encode(data).decode()
    signature = _valid(Signature, BY_CAR.model_dump() | {"certificate": text})
    trust = _trust()
    _must_be(trust.verify(signature, "fuzz", STATEMENT) == CAR and data == _DER)
    trust.check_valid(signature, world().at)


def _signature(data: bytes) -> None:
    signature = messages.decode(TypeAdapter(Signature), data[1:], content_type(data))
    _trust().verify(signature, "fuzz", STATEMENT)
    _must_be(signature == BY_CAR)


def _shipped(data: bytes) -> None:
    """A module as a vehicle takes it."""
    message = messages.decode(messages.MODULE, data[1:], content_type(data))
    try:
        found = message.module()
    except ValidationError as problem:
        raise BadRequest("the module does not fit its digest") from problem
    endorsement.check(_trust(), found, endorsement.vehicle("car-1"), world().at)
    _must_be(message == SHIPPED)


def _receipt(data: bytes) -> None:
    found = messages.decode(RECEIPT, data[1:], content_type(data))
    found.check(_trust(), CAR)
    _must_be(found == _SIGNED)


def _authority(path: Path) -> None:
    """An authority's certificate, as somebody is handed it: it vouches for none but its own."""
    trust = Trust.load(path)
    trust.verify(BY_CAR, "fuzz", STATEMENT)


def _revoked(path: Path) -> None:
    Trust.load(world().pki.folder / "ca.pem", path)


def _revoked_heard(data: bytes) -> None:
    """A list as it comes to a vehicle, which has one already and keeps it at a start."""
    with tempfile.TemporaryDirectory(prefix="oodida-fuzz-") as name:
        folder, trust = Path(name), _trust()
        (folder / FILE).write_bytes(OLDER)
        Revoked(trust, folder).take(data)
        then = _trust()
        Revoked(then, folder)
        _must_be(trust._revoked == then._revoked)
        _must_be(then._revoked.keys() in ({1}, {1, 2}))
        if then._revoked.keys() == {1, 2}:
            return
    raise BadSignature("it was not taken")


def _identity(path: Path) -> None:
    """The folder of an identity whose certificate was damaged, or put there by somebody."""
    own = world().pki.folder / "identities" / "vehicle" / "car-1"
    for name in ("ca.pem", "key.pem"):
        target = path.with_name(name)
        target.write_bytes((own / name).read_bytes())
        target.chmod(0o600)
    path.with_name(enrolment.KEEPER).write_text("host:1")
    credentials.load(path.parent)
    enrolment.due(path.parent, BEGINS)
    Signer(path.parent).sign("fuzz", STATEMENT, world().at)


def _pem(kind: str, read: Any, name: str, data: bytes) -> None:
    _pem_of(kind, partial(in_a_file, read, name), data)


def _pem_of(kind: str, read: Any, data: bytes) -> None:
    """Of DER, which can be changed more deeply, PEM is made."""
    if not data.startswith(b"-"):
        body = base64.encodebytes(data).decode()
        data = f"-----BEGIN {kind}-----\n{body}-----END {kind}-----\n".encode()
    read(data)


# --- signed by whoever can sign -------------------------------------------------------------------


def _valid(kind: Any, fields: Any) -> Any:
    try:
        return kind.model_validate(fields)
    except ValidationError as problem:
        raise BadRequest("it is none") from problem


def _again(given: ResultReceipt, who: str, **changes: Any) -> ResultReceipt:
    words = {name: getattr(given, name) for name in type(given).model_fields}
    del words["signature"]
    signer = world().signers.get(who, world().signers[str(CAR)])
    return result_receipt.signed(signer, world().at, **{**words, **changes})


def _shipped_again(given: ModuleMessage) -> ModuleMessage:
    found, both = given.module(), given.endorsement
    if both is None:
        return given
    signature = endorsement.sign(
        world().signers["analyst:ada"], name=found.name, side=found.side, source=found.source,
        limits=found.limits, returns=found.returns, deployment=both.deployment, asked=both.asked,
        at=world().at,
    )  # fmt: skip
    again = world().vouching.endorsed(
        found, READER, deployment=both.deployment, asked=both.asked, analyst=signature,
        now=world().at,
    )  # fmt: skip
    return ModuleMessage.of(again)


def _sealed(data: bytes) -> None:
    """A proof of which everybody vouches for their part, whatever stands in it."""
    try:
        given = Proof.model_validate(values.from_text(data))
        modules = tuple(map(_shipped_again, given.head.modules))
    except (ValidationError, values.ValueProblem) as problem:
        raise BadProof("this is no proof") from problem
    entries = [
        Entry(
            vehicle=entry.vehicle, value=entry.value,
            receipt=_again(
                entry.receipt, f"vehicle:{entry.vehicle}", value=fingerprint(entry.value)
            ),
        )
        for entry in given.entries
    ]  # fmt: skip
    head = given.head
    words = {name: getattr(head, name) for name in type(head).model_fields}
    del words["seal"]
    inputs = of_inputs(entry.value for entry in entries)
    spec = head.assignment.model_copy(update={"vehicles": head.vehicles})
    ada = world().signers["analyst:ada"]
    words |= {
        "mandate": mandate.sign(ada, head.id, spec, world().at), "modules": modules,
        "entries": fingerprint_of(entries),
        "receipt": _again(
            head.receipt, f"worker:{head.worker}", value=fingerprint(head.value), inputs=inputs
        ),
    }  # fmt: skip
    by = world().signers["orchestrator:o-1"]
    whole = Proof(head=proof.sealed(by, world().at, **words), entries=tuple(entries))
    found = proof.read(whole.written())
    proof.verify(found, _trust())
    for as_json in (True, False):
        told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with contextlib.redirect_stdout(told):
            proving.tell(found, as_json=as_json)


def _json(model: Any) -> bytes:
    return typed(messages.encode(model)[0])


def _targets() -> Iterator[Target]:
    of_file = partial(in_a_file, _proof, "a.json")
    yield Target("proof", of_file, (WRITTEN,))
    yield Target("proof, sealed again", _sealed, (WRITTEN,))
    yield Target("certificate", _certificate, (_DER,))
    yield Target("signature", _signature, (_json(BY_CAR),), head=1)
    yield Target("signed module", _shipped, (_json(SHIPPED),), head=1)
    yield Target("receipt of a result", _receipt, (_json(_SIGNED),), head=1)
    authority = world().pki.authority.encode()
    der = x509.load_pem_x509_certificate(authority).public_bytes(Encoding.DER)
    reading = partial(_pem, "CERTIFICATE", _authority, "ca.pem")
    yield Target("authority", reading, (authority, der))
    listed = (world().pki.folder / "broker" / "crl.pem").read_bytes()
    crl = x509.load_pem_x509_crl(listed).public_bytes(Encoding.DER)
    yield Target("revocation list", partial(_pem, "X509 CRL", _revoked, "crl.pem"), (listed, crl))
    newer = _listed(1, 2)
    der = x509.load_pem_x509_crl(newer).public_bytes(Encoding.DER)
    heard = partial(_pem_of, "X509 CRL", _revoked_heard)
    yield Target("revocation list that comes", heard, (newer, der, OLDER))
    yield Target("identity", partial(_pem, "CERTIFICATE", _identity, "cert.pem"), (_DER,))


TRUST: Final[Mapping[str, Target]] = {target.name: target for target in _targets()}
