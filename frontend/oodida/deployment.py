"""A module on its way to vehicles or workers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from oodida.alike import alike
from oodida.connection import REQUEST_S, Connection
from protocol.errors import DeploymentTimeout, LinkError, ModuleRefused, from_code
from protocol.lifecycle import DeploymentState
from protocol.messages import DeploymentEvent, DeploymentStatus, Event
from protocol.module import Side

#: Events tell of changes at once; this often the state is asked for all the same.
POLL_S: Final = 3.0
#: How many different reasons an error names.
REASONS: Final = 3
#: The states before the cloud has decided, in their order, and what it has not done yet in each.
_UNDECIDED: Final = {
    DeploymentState.BUILDING: "built the environment of",
    DeploymentState.VERIFYING: "verified",
}
Progress = Callable[[str], None]


class Deployment:
    """Where a deployment stands. It follows what happens for as long as the fleet is connected."""

    def __init__(self, connection: Connection, id_: str) -> None:
        self.id = id_
        self._connection = connection
        self._now: DeploymentEvent | None = None
        self._changed = threading.Condition()
        connection.listen(id_, self._on_event, self._catch_up)

    def __repr__(self) -> str:
        where = ", ".join(f"{k} {v}" for k, v in self.states.items()) or "nobody yet"
        warning = f"; warning: {self.warning}" if self.warning else ""
        return (
            f"<Deployment {self.name} generation {self.generation} {self.state.value}: "
            f"{where}{warning}>"
        )

    @property
    def _event(self) -> DeploymentEvent:
        if self._now is None:
            raise RuntimeError("a deployment exists once the cloud has taken it")
        return self._now

    @property
    def name(self) -> str:
        """The module's name."""
        return self._event.name

    @property
    def side(self) -> Side:
        """Where the module runs."""
        return self._event.side

    @property
    def environment(self) -> str:
        """What it runs in: minimal, science, or a digest; "" while that is being built."""
        return self._event.environment

    @property
    def digest(self) -> str:
        """The module's identity: SHA-256 of environment and source; "" while it is being built."""
        return self._event.digest

    @property
    def generation(self) -> int:
        """Counts up from 1 each time the name is deployed; 0 until it is verified."""
        return self._event.generation

    @property
    def state(self) -> DeploymentState:
        """building, verifying, awaiting_approval, shipped or refused."""
        return self._event.state

    @property
    def awaiting_approval(self) -> bool:
        """True while it waits until a second person approves: `fleet.approve`, `oodida approve`."""
        return self.state is DeploymentState.AWAITING_APPROVAL

    @property
    def score(self) -> int:
        """How much it asks for, 1 to 8; `privileges` says what that is made of."""
        return self._event.score

    @property
    def privileges(self) -> tuple[str, ...]:
        """What it asks for, a word on each step of its score above 1."""
        return self._event.privileges

    @property
    def states(self) -> dict[str, str]:
        """By vehicle or worker: pending, ready, refused, offline or unknown."""
        return {edge: s.state for edge, s in self._event.states.items()}

    @property
    def reasons(self) -> dict[str, str]:
        """Why a vehicle or worker refused, how far it is, or which limits it lowers."""
        return {edge: s.reason for edge, s in self._event.states.items() if s.reason}

    @property
    def warning(self) -> str:
        """What the trial noticed, if anything."""
        return self._event.warning

    def take(self, event: DeploymentEvent) -> None:
        """Take a state over, unless it is older than the one known."""
        with self._changed:
            old = self._now
            if old is None or _progress(event) >= _progress(old):
                self._now = event
                self._changed.notify_all()
        if event.error is not None or (self._settled() and not self._awaited()):
            self.forget()

    def wait(self, timeout_s: float = 30.0, progress: Progress | None = None) -> Deployment:
        """Wait until everyone who can be reached is ready or has refused, or the time is over.

        ``progress`` is told, a line at a time, how far it is. Raises ModuleRefused if the cloud
        refused it or everyone who was asked did, EnvironmentRefused if its libraries cannot be had,
        and DeploymentTimeout if the cloud has not decided in time.
        """
        until = time.monotonic() + timeout_s
        told: list[str] = []
        while True:
            told = self._tell(progress, told)
            left = until - time.monotonic()
            if self._settled() or left <= 0:
                break
            with self._changed:
                changed = self._settled() or self._changed.wait(min(left, POLL_S))
            if not changed:
                with contextlib.suppress(LinkError):  # what cannot be asked now is asked later
                    self._connection.do(self._catch_up(min(left, POLL_S)))
        if self._event.error is not None:
            error = self._event.error
            raise from_code(error.code, error.message, error.details)
        if self.state in _UNDECIDED:
            raise DeploymentTimeout(
                f"the cloud has not {_UNDECIDED[self.state]} {self.name} within {timeout_s:g} s; "
                "it may still go through"
            )
        asked = [s for s in self.states.values() if s in ("ready", "refused", "pending")]
        if asked and all(s == "refused" for s in asked):
            refused = {e: s.reason for e, s in self._event.states.items() if s.state == "refused"}
            why = list(alike(refused))
            by = "; by ".join(f"{who}: {reason}" for who, reason in why[:REASONS])
            more = "; ..." if why[REASONS:] else ""
            raise ModuleRefused(f"{self.name} was refused by {by}{more}", reason=why[0][1])
        return self

    def _settled(self) -> bool:
        if self.state in _UNDECIDED:
            return False
        if self.awaiting_approval:
            return True  # it takes a person; whoever waits for that asks again
        return "pending" not in self.states.values()

    def _tell(self, progress: Progress | None, before: list[str]) -> list[str]:
        """Tell what is new since `before`; what has been told now."""
        now = list(self._doing())
        for line in now:
            if progress is not None and line not in before:
                progress(line)
        return now

    def _doing(self) -> Iterator[str]:
        event = self._event
        if event.state in _UNDECIDED:
            yield f"{event.state.value} {event.progress}".strip()
        for edge, said in event.states.items():
            if said.state == "pending" and said.reason:
                yield f"{edge}: {said.reason}"

    def _awaited(self) -> bool:
        """True if somebody may still come and get it, or has to approve it."""
        if self.awaiting_approval:
            return True
        return not {"offline", "unknown"}.isdisjoint(self.states.values())

    def _on_event(self, event: Event) -> None:
        if isinstance(event, DeploymentEvent):
            self.take(event)

    def forget(self) -> None:
        """Hear no more of it. The deployment goes on."""
        self._connection.unlisten(self.id, self._catch_up)

    async def _catch_up(self, timeout_s: float = REQUEST_S) -> None:
        request = DeploymentStatus(user_id=self._connection.user, deployment=self.id)
        reply = await self._connection.ask_async(request, timeout_s)
        if reply.deployment is not None:
            self.take(reply.deployment)


def _progress(event: DeploymentEvent) -> tuple[int, int]:
    """Events may come in any order; a later one has more vehicles that have answered."""
    stages = [*_UNDECIDED, DeploymentState.AWAITING_APPROVAL]
    stage = stages.index(event.state) if event.state in stages else len(stages)
    answered = sum(s.state in ("ready", "refused") for s in event.states.values())
    return stage, answered
