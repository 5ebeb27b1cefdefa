"""What a module prints and returns for people to see: cases 18 to 23 of the catalogue."""

from __future__ import annotations

import pytest

from protocol.outcome import Kind, Limit
from tests.attack.harness import SMALL, Rig


@pytest.mark.parametrize(
    "flood",
    [
        "while True: print('flood')",
        "while True: print('flood', file=sys.stderr)",
        "while True: os.write(1, b'flood')",
        "while True: os.write(2, b'flood' * 10_000)",
        "sys.stdout.write('x' * 50_000_000)",
        "subprocess.run([sys.executable, '-c', 'while True: print(1)'])",
    ],
    ids=["stdout", "stderr", "descriptor 1", "descriptor 2", "one line", "another process"],
)
def test_flood(rig: Rig, flood: str) -> None:
    source = f"import os, subprocess, sys\ndef custom_code(window):\n    {flood}\n"
    outcome = rig.run(source, limits=SMALL.model_copy(update={"memory_mb": 256}))
    assert outcome.kind is Kind.LIMIT_EXCEEDED, outcome
    assert outcome.exceeded is not None
    assert outcome.exceeded.limit is Limit.OUTPUT
    assert outcome.exceeded.configured == SMALL.output_kb
    assert 1000 < len(outcome.printed) <= 16_384
    assert outcome.seconds < SMALL.time_s / 2


def test_just_within_the_budget(rig: Rig) -> None:
    source = "def custom_code(window):\n    print('x' * (window - 1))\n    return 1\n"
    assert rig.value(source, 16 * 1024) == 1
    assert rig.run(source, 16 * 1024 + 1).kind is Kind.LIMIT_EXCEEDED


def test_what_is_printed_arrives_in_full_and_in_order(rig: Rig) -> None:
    outcome = rig.run(
        """
        import os, sys

        def custom_code(window):
            for number in range(100):
                print(number, file=sys.stderr if number % 2 else sys.stdout)
            os.write(1, b"end")
            return 1
        """
    )
    assert outcome.ok
    assert outcome.printed == "".join(f"{n}\n" for n in range(100)) + "end"


def test_bad_text_in_what_is_printed(rig: Rig) -> None:
    outcome = rig.run(
        r"""
        import os

        def custom_code(window):
            print("lone \udc80 surrogate")
            os.write(1, b"bad \xff\xfe bytes\n")
            os.write(1, b"\x00nul\x00\n")
            print("\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 back\x08 \u202egnp.exe")
            return 1
        """
    )
    assert outcome.ok
    assert outcome.printed == (
        "lone \\udc80 surrogate\nbad \ufffd\ufffd bytes\nnul\nred bell back gnp.exe\n"
    )


def test_lone_surrogate_in_a_value(rig: Rig) -> None:
    outcome = rig.run(r"def custom_code(window):" "\n" r"    return ['\udc80']" "\n")
    assert outcome.kind is Kind.CONTRACT_BROKEN
    assert "surrogate" in outcome.reason


def test_nul_in_a_value_is_a_value(rig: Rig) -> None:
    assert rig.value(r"def custom_code(window): return '\0'") == "\0"


def test_escapes_in_an_error(rig: Rig) -> None:
    outcome = rig.run(
        r"""
        def custom_code(window):
            raise type("\x1b[31mRed", (Exception,), {})("\x1b]0;title\x07\x1b[2Jgone\x00\ud800")
        """
    )
    assert outcome.fault is not None
    assert outcome.fault.type == "Red"
    assert outcome.fault.message == "gone?"


def test_formulas_and_markup_are_only_text(rig: Rig) -> None:
    texts = ["=cmd|'/c calc'!A1", "<script>alert(1)</script>", "\x1b[31m"]
    assert rig.value("def custom_code(window): return window", texts) == texts
