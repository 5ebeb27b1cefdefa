"""The port to the sandbox: what the edge runtime asks of whatever runs its modules."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

from edge_runtime.sandbox.call import Call
from edge_runtime.sandbox.session import NEVER
from protocol.limits import Limits
from protocol.outcome import Outcome


class AnySession(Protocol):
    """The calls of one assignment; see `session.Session`."""

    def run(
        self, call: Call, cancelled: threading.Event = NEVER, *, cpu_s: int | None = None
    ) -> Outcome:
        """Run a call and return how it ended; ``cpu_s`` lowers the limit for it alone."""
        ...

    def close(self) -> None:
        """There are no further calls."""
        ...


class AnySandbox(Protocol):
    """Where modules run: in containers (`Sandbox`), or not at all (`InProcess`)."""

    def run(self, call: Call, limits: Limits = ..., cancelled: threading.Event = NEVER) -> Outcome:
        """Run a call and return how it ended. Blocks."""
        ...

    def session(
        self, environment: str, limits: Limits = ..., labels: Mapping[str, str] | None = None
    ) -> AnySession:
        """What runs the calls of one assignment."""
        ...

    def add(self, environment: str, image: str) -> None:
        """From now on this environment can be run here."""
        ...

    def remove(self, environment: str) -> None:
        """This environment cannot be run here any more."""
        ...

    def has(self, environment: str) -> bool:
        """True if this environment can be run here."""
        ...

    def why_not(self, environment: str) -> str:
        """Why an environment cannot be run here, in a sentence for its analyst."""
        ...

    def image(self, environment: str) -> str:
        """How the engine names an environment's image by its content; "" if it does not say."""
        ...

    @property
    def runs_modules(self) -> bool:
        """True if modules can be run here at all, once there is an environment."""
        ...

    @property
    def environments(self) -> tuple[str, ...]:
        """The environments that can be run here, sorted."""
        ...

    def expect(
        self,
        environment: str,
        limits: Limits = ...,
        libraries: Iterable[str] = (),
        *,
        resident: bool = False,
    ) -> None:
        """Such calls are likely to come."""
        ...

    def close(self) -> None:
        """End every call."""
        ...
