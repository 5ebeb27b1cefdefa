"""What is a module, and what is said of what is none."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from protocol import verification
from protocol.messages import Verdict
from protocol.outcome import Fault
from protocol.verification import Refusal, fault, list_of, load, numpy_of, verify


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    sys.modules.pop(verification.FUNCTION, None)


def source(text: str) -> str:
    return textwrap.dedent(text).strip() + "\n"


def verdict(text: str, side: str = "onboard", example: tuple[Any, ...] = ()) -> Verdict:
    return Verdict.model_validate(verify(source(text), side, list_of, example))


@pytest.mark.parametrize(
    ("parameters", "takes_previous"),
    [
        ("a", False),
        ("a, b", True),
        ("a, b=None", True),
        ("a, /", False),
        ("a, b, /", True),
        ("a, *, c=1", False),
        ("a, b, *, c=1", True),
        ("*a", True),
        ("a, *b", True),
        ("a, b, c=1", True),
        ("a=1", False),
        ("a, **c", False),
    ],
)
def test_parameters(parameters: str, takes_previous: bool) -> None:
    assert load(f"def custom_code({parameters}): return 1").takes_previous is takes_previous


@pytest.mark.parametrize("parameters", ["", "a, b, c", "a, *, c", "a, b, *, c", "*, a", "**a"])
def test_wrong_parameters(parameters: str) -> None:
    with pytest.raises(Refusal, match="must take one argument") as refused:
        load(f"\ndef custom_code({parameters}): return 1")
    assert (refused.value.code, refused.value.line) == ("wrong_arguments", 2)


@pytest.mark.parametrize(
    ("text", "takes_previous"),
    [
        ("custom_code = lambda a: a", False),
        ("custom_code = sum", True),
        ("custom_code = max", False),
        ("custom_code = type('C', (), {'__call__': lambda self, a, b: a})()", True),
        (
            """
            import functools
            def outer(f):
                @functools.wraps(f)
                def inner(*args, **kwargs):
                    return f(*args, **kwargs)
                return inner
            @outer
            def custom_code(a):
                return a
            """,
            False,
        ),
        ("import functools\ncustom_code = functools.partial(lambda a, b, c: a, 1)", True),
    ],
)
def test_callables_of_other_kinds(text: str, takes_previous: bool) -> None:
    assert load(source(text)).takes_previous is takes_previous


def test_previous_is_passed() -> None:
    assert load("def custom_code(a, b): return [a, b]")(1, 2) == [1, 2]
    assert load("def custom_code(a): return [a]")(1, 2) == [1]


@pytest.mark.parametrize(
    ("text", "code", "line", "word"),
    [
        ("x = 1\ny = = 2", "syntax_error", 2, "invalid syntax"),
        ("def f():\n  x\n y", "syntax_error", 3, "IndentationError"),
        ("x = '\0'", "syntax_error", None, ""),
        ("(" * 5000, "syntax_error", None, ""),
        ("def costum_code(a): pass", "no_custom_code", 1, "it defines costum_code"),
        ("custom_code = 3", "no_custom_code", None, "no function"),
        ("async def custom_code(a): pass", "wrong_arguments", 1, "async"),
        ("async def custom_code(a): yield", "wrong_arguments", 1, "async"),
    ],
)
def test_what_is_no_module(text: str, code: str, line: int | None, word: str) -> None:
    with pytest.raises(Refusal) as refused:
        load(text)
    assert refused.value.code == code
    assert line is None or refused.value.line == line
    assert word in refused.value.reason


def raised_by(text: str, argument: Any = None) -> dict[str, Any]:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - SystemExit is among them
        load(source(text))(argument, None)
    return fault(caught.value)


def test_fault_has_the_modules_lines_only() -> None:
    found = raised_by(
        """
        import json

        def read(text):
            return json.loads(text)

        def custom_code(window):
            return read("{")
        """
    )
    lines = [(line["number"], line["function"], line["text"]) for line in found["lines"]]
    assert lines == [
        (7, "custom_code", 'return read("{")'),
        (4, "read", "return json.loads(text)"),
    ]
    assert found["type"] == "JSONDecodeError"


@pytest.mark.parametrize(
    "text",
    [
        "def custom_code(a): raise type('E' * 999, (Exception,), {})('m' * 9999)",
        "def custom_code(a): raise ValueError('\\ud800\\0')",
        "class E(Exception):\n    def __str__(self): return 1 / 0\ndef custom_code(a): raise E",
        "def custom_code(a): return custom_code(a)",
        "def custom_code(a): raise SystemExit(3)",
        "def custom_code(a): raise KeyboardInterrupt",
        "def custom_code(a): raise ExceptionGroup('g', [ValueError(1)])",
        """
        exec(compile('def f(a):' + chr(10) * 999 + ' 1/0', 'custom_code.py', 'exec'))
        def custom_code(a): f(a)
        """,
        "def custom_code(a): eval('\"' + 'x' * 9999 + '\" + 1')",
    ],
)
def test_fault_is_always_of_the_protocols_form(text: str) -> None:
    assert Fault.model_validate(raised_by(text)).type


def test_traceback_and_inspect_find_the_source() -> None:
    text = """
    import inspect, traceback

    def custom_code(window):
        try:
            1 / 0  # here
        except ZeroDivisionError:
            return [inspect.getsource(custom_code), traceback.format_exc()]
    """
    found, trace = load(source(text))(None, None)
    assert found.startswith("def custom_code")
    assert "1 / 0  # here" in trace


GOOD = [
    ("def custom_code(window): return sum(window)", "onboard"),
    ("def custom_code(window): return max(window['SPEED'])", "onboard"),
    ("def custom_code(window, previous): return previous", "onboard"),
    ("def custom_code(results): return sum(results)", "offboard"),
    ("def custom_code(results): return sum(r['n'] * r['mean'] for r in results)", "offboard"),
    ("def custom_code(results): return [a + b for a, b in results]", "offboard"),
]


@pytest.mark.parametrize(("text", "side"), GOOD)
@pytest.mark.parametrize("make", [list_of, numpy_of])
def test_good_modules(text: str, side: str, make: Any) -> None:
    assert Verdict.model_validate(verify(text, side, make)).ok


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("x = 1\ndef custom_code(window) return 1", "syntax_error", 2),
        ("x = 1", "no_custom_code", 1),
        ("def custom_code(): pass", "wrong_arguments", 1),
        ("x = 1\n1 / 0", "load_failed", 2),
        ("import sys\nsys.exit(0)", "load_failed", 2),
        ("import numpee", "missing_library", 1),
        ("def custom_code(window):\n    return 1 / 0", "call_failed", 2),
        ("def custom_code(window):\n    raise ValueError('no')", "call_failed", 2),
        ("def custom_code(window):\n    assert False", "call_failed", 2),
        ("import os\ndef custom_code(window):\n    raise SystemExit", "call_failed", 3),
        ("x = 1\ndef custom_code(window):\n    return {1}", "bad_value", 2),
        ("def custom_code(window): return 10**99", "bad_value", 1),
    ],
)
def test_refused(text: str, code: str, line: int) -> None:
    found = verdict(text)
    assert not found.ok
    assert (found.code, found.line) == (code, line)
    assert found.reason


def test_a_window_of_another_form_needs_an_example() -> None:
    text = "def custom_code(window):\n    return window.speed"
    found = verdict(text)
    assert (found.code, found.line) == ("call_failed", 2)
    assert "pass example=" in found.reason
    point = type("Point", (), {"speed": 1})
    assert verdict(text, example=(point,)).ok


def test_off_board_nobody_knows_the_form_so_doubt_is_a_warning() -> None:
    found = verdict("def custom_code(results): return results[0].strange", "offboard")
    assert found.ok
    assert "Pass example=" in found.warning
    found = verdict("def custom_code(results):\n    raise ValueError('on purpose')", "offboard")
    assert not found.ok


def test_with_an_example_there_is_no_doubt() -> None:
    found = verdict("def custom_code(results): return results[9]", "offboard", ([1, 2],))
    assert (found.ok, found.code, found.line) == (False, "call_failed", 1)
    assert "example=" not in found.reason


def test_a_forgotten_return_is_a_warning() -> None:
    found = verdict("def custom_code(window): sum(window)")
    assert found.ok
    assert "return missing" in found.warning


def test_a_reason_that_is_no_text() -> None:
    found = verdict("def custom_code(window): raise OSError('\\ud800' * 9999)")
    assert not found.ok
