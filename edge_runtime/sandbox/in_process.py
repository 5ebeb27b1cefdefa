"""The sandbox's double without an engine: for built-in methods, which need none."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from edge_runtime.sandbox.call import Call
from edge_runtime.sandbox.session import NEVER
from protocol.limits import Limits
from protocol.messages import NO_SANDBOX
from protocol.outcome import Kind, Outcome


class InProcess:
    """A sandbox in which no environment can be run: every call is refused, and nothing starts.

    It stands where thousands of edge runtimes share a process. What it does is what a `Sandbox`
    without images does, and the same tests hold both to it.
    """

    def run(
        self,
        call: Call,  # noqa: ARG002
        limits: Limits | None = None,  # noqa: ARG002
        cancelled: threading.Event = NEVER,  # noqa: ARG002
    ) -> Outcome:
        """Refuse a call."""
        return Outcome(kind=Kind.REFUSED, reason=NO_SANDBOX)

    def session(
        self,
        environment: str,  # noqa: ARG002
        limits: Limits | None = None,  # noqa: ARG002
        labels: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> RefusingSession:
        """A session that refuses every call."""
        return RefusingSession(self)

    def add(self, environment: str, image: str) -> None:
        """Change nothing: an image is of no use here."""

    def remove(self, environment: str) -> None:
        """Change nothing: there is none."""

    def has(self, environment: str) -> bool:  # noqa: ARG002
        """False: none can be run here."""
        return False

    def why_not(self, environment: str) -> str:  # noqa: ARG002
        """Why none can be run here."""
        return NO_SANDBOX

    def image(self, environment: str) -> str:  # noqa: ARG002
        """There is none."""
        return ""

    @property
    def runs_modules(self) -> bool:
        """False: for good, whatever image is added."""
        return False

    @property
    def environments(self) -> tuple[str, ...]:
        """None."""
        return ()

    def expect(
        self,
        environment: str,
        limits: Limits | None = None,
        libraries: Iterable[str] = (),
        *,
        resident: bool = False,
    ) -> None:
        """Get nothing ready."""

    def close(self) -> None:
        """Nothing runs that could be ended."""


class RefusingSession:
    """A session of `InProcess`."""

    def __init__(self, sandbox: InProcess) -> None:
        self._sandbox = sandbox

    def run(
        self,
        call: Call,
        cancelled: threading.Event = NEVER,
        *,
        cpu_s: int | None = None,  # noqa: ARG002
    ) -> Outcome:
        """Refuse a call; see `InProcess.run`."""
        return self._sandbox.run(call, cancelled=cancelled)

    def close(self) -> None:
        """Nothing is open."""
