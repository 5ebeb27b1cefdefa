"""Where the value of an iteration comes from, as a file that anybody can check without the cloud.

    analyst's key ─signs▶ assignment ◀parameters, window, module's name─ each receipt
    analyst's key ─signs▶ module ◀digest─ receipt of each vehicle ─value's hash▶ values
                                                                                  │ in their order
                          module ◀digest─ receipt of the worker ◀hash of inputs───┘
                                             └─value's hash▶ the iteration's value

All of it that no receipt covers is covered by the cloud's seal. The file is written in one way
only, so that each byte of it counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from protocol import endorsement, mandate, values
from protocol.assignment import explain, first_sample
from protocol.errors import BadProof, BadSignature, OodidaError
from protocol.identity import Identity
from protocol.messages import Entry, Head
from protocol.module import Module
from protocol.outcome import Frozen, Kind
from protocol.result_receipt import ResultReceipt, of_fingerprints
from protocol.signing import Signature, Signer, Trust, fingerprint

_SEAL: Final = "iteration"
#: To whom a module goes that is in a proof: to whoever reads it.
READER: Final = "reader"
#: Bytes of a proof that is read.
MAX_PROOF: Final = 512 * 1024 * 1024


class Proof(Frozen):
    """What made the value of an iteration."""

    head: Head
    entries: tuple[Entry, ...]

    def written(self) -> bytes:
        """The file."""
        return values.to_text(self.model_dump(mode="python")) + b"\n"

    def verify(self, authority: str | Path, revoked: str | Path | None = None) -> None:
        """Check it from the analyst's key to the value, with the authority's certificate.

        ``revoked`` is the authority's list of what it took back since. Raises BadProof, saying what
        does not hold.
        """
        verify(self, Trust.load(Path(authority), None if revoked is None else Path(revoked)))


def fingerprint_of(entries: list[Entry]) -> str:
    """The hash over what was combined."""
    return of_fingerprints(fingerprint(entry.model_dump(mode="python")) for entry in entries)


def sealed(signer: Signer, at: float, **words: Any) -> Head:
    """Vouch for an iteration; `words` are the head's fields without the seal."""
    draft = Head(**words, seal=Signature(certificate="-", at=at, signature="-" * 88))
    return draft.model_copy(update={"seal": signer.sign(_SEAL, _statement(draft), at)})


def _statement(head: Head) -> dict[str, Any]:
    return {"head": fingerprint(head.model_dump(mode="python", exclude={"seal"}))}


def read(data: bytes) -> Proof:
    """Read a file of a proof. Raises BadProof if it is none, or is written in another way."""
    if len(data) > MAX_PROOF:
        raise BadProof(f"a file of {len(data)} bytes is no proof")
    try:
        proof = Proof.model_validate(values.from_text(data.removesuffix(b"\n")))
        same = proof.written() == data
    except ValidationError as problem:
        raise BadProof(f"this is no proof: {explain(problem)}") from None
    except (values.ValueProblem, OodidaError) as problem:
        raise BadProof(f"this is no proof: {problem}") from None
    if not same:
        raise BadProof("the file was changed: it is not written as a proof is")
    return proof


def verify(proof: Proof, trust: Trust) -> None:
    """Check a proof from the analyst's key to the value. Raises BadProof, saying what fails."""
    try:
        _Check(proof, trust).all()
    except BadSignature as problem:
        raise BadProof(problem.message) from None


