"""What tests of the sandbox share: one on the real engine, and short ways to ask it."""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import docker

from edge_runtime.sandbox import Call, Limits, Sandbox
from images.build import ensure
from protocol import values
from protocol.module import Environment, Side
from protocol.outcome import Outcome

#: Limits for attacks: small ones are hit sooner.
SMALL = Limits(time_s=20.0, cpu_s=15, memory_mb=96, processes=24, output_kb=16, scratch_mb=4)


@dataclass(frozen=True)
class Rig:
    """A sandbox of this test run alone, under an owner of its own."""

    sandbox: Sandbox
    owner: str

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
        return self.sandbox.run(call, limits)

    def value(self, source: str, argument: Any = None, previous: Any = None, **how: Any) -> Any:
        """Run a module that is expected to return; what it returned."""
        outcome = self.run(source, argument, previous, **how)
        assert outcome.ok, outcome
        return values.unpack(outcome.value)


def images() -> dict[Environment, str]:
    """The image of each environment, built if it is not there."""
    return {e: ensure(f"sandbox-{e.value}", progress=print) for e in Environment}


def containers(owner: str) -> list[str]:
    """The names of an owner's containers, in whatever state."""
    with closing(docker.from_env()) as client:
        wanted = {"label": f"io.oodida.owner={owner}"}
        return [c["Names"][0] for c in client.api.containers(all=True, filters=wanted)]


def volumes() -> int:
    """How many volumes the engine has."""
    with closing(docker.from_env()) as client:
        return len(client.api.volumes()["Volumes"] or ())


@contextmanager
def rig() -> Iterator[Rig]:
    """A sandbox on the real engine. Afterwards nothing of it may be left."""
    owner = f"test-{secrets.token_hex(4)}"
    before = volumes()
    with Sandbox(images(), owner) as sandbox:
        yield Rig(sandbox, owner)
    assert containers(owner) == []
    assert volumes() <= before
