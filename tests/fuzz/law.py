"""The law that each parser keeps: a valid value, or an error that says what is wrong."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import FrameType
from typing import Any, Final

from protocol.errors import OodidaError
from tests.fuzz.mangle import mangle

#: What reading may take beside what grows with the input: calls of functions, and bytes.
CALLS, BYTES = 60_000, 3_000_000
#: What a byte of input may cost at most. A list in a list is three of JSON's bytes, and sixty or
#: more of Python's, twice while they are looked through.
CALLS_EACH: Final = 40
BYTES_EACH: Final = 150


class LawBroken(AssertionError):
    """A parser did what it may not."""


@dataclass(frozen=True)
class Target:
    """One parser, or one part as a whole.

    ``run`` takes a case; ``kin`` are the errors with which it may refuse one. ``seeds`` are cases
    from which others are made; of a case, ``head`` bytes are a choice and the others a payload.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...] = ()
    kin: tuple[type[Exception], ...] = field(default=(OodidaError,))
    head: int = 0

    def changed(self, case: bytes, dice: Random) -> bytes:
        """Another case, made from one."""
        head = case[: self.head]
        if head and dice.random() < 0.1:
            head = dice.randbytes(len(head))
        return head + mangle(case[self.head :], dice)


def held(target: Target, data: bytes) -> None:
    """Try one case. Raises LawBroken, with the cause, for an error that is none of ours."""
    try:
        target.run(data)
    except target.kin:
        return
    except LawBroken:
        raise
    except (Exception, SystemExit) as problem:
        raise LawBroken(f"{target.name}: {type(problem).__name__}: {problem}") from problem


def held_within_bounds(target: Target, data: bytes) -> None:
    """As `held`, and what it took is within bounds that grow with the input alone."""
    held(target, data)  # what is made once, such as tables and caches, is not the input's
    tracemalloc.start()
    try:
        held(target, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak > BYTES + BYTES_EACH * len(data):
        raise LawBroken(f"{target.name}: {peak} bytes of memory for {len(data)} of input")
    calls = _calls(lambda: held(target, data))
    if calls > CALLS + CALLS_EACH * len(data):
        raise LawBroken(f"{target.name}: {calls} calls for {len(data)} bytes of input")


def _calls(work: Callable[[], None]) -> int:
    """How many functions were called: work that can be counted, whatever else the machine does."""
    count = 0

    def seen(_frame: FrameType, event: str, _about: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
