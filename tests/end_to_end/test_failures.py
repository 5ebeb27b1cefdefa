"""A module that misbehaves ends as one clear failure, and the next task succeeds."""

from __future__ import annotations

from pathlib import Path

import pytest

import oodida
from images.recipe import reference
from tests.end_to_end.conftest import StartVehicle

FORK_BOMB = """import os
    while True:
        try:
            os.fork()
        except OSError:
            pass"""
#: What the module does when it is in earnest. On trial it is given 100 samples, and behaves.
CASES = {
    "loops": ("while True:\n        pass", "limit", "cpu limit of 2 s"),
    "sleeps": ("import time\n    time.sleep(600)", "limit", "time limit of 6 s"),
    "eats memory": ("x = bytearray(10**9)\n    return len(x)", "limit", "memory limit of 128 MB"),
    "forks": (FORK_BOMB, "limit", "limit"),
    "floods output": ("while True:\n        print('x' * 10_000)", "limit", "output limit"),
    "exits": ("import os\n    os._exit(0)", "crashed", "ended its process"),
    "raises": (
        "x = {}\n    return x['speed']",
        "crashed",
        "KeyError: 'speed' (line 5, in custom_code)",
    ),
    "returns what may not travel": ("return {1, 2}", "crashed", "set"),
    "returns too much": ("return 'x' * 3_000_000", "limit", "value_size limit"),
    "crashes the interpreter": (
        "import faulthandler\n    faulthandler._sigsegv()",
        "crashed",
        "SIGSEGV",
    ),
}
MODULE = "def custom_code(window):\n    if len(window) == 100:\n        return 0\n    {}\n"


def spec(module: str) -> oodida.Assignment:
    return oodida.Assignment(
        vehicles=oodida.Select.ids("car-1"),
        onboard=oodida.Onboard("custom", module=module, signals="VEHICLE_SPEED", samples=4),
        offboard=oodida.Offboard("collect"),
    )


@pytest.mark.parametrize("case", CASES)
def test_on_board(ada: oodida.Fleet, case: str) -> None:
    body, status, reason = CASES[case]
    ada.deploy(MODULE.format(body), name="bad")
    ada.deploy("def custom_code(window):\n    return len(window)\n", name="good")
    run = ada.submit(spec("bad"))
    with pytest.raises(oodida.AssignmentFailed) as caught:
        run.result(timeout_s=60)
    participation = caught.value.participation["car-1"]
    assert participation.status == status
    assert reason in participation.reason
    assert ada.submit(spec("good")).result() == [4]


def test_one_vehicle_failing_leaves_the_others_in(
    ada: oodida.Fleet, start_vehicle: StartVehicle, tmp_path: Path
) -> None:
    recording = tmp_path / "backwards.csv"
    recording.write_text("VEHICLE_SPEED\n-1\n-2\n")
    name = f"odd-{ada.user}"
    image = f"--image=minimal={reference('sandbox-minimal')}"
    start_vehicle(name, f"--recording={recording}", image)
    ada.deploy(
        "def custom_code(window):\n"
        "    if min(window) < 0:\n"
        "        raise ValueError('it drives backwards')\n"
        "    return len(window)\n",
        name="m",
    )
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1", "car-2", name),
            onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=4),
            offboard=oodida.Offboard("collect"),
        )
    )
    assert run.result(timeout_s=30) == [4, 4]
    (iteration,) = run.iterations
    assert iteration.participation[name].status == "crashed"
    assert "backwards (line 3, in custom_code)" in iteration.participation[name].reason
    failed = [r for r in iteration.results if r.vehicle == name]
    assert [(r.outcome, r.value) for r in failed] == [("module_error", None)]


def test_off_board_the_reason_and_line_are_the_assignments(ada: oodida.Fleet) -> None:
    ada.deploy(
        "def custom_code(results):\n"
        "    if results == [1.0, 2.0, 4.0]:\n        return 0\n"
        "    raise RuntimeError('the fleet is too fast')\n",
        name="bad",
        to="cloud",
    )
    run = ada.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=4),
            offboard=oodida.Offboard("custom", module="bad"),
        )
    )
    with pytest.raises(oodida.AssignmentFailed, match=r"too fast \(line 4, in custom_code\)"):
        run.result()


def test_what_a_module_printed_comes_with_its_result(ada: oodida.Fleet) -> None:
    source = "def custom_code(window):\n    print('seen', len(window), '\\x1b[31m')\n    return 1\n"
    ada.deploy(source, name="m")
    run = ada.submit(spec("m"))
    run.result()
    printed = run.iterations[0].results[0].printed
    assert "seen 4" in printed
    assert "\x1b" not in printed
