"""Analyst to cloud: what is asked for."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
)

from protocol import endorsement, mandate
from protocol.assignment import (
    Assignment,
    Select,
)
from protocol.environment import MAX_WHEEL_BYTES, EnvironmentSpec
from protocol.errors import NotSigned
from protocol.limits import LimitsAsked
from protocol.mandate import Mandate
from protocol.messages.parts import Count, Marked, Part, Reason
from protocol.module import (
    Digest,
    Environment,
    EnvironmentName,
    Name,
    Side,
)
from protocol.outcome import Tree
from protocol.signing import Signature, Signer, Trust


class _Request(Marked):
    _mark: ClassVar[str] = "mode"

    user_id: Name


class Deploy(_Request):
    """Ship a module. On the wire an assignment of its own, as in the paper."""

    mode: Literal["deploy_onboard", "deploy_offboard"]
    id: Name
    name: Name
    custom_code: str
    environment: EnvironmentName | EnvironmentSpec = Environment.MINIMAL.value
    limits: LimitsAsked = Field(default_factory=LimitsAsked)
    returns: dict[str, Any] | None = None
    vehicles: Select | None = None
    example: Tree = None
    signature: Signature | None = None

    @property
    def side(self) -> Side:
        """Where the module runs."""
        return Side.ONBOARD if self.mode == "deploy_onboard" else Side.OFFBOARD

    @property
    def asked(self) -> str:
        """The environment in a word: its name or digest, or the hash of what was asked for."""
        asked = self.environment
        return asked.key if isinstance(asked, EnvironmentSpec) else asked

    def signed(self, signer: Signer, at: float) -> Deploy:
        """The same, vouched for by its analyst at a time in seconds since 1970."""
        signature = endorsement.sign(
            signer, name=self.name, side=self.side, source=self.custom_code, limits=self.limits,
            returns=self.returns, deployment=self.id, asked=self.asked, at=at,
        )  # fmt: skip
        return self.model_copy(update={"signature": signature})

    def check_signature(self, trust: Trust) -> Signature:
        """Its analyst's signature. Raises BadSignature if it is not that, NotSigned if none."""
        endorsement.check_request(
            trust, self.signature, user_id=self.user_id, name=self.name, side=self.side,
            source=self.custom_code, limits=self.limits, returns=self.returns,
            deployment=self.id, asked=self.asked,
        )  # fmt: skip
        if self.signature is None:
            raise NotSigned
        return self.signature


class Submit(_Request):
    """Start an assignment."""

    mode: Literal["submit"] = "submit"
    id: Name
    assignment: Assignment
    mandate: Mandate | None = None

    def signed(self, signer: Signer, at: float) -> Submit:
        """The same, vouched for by its analyst at a time in seconds since 1970."""
        word = mandate.sign(signer, self.id, self.assignment, at)
        return self.model_copy(update={"mandate": word})

    def check_signature(self, trust: Trust) -> Mandate:
        """Its analyst's word. Raises BadSignature if it is not that, NotSigned if there is none."""
        return mandate.check(trust, self.mandate, self.id, self.user_id, self.assignment)


class Cancel(_Request):
    """End an assignment."""

    mode: Literal["cancel"] = "cancel"
    assignment: Name


class Resume(_Request):
    """Go on with an assignment that is halted: its iteration is begun again."""

    mode: Literal["resume"] = "resume"
    assignment: Name


class ListVehicles(_Request):
    """Who is there."""

    mode: Literal["vehicles"] = "vehicles"


class ListModules(_Request):
    """Which modules this user has deployed."""

    mode: Literal["modules"] = "modules"


class ListAssignments(_Request):
    """Which assignments this user has; or everybody, for those who may see what others have."""

    mode: Literal["assignments"] = "assignments"
    everybody: bool = False


class History(_Request):
    """What has happened to an assignment after iteration number `after`, a page at a time."""

    mode: Literal["history"] = "history"
    assignment: Name
    after: Count = 0


class ListParticipation(_Request):
    """Why each vehicle was in or out, in the iterations after number `after`, a page at a time."""

    mode: Literal["participation"] = "participation"
    assignment: Name
    after: Count = 0


class ListChanges(_Request):
    """Each change of state of an assignment and its tasks after change number `after`, in order."""

    mode: Literal["changes"] = "changes"
    assignment: Name
    after: Count = 0


class Prove(_Request):
    """What made the value of an iteration, a page at a time.

    ``after`` is the vehicle that the page before ended with; the first page has the head.
    """

    mode: Literal["proof"] = "proof"
    assignment: Name
    iteration: int = Field(ge=1)
    after: str = Field(default="", max_length=64)


class ListEnvironments(_Request):
    """Which environments there are; with a digest's beginning, those that have it."""

    mode: Literal["environments"] = "environments"
    digest: str = Field(default="", pattern=r"^[0-9a-f]{0,64}$")


class Upload(_Request):
    """A part of a wheel. Replied with the wheels, by hash, of which parts are missing still."""

    mode: Literal["upload"] = "upload"
    sha256: Digest
    size: int = Field(ge=1, le=MAX_WHEEL_BYTES)
    offset: Count
    data: Part


class ListAudit(_Request):
    """The audit log after entry number `after`, a page at a time.

    Everybody's; with ``actor`` (``role:name``), ``action`` or ``since`` (a time as entries have it)
    only what fits.
    """

    mode: Literal["audit"] = "audit"
    after: Count = 0
    actor: str = Field(default="", max_length=100, pattern=r"^[^\x00]*$")
    action: str = Field(default="", max_length=64, pattern=r"^[^\x00]*$")
    since: str = Field(default="", max_length=32, pattern=r"^[0-9TZ:.-]*$")


class ListReviews(_Request):
    """Which deployments wait for a second person; one of them with its source, by its id."""

    mode: Literal["reviews"] = "reviews"
    deployment: Name | None = None


class ListDecisions(_Request):
    """What became of the deployments of this user that had to wait; or of everybody's."""

    mode: Literal["decisions"] = "decisions"
    everybody: bool = False


class Approve(_Request):
    """Let a deployment be shipped: this very code, and no other."""

    mode: Literal["approve"] = "approve"
    deployment: Name
    digest: Digest


class Reject(_Request):
    """Do not let a deployment be shipped."""

    mode: Literal["reject"] = "reject"
    deployment: Name
    reason: Reason = ""


class DeploymentStatus(_Request):
    """How far a deployment is."""

    mode: Literal["deployment"] = "deployment"
    deployment: Name


#: What changes nothing. Whatever else is asked for is an act, and is written down.
Question = (
    ListVehicles | ListModules | ListAssignments | ListEnvironments | History | ListParticipation
    | ListChanges | ListAudit | ListReviews | ListDecisions | Prove | DeploymentStatus
)  # fmt: skip

Request = Annotated[
    Deploy | Submit | Cancel | Resume | Upload | Approve | Reject | Question,
    Field(discriminator="mode"),
]