class _Check:
    def __init__(self, proof: Proof, trust: Trust) -> None:
        self.head, self.entries, self.trust = proof.head, proof.entries, trust

    def all(self) -> None:
        sealer = self.trust.verify(self.head.seal, _SEAL, _statement(self.head))
        if sealer.role != "orchestrator":
            raise BadProof(f"it is sealed by {sealer}, which is no orchestrator")
        if fingerprint_of(list(self.entries)) != self.head.entries:
            raise BadProof("the values are not those that the cloud has sealed")
        self._mandate()
        self._modules()
        self._order()
        for entry in self.entries:
            self._entry(entry)
        self._rules()
        self._worker()

    def _mandate(self) -> None:
        head = self.head
        asked = head.assignment.model_copy(update={"vehicles": head.vehicles})
        mandate.check(self.trust, head.mandate, head.id, head.user_id, asked)
        if head.iteration > asked.iterations:
            raise BadProof(f"{head.user_id} has asked for {asked.iterations} iterations")
        if not asked.vehicles.covers(head.assignment.vehicles):
            raise BadProof(f"{head.user_id} has asked for other vehicles")
        names = asked.vehicles.names
        others = set() if names is None else set(head.participation) - set(names)
        if others:
            raise BadProof(f"{head.user_id} has not asked for the vehicle {min(others)}")

    def _modules(self) -> None:
        self.modules: dict[tuple[str, int], Module] = {}
        for message in self.head.modules:
            try:
                module = message.module()
            except ValidationError as problem:
                raise BadProof(f"the module {message.name}: {explain(problem)}") from None
            endorsement.check(self.trust, module, READER)
            self.modules[module.digest, module.generation] = module

    def _order(self) -> None:
        names = [entry.vehicle for entry in self.entries]
        included = [v for v, p in self.head.participation.items() if p.status == "included"]
        if names != sorted(included):
            raise BadProof("the values are not those of the vehicles that are said to be in")

    def _entry(self, entry: Entry) -> None:
        receipt, spec = entry.receipt, self.head.assignment.onboard
        self._receipt(receipt, Identity("vehicle", entry.vehicle), spec.method, spec.module)
        late = receipt.iteration == self.head.iteration - 1 and self.head.assignment.late == "next"
        if receipt.iteration != self.head.iteration and not late:
            raise BadProof(f"the receipt of {entry.vehicle} is of iteration {receipt.iteration}")
        if not late and receipt.previous != fingerprint(self.head.previous):
            raise BadProof(f"{entry.vehicle} was given another value of the iteration before")
        if receipt.params != fingerprint(spec.params):
            raise BadProof(f"{entry.vehicle} was given other parameters")
        window = receipt.window
        first = first_sample(receipt.iteration, spec.samples)
        wanted = (spec.signal_names, first, spec.samples)
        if window is None or (window.signals, window.first, window.count) != wanted:
            raise BadProof(f"{entry.vehicle} has computed over another window")
        if receipt.value != fingerprint(entry.value):
            raise BadProof(f"the value of {entry.vehicle} is not the one that it has signed")

    def _rules(self) -> None:
        asked, digests = self.head.assignment, {e.receipt.code.digest for e in self.entries}
        if len(digests) > 1 and asked.consistency != "any":
            raise BadProof("the values were made by different code, which was not asked for")
        if asked.digest is not None and digests != {asked.digest}:
            raise BadProof(
                f"the values were not made by the code {asked.digest} that was asked for"
            )
        if isinstance(asked.quorum, int) and len(self.entries) < asked.quorum:
            raise BadProof(f"{asked.quorum} vehicles were asked for, not {len(self.entries)}")

    def _worker(self) -> None:
        receipt, spec = self.head.receipt, self.head.assignment.offboard
        self._receipt(receipt, Identity("worker", self.head.worker), spec.method, spec.module)
        if receipt.iteration != self.head.iteration:
            raise BadProof(f"the worker's receipt is of iteration {receipt.iteration}")
        if receipt.inputs != of_fingerprints(e.receipt.value for e in self.entries):
            raise BadProof("the worker has combined other values")
        if receipt.previous != fingerprint(self.head.previous):
            raise BadProof("the worker was given another value of the iteration before")
        if receipt.params != fingerprint(spec.params):
            raise BadProof("the worker was given other parameters")
        if receipt.value != fingerprint(self.head.value):
            raise BadProof("the value is not the one that the worker has signed")

    def _receipt(
        self, receipt: ResultReceipt, who: Identity, method: str, module: str | None
    ) -> None:
        receipt.check(self.trust, who)
        code = receipt.code
        if receipt.assignment != self.head.id or receipt.outcome is not Kind.VALUE:
            raise BadProof(f"the receipt of {who} is of another assignment, or of no value")
        if (code.method, code.module, code.user_id) != (method, module, self.head.user_id):
            raise BadProof(f"{who} has run something else than was asked for")
        if module is None:
            return
        signed = self.modules.get((code.digest, code.generation))
        if signed is None or (signed.name, signed.user_id) != (module, code.user_id):
            raise BadProof(f"the code that {who} has run is signed by nobody")
        if code.environment != signed.environment:
            raise BadProof(f"{who} has run the code in another environment")
        limits = code.limits
        if limits is None or any(
            getattr(limits, n) > most for n, most in signed.limits.lower.items()
        ):
            raise BadProof(f"{who} has run the code within other limits than its analyst signed")
