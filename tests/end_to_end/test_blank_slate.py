"""Nothing that one call defined, imported, patched or wrote is visible to the next."""

from __future__ import annotations

import oodida

LEAVES_TRACES = """\
import builtins, json, math, os, sys, tempfile

seen = []


def custom_code(window):
    traces = {
        "a global": len(seen),
        "a builtin": hasattr(builtins, "left_behind"),
        "a patched library": json.dumps({}) != "{}",
        "an import": "left_behind" in sys.modules,
        "the environment": "LEFT_BEHIND" in os.environ,
        "a file": sorted(os.listdir(tempfile.gettempdir())),
        "a function's own": hasattr(math, "left_behind"),
        "the folder it runs in": os.getcwd(),
    }
    seen.append(1)
    builtins.left_behind = True
    json.dumps = lambda *_: "patched"
    sys.modules["left_behind"] = sys
    os.environ["LEFT_BEHIND"] = "1"
    math.left_behind = True
    with open(os.path.join(tempfile.gettempdir(), "left_behind"), "w") as file:
        file.write("x")
    os.chdir("/")
    return traces
"""


def test_each_call_finds_a_blank_slate(ada: oodida.Fleet) -> None:
    ada.deploy(LEAVES_TRACES, name="traces")
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1"),
            onboard=oodida.Onboard("custom", module="traces", signals="VEHICLE_SPEED", samples=1),
            offboard=oodida.Offboard("collect"),
            iterations=3,
        )
    )
    slates = [iteration.value[0] for iteration in run]
    run.result()
    assert len(slates) == 3
    assert slates[0] == slates[1] == slates[2]
    folder = slates[0].pop("the folder it runs in")
    assert folder.startswith("/")
    assert slates[0].pop("a file") == []
    assert not any(slates[0].values())
