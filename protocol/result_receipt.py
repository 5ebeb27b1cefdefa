"""What made a result: said by whom it came from, signed, so that nobody can say otherwise later.

Not to be taken for the cloud's `Receipt` of a report: this is the vehicle's, and it is for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import Field

from protocol.account import Gaps
from protocol.errors import BadSignature
from protocol.identity import Identity
from protocol.limits import Limits
from protocol.module import Digest, Name
from protocol.outcome import Frozen, Kind
from protocol.signing import Signature, Signer, Trust, fingerprint

_PURPOSE: Final = "result"
_Time = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
_Number = Annotated[int, Field(ge=0, le=2**53)]
_Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class WindowRead(Frozen):
    """The samples that were computed over: ``count`` of each signal, from number ``first`` on.

    ``began`` and ``ended`` are when they were collected, in seconds since 1970 by the vehicle's
    clock; ``gaps`` where that was interrupted.
    """

    signals: tuple[Annotated[str, Field(max_length=128)], ...] = Field(max_length=256)
    first: _Number
    count: _Number
    began: _Time
    ended: _Time
    gaps: Gaps | None = None


class CodeRun(Frozen):
    """The code: a built-in method, or a module of a user, in an image, within limits.

    ``image`` is how the engine names the image by its content, "" for a built-in method.
    """

    method: str = Field(max_length=64)
    user_id: Name
    module: Name | None = None
    digest: Digest
    generation: _Number = 0
    environment: str = Field(default="", max_length=64)
    image: str = Field(default="", max_length=400)
    limits: Limits | None = None


class ResultReceipt(Frozen):
    """What a vehicle or worker vouches for of one result.

    ``params``, ``previous`` and ``value`` are fingerprints (`protocol.signing.fingerprint`).
    ``window`` is what a vehicle computed over; ``inputs`` what a worker combined: the hash over the
    fingerprints of the values, in their order (`of_inputs`). What was used is in seconds of wall
    time and of processor time, and in containers.
    """

    assignment: Name
    iteration: Annotated[int, Field(ge=1)]
    task: Name
    attempt: _Number
    code: CodeRun
    params: Digest
    previous: Digest
    window: WindowRead | None = None
    inputs: Digest | None = None
    outcome: Kind
    value: Digest
    seconds: _Amount
    cpu_s: _Amount
    container_starts: _Number
    signature: Signature

    def signer(self, trust: Trust) -> Identity:
        """Whose receipt it is. Raises BadSignature if a word of it was changed."""
        return trust.verify(self.signature, _PURPOSE, _statement(self))

    def check(self, trust: Trust, who: Identity) -> None:
        """Raises BadSignature if it is not of this vehicle or worker, or a word was changed."""
        signer = self.signer(trust)
        if signer != who:
            raise BadSignature(f"it is signed by {signer}, and should be by {who}")


def _statement(receipt: ResultReceipt) -> dict[str, Any]:
    return receipt.model_dump(mode="json", exclude={"signature"})


def signed(signer: Signer, at: float, **words: Any) -> ResultReceipt:
    """Vouch for a result; `words` are the receipt's fields without the signature."""
    unsigned = Signature(certificate="-", at=at, signature="-" * 88)
    draft = ResultReceipt(**words, signature=unsigned)
    signature = signer.sign(_PURPOSE, _statement(draft), at)
    return draft.model_copy(update={"signature": signature})


def of_inputs(values: Iterable[Any]) -> str:
    """The hash over the values' trees that are combined, each by its fingerprint."""
    return of_fingerprints(map(fingerprint, values))


def of_fingerprints(fingerprints: Iterable[str]) -> str:
    """The same over what was hashed before."""
    whole = hashlib.sha256()
    for one in fingerprints:
        whole.update(bytes.fromhex(one))
    return whole.hexdigest()
