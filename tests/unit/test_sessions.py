"""Containers of assignments: who has one, and when it goes."""

from __future__ import annotations

import contextlib
import json
from typing import Any, cast

import pytest

from edge_runtime import sessions
from edge_runtime.sandbox import Call, Limits, Sandbox
from edge_runtime.sandbox.classify import Seen
from edge_runtime.sandbox.session import Session
from edge_runtime.sessions import Sessions
from protocol.module import Module, Side, digest_of

SOURCE = "def custom_code(w): return 1"
REPORT = {
    "stopped": None, "exit": 0, "signal": None, "seconds": 0.1, "cpu_s": 0.1, "printed": 0,
    "at": None, "left": 0, "oom_kills": 0, "memory_peak": None,
}  # fmt: skip


class Container:
    """One whose calls leave nothing behind."""

    quiet = True

    def __init__(self) -> None:
        self.discarded = False

    def exchange(self, *_: object) -> tuple[Seen, str]:
        return Seen(json.dumps(REPORT).encode() + b'\n{"kind":"value","value":1}'), ""

    def discard(self) -> None:
        self.discarded = True


class Machine:
    """Containers and pool, and a sandbox that opens sessions on them."""

    def __init__(self) -> None:
        self.started: list[Container] = []

    def start(self, *_: object) -> Container:
        self.started.append(Container())
        return self.started[-1]

    def take(self, *_: object) -> None:
        return None

    def done(self) -> None:
        pass

    def session(self, *_: object) -> Session:
        parts = cast("Any", self)
        return Session(
            parts, parts, contextlib.nullcontext, lambda: False, "image", Limits(), {}, once=False
        )

    @property
    def idle(self) -> int:
        return sum(not container.discarded for container in self.started)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def opened(machine: Machine) -> Sessions:
    return Sessions(cast("Sandbox", machine))


def module(generation: int = 1) -> Module:
    return Module(
        user_id="ada", name="m", side=Side.ONBOARD, generation=generation, source=SOURCE,
        environment="minimal", digest=digest_of(SOURCE, "minimal"),
    )  # fmt: skip


CALL = Call(SOURCE, "minimal")


def test_calls_of_one_assignment_share_one_and_a_new_generation_has_its_own(
    machine: Machine, opened: Sessions
) -> None:
    for generation in (1, 1, 2):
        assert opened.of("a", module(generation), Limits(), {}).run(CALL).ok
    assert [c.discarded for c in machine.started] == [True, False]
    opened.close()
    assert machine.idle == 0


def test_a_call_that_comes_after_the_end_of_its_session_leaves_no_container(
    machine: Machine, opened: Sessions
) -> None:
    late = opened.of("a", module(), Limits(), {})
    opened.end("a")
    assert late.run(CALL).ok
    assert machine.idle == 0


def test_a_container_goes_though_the_end_of_its_assignment_was_never_told(
    machine: Machine, opened: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened.of("a", module(), Limits(), {}).run(CALL).ok
    opened.expire()
    assert machine.idle == 1
    monkeypatch.setattr(sessions, "KEEP_S", -1.0)
    opened.expire()
    assert machine.idle == 0
