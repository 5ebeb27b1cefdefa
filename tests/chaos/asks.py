"""What is asked of the fleet, and what the right answers are. Pure: no system is needed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import oodida
from edge_runtime.signals import SimulatedDriver
from protocol.assignment import CUSTOM, Assignment
from tests.chaos.schedule import RATE_HZ, SAMPLES, Ask

SIGNAL: Final = "VEHICLE_SPEED"
LOOK, ADD = "look", "add"
#: Which generation's code made a value: the value says so itself, and the code is told by it.
_TAG: Final = re.compile(r"^TAG = (\d+)$", re.MULTILINE)
#: What a vehicle would answer, for the trial of the off-board module.
EXAMPLE: Final = [{"tag": 1, "n": SAMPLES, "sum": 1.0}]


def look(tag: int, *, crashes: bool = False) -> str:
    """The on-board module that says ``tag``, with what tells its window from every other.

    One that ``crashes`` does so over windows of the fleet, but not when it is tried.
    """
    fault = f"    assert len(window) != {SAMPLES}, 'it crashes'\n" if crashes else ""
    return (
        f"TAG = {tag}\n"
        "def custom_code(window):\n"
        f"{fault}"
        '    return {"tag": TAG, "n": len(window), "sum": float(sum(window))}\n'
    )


def add() -> str:
    """The off-board module: it counts iterations and adds up, so that doing one twice shows."""
    return (
        "def custom_code(results, previous):\n"
        '    before = previous or {"count": 0, "total": 0.0}\n'
        "    return {\n"
        '        "count": before["count"] + 1,\n'
        '        "total": before["total"] + sum(r["sum"] for r in results),\n'
        '        "tags": sorted({r["tag"] for r in results}),\n'
        '        "n": len(results),\n'
        "    }\n"
    )


def tag_of(source: str) -> int | None:
    """What a module says, by its source."""
    found = _TAG.search(source)
    return int(found.group(1)) if found else None


def assignment(ask: Ask, vehicles: int) -> Assignment:
    """The request."""
    pace: dict[str, Any] = {"signals": SIGNAL, "samples": SAMPLES, "rate_hz": RATE_HZ}
    common: dict[str, Any] = {"iterations": ask.iterations, "deadline_s": ask.deadline_s}
    if ask.kind == "late":
        common["late"] = "next"
    if ask.kind == "quorum":
        common["quorum"] = 0.5
    if ask.kind in ("built_in", "cancelled", "sample", "late", "quorum"):
        chosen = oodida.Select.all()
        if ask.kind == "sample":
            chosen = oodida.Select.sample(max(1, vehicles // 2), seed=ask.seed)
        onboard, offboard = oodida.Onboard("mean", **pace), oodida.Offboard("sum")
        return Assignment(vehicles=chosen, onboard=onboard, offboard=offboard, **common)
    if ask.kind in ("newest", "pinned"):
        common["consistency"] = ask.kind
    isolation: Any = "assignment" if ask.kind == "session" else "call"
    return Assignment(
        vehicles=oodida.Select.where(sandbox=True),
        onboard=oodida.Onboard(CUSTOM, module=LOOK, isolation=isolation, **pace),
        offboard=oodida.Offboard(CUSTOM, module=ADD, isolation=isolation),
        **common,
    )


def onboard_value(spec: Assignment, vehicle: str, iteration: int, tag: int | None) -> Any:
    """What a vehicle answers in an iteration: its window depends on both alone."""
    samples = spec.onboard.samples
    driver = SimulatedDriver.named(vehicle)
    window = driver.samples(SIGNAL, (iteration - 1) * samples, samples)
    if spec.onboard.method == CUSTOM:
        return {"tag": tag, "n": samples, "sum": math.fsum(window)}
    return math.fsum(window) / samples


def offboard_value(spec: Assignment, results: Sequence[Any], previous: Any) -> Any:
    """What the off-board task makes of the vehicles' values and of the iteration before."""
    if spec.offboard.method != CUSTOM:
        return math.fsum(results)
    before = previous or {"count": 0, "total": 0.0}
    return {
        "count": before["count"] + 1,
        "total": before["total"] + math.fsum(r["sum"] for r in results),
        "tags": sorted({r["tag"] for r in results}),
        "n": len(results),
    }


def same(one: Any, other: Any) -> bool:
    """True if two values are equal, numbers up to the order in which they were added."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)
