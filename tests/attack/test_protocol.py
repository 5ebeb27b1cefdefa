"""The way the answer takes: cases 24 to 30 of the catalogue."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from protocol.outcome import Outcome
from tests.attack.harness import Rig, ended

#: Writes `window` to every descriptor that is open.
FORGE = """
import os

def forge(data):
    for descriptor in range(1 if len(data) < 1000 else 3, 256):  # 1 and 2 are only printed
        try:
            os.write(descriptor, data)
        except OSError:
            pass
"""


def forge(rig: Rig, data: bytes, then: str) -> Outcome:
    """Write to wherever one can, and go on."""
    return rig.run(f"{FORGE}\ndef custom_code(window):\n    forge(window)\n    {then}\n", data)


def answer(**said: Any) -> bytes:
    """What the guest program itself would write."""
    return json.dumps(said).encode()


VALUE = answer(kind="value", value="forged")


@pytest.mark.parametrize(
    "data",
    [
        VALUE,
        struct.pack(">I", 5) + b"false",
        b"\x00" * 100,
        b"\x01\x00\x00\x00\x00\x00\x00\x04true",
    ],
    ids=["an answer", "a frame", "zeros", "a block of the engine"],
)
def test_24_forged_frame_beside_the_answer(rig: Rig, data: bytes) -> None:
    assert ended(forge(rig, data, "return 'honest'")) == "contract_broken"


@pytest.mark.gvisor
def test_24_forged_report_on_the_supervisors_own_pipe(rig: Rig) -> None:
    source = """
    import os

    def custom_code(window):
        reached = 0
        for number in range(16):
            try:
                descriptor = os.open(f"/proc/1/fd/{number}", os.O_WRONLY)
                reached += os.write(descriptor, window) > 0
            except OSError:
                pass
        return reached
    """
    report: dict[str, Any] = dict.fromkeys(("stopped", "at", "oom_kills", "memory_peak", "signal"))
    report |= {"exit": 0, "seconds": 0.1, "cpu_s": 0.1, "printed": 0}
    frame = json.dumps(report).encode() + b"\n" + VALUE
    outcome = rig.run(source, struct.pack(">I", len(frame)) + frame)
    if rig.gvisor:  # it is reached; what the module gains by it, it could have returned as well
        assert ended(outcome) in {"contract_broken", "value"}
        assert outcome.value in (None, "forged")
    else:
        assert outcome.value == 0, "something of the supervisor's could be opened"


def test_24_forged_answer_is_no_more_than_a_value(rig: Rig) -> None:
    # A module may return what it likes; writing it down itself gains it nothing.
    outcome = forge(rig, VALUE, "os._exit(0)")
    assert ended(outcome) == "value"
    assert outcome.value == "forged"


@pytest.mark.parametrize(
    "said",
    [
        {"kind": "value"},
        {"kind": "died", "status": 0},
        {"kind": "error", "fault": {"type": 1}},
        {"kind": "error", "fault": {"type": "E", "message": "m" * 3000}},
        {"kind": "error", "fault": {"type": "E", "message": "", "lines": [{"number": 1}] * 21}},
        {"kind": "value", "value": {"~a": ["|O8", [1], "x"]}},
        {"kind": "value", "value": {"~a": ["<f8", [1 << 40], {"~b": "AAAA"}]}},
        {"kind": "value", "value": {"~b": "no base64!"}},
        {"kind": "value", "value": {"~f": "huge"}},
        ["value", 1],
        None,
    ],
    ids=str,
)
def test_24_forged_answer_of_another_form(rig: Rig, said: Any) -> None:
    outcome = forge(rig, json.dumps(said).encode(), "os._exit(0)")
    assert ended(outcome) == "contract_broken"
    assert outcome.value is None


@pytest.mark.parametrize("then", ["os._exit(0)", "return 'honest'"], ids=["alone", "and a third"])
def test_25_two_frames(rig: Rig, then: str) -> None:
    for between in (b"", b"\n"):
        outcome = forge(rig, VALUE + between + VALUE, then)
        assert ended(outcome) == "contract_broken"
        assert outcome.value is None


@pytest.mark.parametrize("then", ["os._exit(0)", "return 'honest'"], ids=["alone", "and an answer"])
@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\xff\xff\xff"])
def test_26_absurd_length_prefix(rig: Rig, length: bytes, then: str) -> None:
    assert ended(forge(rig, length, then)) == "contract_broken"


@pytest.mark.parametrize(
    ("leave", "end"),
    [
        ("os._exit(0)", "module_error"),
        ("sys.exit(0)", "module_error SystemExit"),
        ("os.execv(sys.executable, [sys.executable, '-c', 'pass'])", "module_error"),
    ],
    ids=["at once", "politely", "as another program"],
)
def test_27_exit_before_the_frame(rig: Rig, leave: str, end: str) -> None:
    outcome = rig.run(f"import os, sys\ndef custom_code(window):\n    {leave}\n")
    assert ended(outcome) == end
    if outcome.fault is None:
        assert "ended its process" in outcome.reason
    else:
        assert outcome.fault.lines[-1].number == 3


@pytest.mark.parametrize(
    "close",
    ["os.closerange(0, 256)", "os.close(4)", "os.dup2(os.open('/dev/null', os.O_RDONLY), 4)"],
    ids=["all", "the answer's", "replaced"],
)
def test_28_descriptor_closed(rig: Rig, close: str) -> None:
    outcome = rig.run(f"import os\ndef custom_code(window):\n    {close}\n    return 1\n")
    assert ended(outcome) == "module_error"
    assert "exit status 70" in outcome.reason


@pytest.mark.parametrize("status", [3, 9, 255])
def test_29_exit_status_and_payload_disagree(rig: Rig, status: int) -> None:
    for data in (VALUE, b""):
        outcome = forge(rig, data, f"os._exit({status})")
        assert ended(outcome) == "module_error"
        assert f"exit status {status}" in outcome.reason
        assert outcome.value is None


def test_30_another_tasks_id_in_the_value(rig: Rig) -> None:
    claim = {"task": "t-2", "vehicle": "car-2", "digest": "0" * 64, "kind": "value", "seconds": -1}
    outcome = rig.run("def custom_code(window): return window", claim)
    assert ended(outcome) == "value"
    assert outcome.value == claim
    assert outcome.seconds > 0
