"""The cloud's part in signed code: whose module is taken, and its word for where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from protocol import endorsement
from protocol.errors import BadIdentity, BadSignature
from protocol.messages import Deploy
from protocol.module import Module
from protocol.signing import Signature, Signer, Trust

#: How far an analyst's clock may be from ours, in seconds; what was signed before is a replay.
CLOCKS_DIFFER_S: Final = 600.0


@dataclass(frozen=True)
class Vouching:
    """What an orchestrator signs with, and whose signatures it takes."""

    signer: Signer
    trust: Trust

    @classmethod
    def load(cls, folder: Path) -> Self:
        """From its identity's folder. Raises BadIdentity if it is not an orchestrator's."""
        signer = Signer(folder)
        if signer.who.role != "orchestrator":
            raise BadIdentity(f"{folder} is the identity of {signer.who}, and no orchestrator's")
        return cls(signer, Trust.load(folder / "ca.pem"))

    def check(self, deploy: Deploy, now: float) -> None:
        """Raises BadSignature if its analyst has not signed it, or not just now."""
        signature = deploy.check_signature(self.trust)
        off = signature.at - now
        if abs(off) > CLOCKS_DIFFER_S:
            raise BadSignature(
                f"the module was signed {abs(off):.0f} s {'before' if off < 0 else 'after'} it "
                "came: set the clock and deploy again"
            )

    def endorsed(
        self, module: Module, to: str, *, deployment: str, asked: str, analyst: Signature,
        now: float,
    ) -> Module:  # fmt: skip
        """The module as it goes to somebody, with both signatures."""
        return endorsement.counter_sign(
            self.signer, module, to, deployment=deployment, asked=asked, analyst=analyst, at=now
        )
