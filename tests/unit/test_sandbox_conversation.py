"""Talking to a container that does what it likes: every conversation ends, for a reason."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from edge_runtime.sandbox import Limits, conversation, settings
from edge_runtime.sandbox.classify import Seen, Stop
from edge_runtime.sandbox.conversation import Conversation
from edge_runtime.sandbox.engine import Attached
from edge_runtime.sandbox.frames import framed
from edge_runtime.sandbox.settings import answer_size

LIMITS = Limits(time_s=0.01, output_kb=1)
REPORT = {
    "stopped": None, "exit": 0, "signal": None, "seconds": 0, "cpu_s": 0, "printed": 0,
    "at": None, "left": 0, "oom_kills": 0, "memory_peak": 0,
}  # fmt: skip


def out(data: bytes) -> bytes:
    return struct.pack(">BxxxI", 1, len(data)) + data


def err(data: bytes) -> bytes:
    return struct.pack(">BxxxI", 2, len(data)) + data


def report(**seen: Any) -> bytes:
    return json.dumps(REPORT | seen).encode() + b"\n1"


UP = out(framed(b""))
IMPORTED = UP


class Scripted(Attached):
    """Says what the script has; None is silence, the end of the script the end of the stream."""

    def __init__(self, script: Iterable[bytes | None], takes: int | None = 10_000) -> None:
        self._script: Iterator[bytes | None] = iter(script)
        self._takes = takes
        self.sent = b""

    def send(self, data: memoryview, timeout_s: float) -> int | None:  # noqa: ARG002
        if self._takes is None:
            return None
        self.sent += data[: self._takes]
        return min(len(data), self._takes)

    def receive(self, timeout_s: float) -> bytes | None:  # noqa: ARG002
        return next(self._script, b"")


def silence() -> Iterator[bytes | None]:
    while True:
        yield None


def then_silence(*said: bytes) -> Iterator[bytes | None]:
    yield from said
    yield from silence()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "UP_S", 0.05)
    monkeypatch.setattr(settings, "IMPORT_S", 0.05)
    monkeypatch.setattr(conversation, "GRACE_S", 0.02)
    monkeypatch.setattr(conversation, "LAST_WORDS_S", 0.05)


def hold(
    attached: Attached, *, cancelled: bool = False, running: bool = True
) -> tuple[Seen, Conversation]:
    talk = Conversation(attached, lambda: running)
    seen = talk.wait_up(lambda: cancelled) or talk.wait_imported(lambda: cancelled)
    return seen or talk.exchange(b"request", LIMITS, lambda: cancelled), talk


def test_request_and_report() -> None:
    attached = Scripted(
        [UP, IMPORTED, None, err(b"hello"), out(framed(report(printed=5)))], takes=3
    )
    seen, talk = hold(attached)
    numbers = json.dumps([0.01, 5, 1024, answer_size(LIMITS), 0]).encode()
    assert attached.sent == framed(numbers) + framed(b"request")
    assert seen == Seen(report(printed=5))
    assert talk.printed.text() == "hello"


def test_what_was_printed_may_come_after_the_report() -> None:
    seen, talk = hold(
        Scripted([UP, IMPORTED, out(framed(report(printed=4))), err(b"la"), None, err(b"te")])
    )
    assert seen.report is not None
    assert talk.printed.text() == "late"


def test_what_was_printed_may_never_come() -> None:
    seen, _ = hold(Scripted([UP, IMPORTED, out(framed(report(printed=4))), *[None] * 10_000_000]))
    assert seen.report is not None


def test_guest_that_does_not_come_up() -> None:
    assert hold(Scripted(silence()))[0].stop is Stop.LATE


def test_guest_that_says_nothing_more() -> None:
    assert hold(Scripted(then_silence(UP + IMPORTED)))[0].stop is Stop.TIME


def test_guest_that_ends_early_leaves_its_last_words() -> None:
    seen, _ = hold(Scripted([err(b"ImportError")]))
    assert seen == Seen(None, None, "ImportError")


def test_guest_that_takes_nothing() -> None:
    assert hold(Scripted(then_silence(UP + IMPORTED), takes=0))[0].stop is Stop.LATE


def test_container_that_died_while_it_was_sent_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "UP_S", 3600)
    assert hold(Scripted(then_silence(UP + IMPORTED), takes=0), running=False)[0].stop is Stop.LATE


def test_connection_that_breaks_while_it_is_sent_to() -> None:
    seen, _ = hold(Scripted([UP + IMPORTED, err(b"no memory")], takes=None))
    assert (seen.stop, seen.detail) == (None, "no memory")


def test_cancelled() -> None:
    assert hold(Scripted(silence()), cancelled=True)[0].stop is Stop.CANCELLED
    talk = Conversation(Scripted(silence()), lambda: True)
    assert talk.exchange(b"", LIMITS, lambda: True).stop is Stop.CANCELLED


def test_one_call_after_the_other() -> None:
    script = [
        UP,
        IMPORTED,
        err(b"one"),
        out(framed(report(printed=3))),
        err(b"two!"),
        out(framed(report(printed=4))),
    ]
    talk = Conversation(Scripted(script), lambda: True)
    assert talk.wait_up(lambda: False) is None
    assert talk.wait_imported(lambda: False) is None
    for printed in ("one", "two!"):
        seen = talk.exchange(b"request", LIMITS, lambda: False)
        assert seen.report is not None
        assert talk.printed.text() == printed


def test_what_comes_between_calls_is_not_taken_for_an_answer() -> None:
    early = out(framed(report())) + out(framed(report()))
    talk = Conversation(Scripted([UP, IMPORTED, early]), lambda: True)
    assert talk.wait_up(lambda: False) is None
    assert talk.wait_imported(lambda: False) is None
    assert talk.exchange(b"request", LIMITS, lambda: False).stop is Stop.BROKEN


def test_output_over_the_budget() -> None:
    seen, talk = hold(Scripted([UP, IMPORTED] + [err(b"x" * 500)] * 1000))
    assert seen.stop is Stop.OUTPUT
    assert talk.printed.total == 1500


@pytest.mark.parametrize(
    "said",
    [
        out(b"\0\0\0\1"),
        UP + out(b"\xff\xff\xff\xff"),
        UP + IMPORTED + out(framed(report()) + b"x"),
        b"\x07 no block of the engine",
    ],
    ids=["up with something", "absurd length", "a byte too many", "no block"],
)
def test_what_is_not_of_the_form_agreed_on(said: bytes) -> None:
    seen, _ = hold(Scripted([said]))
    assert (seen.stop, seen.report) == (Stop.BROKEN, None)
    assert seen.detail


def test_libraries_that_are_never_imported() -> None:
    assert hold(Scripted(then_silence(UP)))[0].stop is Stop.IMPORT_TIME


def test_library_that_ends_the_process() -> None:
    seen, _ = hold(Scripted([UP, err(b"bye")]))
    assert seen == Seen(None, Stop.IMPORT_END, "bye")
