"""The cloud's part in signed code: whose module is taken, and its word for where it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.store.queries import Brief
from protocol import endorsement, identity, topics
from protocol.errors import BadIdentity, BadSignature, NotSigned
from protocol.followed import Followed
from protocol.link import Incoming, authentic
from protocol.messages import Deploy, TaskReport
from protocol.module import Module
from protocol.revocation import FILE, NOTHING, RevocationList
from protocol.signing import CLOCKS_DIFFER_S, Signature, Signer, Trust, fingerprint
from protocol.values import Tree


@dataclass(frozen=True)
class Vouching:
    """What an orchestrator signs with, and whose signatures it takes.

    ``revoked`` is the authority's list of what it took back, as far as this program is told.
    """

    signer: Signer
    trust: Trust
    revoked: Followed[RevocationList]

    @classmethod
    def load(cls, folder: Path, revoked: Path | None = None) -> Self:
        """From its identity's folder, and the file that lists what was taken back.

        Raises BadIdentity if it is not an orchestrator's, or the list is not the authority's.
        """
        signer = Signer(folder)
        if signer.who.role != "orchestrator":
            raise BadIdentity(f"{folder} is the identity of {signer.who}, and no orchestrator's")
        trust, beside = Trust.load(folder / "ca.pem"), folder / FILE
        listed = revoked or (beside if beside.exists() else None)
        made = cls(signer, trust, Followed(listed, trust.read_revoked, NOTHING))
        trust.take_back(made.revoked.now)
        return made

    async def follow(self, changed: Callable[[], object] = lambda: None) -> None:
        """Keep to what is revoked from now on, until cancelled; say when it has changed."""

        def other() -> None:
            self.trust.take_back(self.revoked.now)
            changed()

        await self.revoked.watch(other)

    def check(self, deploy: Deploy, now: float) -> None:
        """Raises BadSignature if its analyst has not signed it, or not just now: a replay."""
        signature = deploy.check_signature(self.trust)
        self.trust.check_not_revoked(signature)
        off = signature.at - now
        if abs(off) > CLOCKS_DIFFER_S:
            raise BadSignature(
                f"the module was signed {abs(off):.0f} s {'before' if off < 0 else 'after'} it "
                "came: set the clock and deploy again"
            )

    def check_still(self, deploy: Deploy) -> None:
        """Raises BadSignature if its analyst's certificate was revoked while it waited."""
        if deploy.signature is not None:
            self.trust.check_not_revoked(deploy.signature)

    def check_message(self, message: Incoming, now: float) -> None:
        """Raises BadSignature unless whoever may send to a message's topic has sent it."""
        authentic.check(self.trust, message, self.signer.who, now)

    def check_birth(self, message: Incoming, now: float) -> None:
        """Raises BadSignature if who says that he is there has no certificate that is good now."""
        authentic.check_still(self.trust, message, now)

    def check_result(
        self,
        role: topics.Role,
        edge: str,
        brief: Brief,
        report: TaskReport,
        value: Tree,
        inputs: str | None = None,
    ) -> None:
        """Raises BadSignature unless who made a result vouches for it, and for this very one.

        ``value`` is the tree of its value. ``inputs`` is the hash of what a worker was to combine,
        None where that is not known: of a vehicle's.
        """
        receipt = report.receipt
        if receipt is None:
            raise NotSigned(f"the result of {edge} has no receipt")
        who = identity.of(role.removesuffix("s"), edge)
        receipt.check(self.trust, who)
        self.trust.check_not_revoked(receipt.signature)  # it may be dated back
        said = (
            receipt.assignment, receipt.iteration, receipt.task, receipt.attempt,
            receipt.code.digest, receipt.code.generation, receipt.outcome, receipt.value,
        )  # fmt: skip
        came = (
            brief.assignment, brief.iteration, report.task, report.attempt,
            report.digest, report.generation, report.outcome.kind, fingerprint(value),
        )  # fmt: skip
        if said != came:
            raise BadSignature(f"the receipt of {edge} is of another result")
        if inputs is not None and receipt.inputs != inputs:
            raise BadSignature(f"{edge} has combined other values than it was sent")

    def endorsed(
        self, module: Module, to: str, *, deployment: str, asked: str, analyst: Signature,
        now: float,
    ) -> Module:  # fmt: skip
        """The module as it goes to somebody, with both signatures."""
        return endorsement.counter_sign(
            self.signer, module, to, deployment=deployment, asked=asked, analyst=analyst, at=now
        )
