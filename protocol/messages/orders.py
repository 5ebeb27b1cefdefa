"""Cloud to edge runtime: what is to be done, and the modules to do it with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
)

from protocol.account import Budget
from protocol.assignment import (
    Isolation,
    SignalName,
    WindowGaps,
)
from protocol.endorsement import Endorsement
from protocol.environment import EnvironmentSpec
from protocol.limits import LimitsAsked
from protocol.mandate import Mandate
from protocol.messages.parts import Count, Marked, Part, Seconds
from protocol.module import (
    Digest,
    EnvironmentName,
    ImageReference,
    Module,
    Name,
    Side,
)
from protocol.outcome import Frozen, Tree


class _Task(Marked):
    """A task's identity, and the code it asks for.

    ``generation`` is the lowest that may be run: a runtime that has an older one waits for it.
    ``previous`` is the value of the iteration before. ``timeout_s`` counts from arrival.
    ``last``: no further task of this assignment follows. ``mandate`` says that its analyst asked
    for it, where there are certificates.
    """

    id: Name
    attempt: Count = 1
    assignment: Name
    iteration: int = Field(ge=1)
    user_id: Name
    method: str = Field(max_length=64)
    module: Name | None = None
    generation: Count = 0
    isolation: Isolation = "call"
    last: bool = False
    params: dict[str, Any] = Field(default_factory=dict)
    previous: Tree = None
    timeout_s: Seconds
    mandate: Mandate | None = None


class OnboardOrder(_Task):
    """Run a method over the window of `samples` that begins at sample number `first`."""

    kind: Literal["onboard"] = "onboard"
    signals: SignalName | tuple[SignalName, ...]
    samples: int = Field(ge=1)
    first: Count
    rate_hz: float | None = None
    gaps: WindowGaps = "allow"
    budget: Budget | None = None


class OffboardOrder(_Task):
    """Run a method over the vehicles' values, in the order of the vehicles' names."""

    kind: Literal["offboard"] = "offboard"
    results: list[Tree]


class VerifyOrder(Marked):
    """Try a module in the sandbox before it ships. ``example``: one argument to call it with."""

    kind: Literal["verify"] = "verify"
    id: Name
    module: Module
    example: Tree = None
    timeout_s: Seconds


class BuildOrder(Marked):
    """Make an environment: resolve, lock, build, push. ``id`` is the key of the request."""

    kind: Literal["build"] = "build"
    id: Name
    spec: EnvironmentSpec
    timeout_s: Seconds


class WheelOrder(Marked):
    """A part of a wheel that an analyst sent along, for the worker that will build with it."""

    kind: Literal["wheel"] = "wheel"
    sha256: Digest
    offset: Count
    data: Part


class CancelOrder(Marked):
    """Stop every task of an assignment, or of them only ``tasks``: it may go on with others."""

    kind: Literal["cancel"] = "cancel"
    assignment: Name
    tasks: tuple[Name, ...] = Field(default=(), max_length=1000)


Order = Annotated[
    OnboardOrder | OffboardOrder | VerifyOrder | BuildOrder | WheelOrder | CancelOrder,
    Field(discriminator="kind"),
]


class ModuleMessage(Frozen):
    """A deployment as an edge runtime gets it: an assignment of its own, as the paper has it."""

    mode: Literal["deploy_onboard", "deploy_offboard"]
    user_id: Name
    custom_code: str
    name: Name
    environment: EnvironmentName
    generation: int = Field(ge=1)
    digest: Digest
    limits: LimitsAsked = Field(default_factory=LimitsAsked)
    returns: dict[str, Any] | None = None
    image: ImageReference | None = None
    endorsement: Endorsement | None = None

    @classmethod
    def of(cls, module: Module) -> ModuleMessage:
        """The message that carries `module`."""
        return cls(
            mode="deploy_onboard" if module.side is Side.ONBOARD else "deploy_offboard",
            user_id=module.user_id,
            custom_code=module.source,
            name=module.name,
            environment=module.environment,
            generation=module.generation,
            digest=module.digest,
            limits=module.limits,
            returns=module.returns,
            image=module.image,
            endorsement=module.endorsement,
        )

    def module(self) -> Module:
        """The module carried. Raises pydantic's ValidationError if the digest does not fit."""
        return Module(
            user_id=self.user_id,
            name=self.name,
            side=Side.ONBOARD if self.mode == "deploy_onboard" else Side.OFFBOARD,
            generation=self.generation,
            environment=self.environment,
            source=self.custom_code,
            digest=self.digest,
            limits=self.limits,
            returns=self.returns,
            image=self.image,
            endorsement=self.endorsement,
        )
