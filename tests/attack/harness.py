"""What tests of the sandbox share: one on the real engine, and short ways to ask it."""

from __future__ import annotations

import itertools
import secrets
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple, Self

import docker

from edge_runtime.sandbox import Call, Limits, Sandbox, Session
from images.build import ensure
from protocol import values
from protocol.module import Environment, Side
from protocol.outcome import Kind, Limit, Outcome

#: A container for each call, or one for the calls of an assignment.
ISOLATIONS: Final = ("call", "assignment")
#: Limits for attacks: small ones are hit sooner.
SMALL = Limits(time_s=20.0, cpu_s=15, memory_mb=96, processes=24, output_kb=16, scratch_mb=4)
#: What all owners of this test run begin with; so what others do on this engine is not ours.
RUN: Final = f"test-{secrets.token_hex(4)}"
#: The key of the label of containers that may outlive a call; its value is the way.
SESSION_LABEL: Final = "session"
GVISOR: Final = "runsc"
_numbers = itertools.count(1)
_NEXT: Final = "def custom_code(window): return sum(window)"


class Way(NamedTuple):
    """How a call is made: a container for each or one for many; the engine's runtime."""

    isolation: str = "call"
    runtime: str | None = None

    def __str__(self) -> str:
        return self.isolation if self.runtime is None else f"{self.isolation}-{self.runtime}"


class Rig:
    """A sandbox of this test run alone, under an owner of its own.

    With isolation "assignment" each thread keeps a session open for as long as environment and
    limits stay the same, so that what one call broke the next would find.
    """

    def __init__(self, sandbox: Sandbox, owner: str, way: Way) -> None:
        self.sandbox, self.owner, self.way = sandbox, owner, way
        self._mine = threading.local()
        self._open: list[Session] = []
        self._lock = threading.Lock()

    @property
    def gvisor(self) -> bool:
        """True if the module's system calls go to a kernel of their own."""
        return self.way.runtime == GVISOR

    def run(
        self,
        source: str,
        argument: Any = None,
        previous: Any = None,
        *,
        limits: Limits = SMALL,
        environment: Environment = Environment.MINIMAL,
        verify: Side | None = None,
    ) -> Outcome:
        """Run a module with these values."""
        call = Call(
            source=textwrap.dedent(source),
            environment=environment,
            argument=values.pack(argument),
            previous=values.pack(previous),
            verify=verify,
        )
        if self.way.isolation == "call":
            return self.sandbox.run(call, limits)
        return self._session(environment, limits).run(call)

    def value(self, source: str, argument: Any = None, previous: Any = None, **how: Any) -> Any:
        """Run a module that is expected to return; what it returned."""
        outcome = self.run(source, argument, previous, **how)
        assert outcome.ok, outcome
        return values.unpack(outcome.value)

    def serves_the_next_call(self) -> bool:
        """True if an ordinary call succeeds: in the session of the call before, if it had one."""
        environment, limits = getattr(self._mine, "key", (Environment.MINIMAL, SMALL))
        return bool(self.value(_NEXT, [1, 2, 3], environment=environment, limits=limits) == 6)

    def close(self) -> None:
        """End the sessions of all threads."""
        with self._lock:
            sessions, self._open = self._open, []
        for session in sessions:
            session.close()
        self._mine = threading.local()

    def _session(self, environment: Environment, limits: Limits) -> Session:
        session: Session | None = getattr(self._mine, "session", None)
        if session is not None and self._mine.key == (environment, limits):
            return session
        if session is not None:
            session.close()
        session = self.sandbox.session(environment, limits, {SESSION_LABEL: str(self.way)})
        self._mine.key, self._mine.session = (environment, limits), session
        with self._lock:
            self._open.append(session)
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ended(outcome: Outcome) -> str:
    """How a call ended, exactly, in a few words: "limit_exceeded memory 96" or "module_error X"."""
    words: list[object] = [outcome.kind.value]
    if outcome.exceeded is not None:
        words += [outcome.exceeded.limit.value, f"{outcome.exceeded.configured:.12g}"]
    if outcome.fault is not None:
        words.append(outcome.fault.type)
    return " ".join(map(str, words))


def seen(outcome: Outcome, limit: Limit) -> float | None:
    """What was measured of the limit that the call hit."""
    assert outcome.kind is Kind.LIMIT_EXCEEDED, outcome
    assert outcome.exceeded is not None
    assert outcome.exceeded.limit is limit, outcome
    return outcome.exceeded.seen


def images() -> dict[Environment, str]:
    """The image of each environment, built if it is not there."""
    return {e: ensure(f"sandbox-{e.value}", progress=print) for e in Environment}


def containers(owner: str) -> list[str]:
    """The names of an owner's containers, in whatever state."""
    with closing(docker.from_env()) as client:
        wanted = {"label": f"io.oodida.owner={owner}"}
        return [c["Names"][0] for c in client.api.containers(all=True, filters=wanted)]


def runtimes() -> set[str]:
    """The runtimes that the engine has."""
    with closing(docker.from_env()) as client:
        return set(client.info()["Runtimes"])


@contextmanager
def rig(way: Way | None = None) -> Iterator[Rig]:
    """A sandbox on the real engine. Afterwards nothing of it may be left."""
    way, owner = way or Way(), f"{RUN}-{next(_numbers)}"
    with Sandbox(images(), owner, runtime=way.runtime) as sandbox, Rig(sandbox, owner, way) as made:
        yield made
    assert containers(owner) == []
