"""What a module prints and returns for people to see: cases 18 to 23 of the catalogue."""

from __future__ import annotations

import pytest

from protocol.outcome import Limit, Outcome
from tests.attack.harness import SMALL, Rig, ended, seen


def flood(rig: Rig, attack: str) -> Outcome:
    """Print without end; it has to end at the budget, of which something was kept."""
    source = f"import os, subprocess, sys\ndef custom_code(window):\n    {attack}\n"
    outcome = rig.run(source, limits=SMALL.model_copy(update={"memory_mb": 256}))
    assert ended(outcome) == "limit_exceeded output 16"
    assert seen(outcome, Limit.OUTPUT) is None
    assert 1000 < len(outcome.printed) <= 16_384
    assert outcome.seconds < SMALL.time_s / 2
    return outcome


@pytest.mark.gvisor
@pytest.mark.parametrize(
    "attack",
    [
        "while True: print('flood')",
        "while True: os.write(1, b'flood')",
        "subprocess.run([sys.executable, '-c', 'while True: print(1)'])",
    ],
    ids=["print", "descriptor", "another process"],
)
def test_18_endless_stdout(rig: Rig, attack: str) -> None:
    flood(rig, attack)


def test_18_just_within_the_budget(rig: Rig) -> None:
    source = "def custom_code(window):\n    print('x' * (window - 1))\n    return 1\n"
    assert rig.value(source, 16 * 1024) == 1
    assert ended(rig.run(source, 16 * 1024 + 1)) == "limit_exceeded output 16"


@pytest.mark.parametrize(
    "attack",
    [
        "while True: print('flood', file=sys.stderr)",
        "while True: os.write(2, b'flood' * 10_000)",
    ],
    ids=["print", "descriptor"],
)
def test_19_endless_stderr(rig: Rig, attack: str) -> None:
    flood(rig, attack)


def test_19_both_arrive_in_full_and_in_order(rig: Rig) -> None:
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


@pytest.mark.parametrize(
    "attack",
    [
        "sys.stdout.write('x' * 50_000_000)",
        "[sys.stdout.write('x' * 1_000_000) for _ in range(1000)]",
        "[os.write(2, bytes(1_000_000)) for _ in range(1000)]",
    ],
    ids=["at once", "in parts", "of zeros"],
)
def test_20_one_line_of_a_gigabyte(rig: Rig, attack: str) -> None:
    if "bytes" in attack:  # NUL is shown as nothing at all
        outcome = rig.run(f"import os\ndef custom_code(window):\n    {attack}\n")
        assert ended(outcome) == "limit_exceeded output 16"
        assert "\0" not in outcome.printed
    else:
        assert "\n" not in flood(rig, attack).printed.partition("\n[")[0]


def test_21_bad_text_in_what_is_printed(rig: Rig) -> None:
    outcome = rig.run(
        r"""
        import os

        def custom_code(window):
            print("lone \udc80 surrogate")
            os.write(1, b"bad \xff\xfe bytes\n")
            return 1
        """
    )
    assert ended(outcome) == "value"
    assert outcome.printed == "lone \\udc80 surrogate\nbad \ufffd\ufffd bytes\n"


@pytest.mark.parametrize("made", [r"['\udc80']", r"{'\udc80': 1}", r"'\ud83d'"])
def test_21_lone_surrogate_in_a_value(rig: Rig, made: str) -> None:
    outcome = rig.run(f"def custom_code(window):\n    return {made}\n")
    assert ended(outcome) == "contract_broken"
    assert "surrogate" in outcome.reason


def test_22_nul_bytes(rig: Rig) -> None:
    outcome = rig.run(
        r"""
        import os

        def custom_code(window):
            os.write(1, b"\x00nul\x00\n")
            return ["\0", {"\0": b"\0"}]
        """
    )
    assert ended(outcome) == "value"
    assert outcome.value == ["\0", {"\0": b"\0"}]
    assert outcome.printed == "nul\n"


def test_23_escapes_in_what_is_printed_and_raised(rig: Rig) -> None:
    printed = rig.run(
        r"""
        def custom_code(window):
            print("\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 back\x08 \u202egnp.exe")
            return 1
        """
    )
    assert ended(printed) == "value"
    assert printed.printed == "red bell back gnp.exe\n"
    raised = rig.run(
        r"""
        def custom_code(window):
            raise type("\x1b[31mRed", (Exception,), {})("\x1b]0;title\x07\x1b[2Jgone\x00\ud800")
        """
    )
    assert ended(raised) == "module_error Red"
    assert raised.fault is not None
    assert raised.fault.message == "gone?"


def test_23_formulas_and_markup_are_only_text(rig: Rig) -> None:
    texts = ["=cmd|'/c calc'!A1", "<script>alert(1)</script>", "\x1b[31m", "[red]no markup[/]"]
    assert rig.value("def custom_code(window): return window", texts) == texts
