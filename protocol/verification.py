"""What it takes for a source to be a module: it loads, has `custom_code`, and that can be called.

Runs hostile code, so only ever inside the sandbox or, for the analyst's own first check, in a
process of its own. Needs only the standard library, because it is baked into the sandbox images,
and of that only what is quickly imported: `ast` and `inspect` alone would be a third of the time
that the interpreter takes to start.
"""

from __future__ import annotations

import math
import sys
import types
from array import array
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from protocol import values

FUNCTION: Final = "custom_code"
FILE: Final = "custom_code.py"
#: Errors that a made-up argument of the wrong form causes in a module that may be right.
_FORM_ERRORS: Final = (TypeError, KeyError, IndexError, AttributeError, ValueError)


#: The lines of the source loaded last. `linecache` could not be imported once descriptors run out.
_lines: list[str] = []


class Refusal(Exception):
    """The source is no module; with the line to look at, and a stable code."""

    def __init__(self, code: str, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.line = code, reason, line


class Entry(NamedTuple):
    """A loaded module's function."""

    function: Callable[..., Any]
    takes_previous: bool

    def __call__(self, argument: Any, previous: Any) -> Any:
        """Call `custom_code` the way it asks for."""
        return self.function(argument, previous) if self.takes_previous else self.function(argument)


def load(source: str) -> Entry:
    """Execute the source as a module of its own and find its `custom_code`.

    Raises Refusal if there is none of the right form, and whatever the source itself raises.
    """
    try:
        code = compile(source, FILE, "exec", dont_inherit=True)
    except SyntaxError as e:
        raise Refusal("syntax_error", f"{type(e).__name__}: {e.msg}", e.lineno) from None
    except (ValueError, RecursionError, MemoryError) as e:  # NUL bytes; nesting beyond the parser
        raise Refusal("syntax_error", f"the source cannot be parsed: {e}") from None
    _lines[:] = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    module = types.ModuleType(FUNCTION)
    module.__file__ = FILE
    vars(module)["__loader__"] = _Loader(source)
    sys.modules[FUNCTION] = module
    exec(code, module.__dict__)  # noqa: S102 - the sandbox is here to run this
    return _entry(module, code)


class _Loader:
    """Where tracebacks and `inspect` get the module's lines from."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, _name: str) -> str:
        return self._source


def _entry(module: types.ModuleType, code: types.CodeType) -> Entry:
    function = getattr(module, FUNCTION, None)
    if function is None:
        near = [n for n, v in vars(module).items() if isinstance(v, types.FunctionType)]
        found = f"; it defines {', '.join(near[:5])}" if near else ""
        raise Refusal("no_custom_code", f"the module defines no function {FUNCTION}{found}", 1)
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", code.co_firstlineno)
    if not callable(function):
        raise Refusal("no_custom_code", f"{FUNCTION} is no function", line)
    takes = _plainly_takes(function)
    if takes is not None and (2 in takes or 1 in takes):
        return Entry(function, 2 in takes)
    import inspect

    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise Refusal("wrong_arguments", f"{FUNCTION} must not be async", line)
    try:
        signature = inspect.signature(function)
        takes_two = _accepts(signature.bind, 2)
        if not takes_two and not _accepts(signature.bind, 1):
            raise Refusal(
                "wrong_arguments",
                f"{FUNCTION}{signature} must take one argument, or two of which the second is "
                "the previous iteration's value",
                line,
            )
    except ValueError:  # a builtin without a signature, such as custom_code = max
        takes_two = False
    return Entry(function, takes_two)


def _plainly_takes(function: Any) -> range | None:
    """How many arguments a function takes; None for what only `inspect` can tell."""
    if type(function) is not types.FunctionType or vars(function):  # decorated, perhaps
        return None
    code = function.__code__
    asynchronous, variadic = code.co_flags & 0x280, code.co_flags & 0x04
    if asynchronous or set(_keyword_only(code)) - set(function.__kwdefaults__ or ()):
        return None
    most = max(code.co_argcount, 2) if variadic else code.co_argcount
    return range(code.co_argcount - len(function.__defaults__ or ()), most + 1)


def _keyword_only(code: types.CodeType) -> tuple[str, ...]:
    return code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]


def _accepts(bind: Callable[..., Any], count: int) -> bool:
    try:
        bind(*range(count))
    except TypeError:
        return False
    return True


def _line_of_source(number: int) -> str:
    return _lines[number - 1] if 0 < number <= len(_lines) else ""


def fault(error: BaseException) -> dict[str, Any]:
    """An error's type, message and the module's own lines: a `protocol.outcome.Fault` as a dict."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == FILE:
            lines.append(
                {
                    "number": trace.tb_lineno,
                    "function": code.co_name[:200],
                    "text": _line_of_source(trace.tb_lineno).strip()[:500],
                }
            )
        trace = trace.tb_next
    kind = type(error).__qualname__[:200]
    try:
        message = str(error)[:2000]
    except Exception:  # noqa: BLE001 - the module's own __str__ may do anything
        message = "(its message cannot be shown)"
    return {
        "type": kind,
        "message": message.encode(errors="replace").decode(),
        "lines": lines[-20:],
    }


def verify(
    source: str, side: str, make_array: Callable[[list[float]], Any], example: tuple[Any, ...] = ()
) -> dict[str, Any]:
    """Try a source the way it will be called; a `protocol.messages.Verdict` as a dict.

    ``side`` is "onboard" or "offboard"; ``make_array`` makes an array the way the environment has
    them; ``example`` holds the argument to try, and is empty when the forms we know are tried.
    """
    return trial(source, side, make_array, example)[0]


def trial(
    source: str, side: str, make_array: Callable[[list[float]], Any], example: tuple[Any, ...] = ()
) -> tuple[dict[str, Any], Any]:
    """As `verify`, and the value that was returned; None if there was none."""
    try:
        return _trial(source, side, make_array, example)
    except Refusal as refusal:
        return _no(refusal.code, refusal.reason, refusal.line), None
    except ImportError as e:
        missing = e.name or str(e)
        return _no("missing_library", f"{e}: the environment has no {missing}", _line(e)), None
    except BaseException as e:  # noqa: BLE001 - whatever the module raises while it loads
        return _no("load_failed", f"{type(e).__name__}: {e}"[:2000], _line(e)), None


def _trial(
    source: str, side: str, make_array: Callable[[list[float]], Any], example: tuple[Any, ...]
) -> tuple[dict[str, Any], Any]:
    entry = load(source)
    failures: list[tuple[dict[str, Any], bool]] = []
    for argument in example or _forms(side, make_array):
        try:
            value = entry(argument, None)
        except BaseException as e:  # noqa: BLE001 - SystemExit too: the module must return
            about_form = isinstance(e, _FORM_ERRORS) and not _raised_on_purpose(source, e)
            reason = f"{FUNCTION} raised {type(e).__name__}: {e}"[:2000]
            failures.append((_no("call_failed", reason, _line(e)), about_form))
            continue
        try:
            values.pack(value)
        except values.ValueProblem as e:
            at = entry.function.__code__.co_firstlineno if _has_code(entry.function) else None
            failures.append(
                (_no("bad_value", f"{FUNCTION} returned what may not travel: {e}", at), False)
            )
            continue
        warning = f"{FUNCTION} returned None: is a return missing?" if value is None else ""
        return {"ok": True, "warning": warning}, value
    return _judge(failures, side, guessed=not example), None


def _judge(
    failures: list[tuple[dict[str, Any], bool]], side: str, *, guessed: bool
) -> dict[str, Any]:
    """What to say of a module that no argument suited."""
    certain = [verdict for verdict, about_form in failures if not about_form]
    if guessed and not certain and side == "offboard":
        # What the vehicles will return is not known here, so this is no proof against the module.
        tried = failures[0][0]["reason"]
        warning = f"not tried: the vehicles' values are of a form we do not know ({tried}). "
        return {"ok": True, "warning": warning + "Pass example=[...] to have it checked."}
    verdict = dict(certain[0] if certain else failures[0][0])
    if guessed and side == "onboard":
        verdict["reason"] += ". It was tried on a window of 100 numbers from 0 to 120"
        verdict["reason"] += (
            ": if it needs one of another form, pass example=...; "
            "for NumPy arrays, environment='science'"
            if not certain
            else "; example=... gives it another"
        )
    return verdict


def _no(code: str, reason: str, line: int | None) -> dict[str, Any]:
    clean = reason.encode(errors="replace").decode()
    return {"ok": False, "code": code, "reason": clean, "line": line}


def _has_code(function: Any) -> bool:
    return hasattr(function, "__code__")


def _line(error: BaseException) -> int | None:
    lines = fault(error)["lines"]
    return lines[-1]["number"] if lines else None


def _raised_on_purpose(source: str, error: BaseException) -> bool:
    """True if the module's last line in the traceback is a `raise` or `assert` of its own."""
    import ast

    line = _line(error)
    return any(
        isinstance(node, ast.Raise | ast.Assert)
        and node.lineno <= (line or 0) <= (node.end_lineno or 0)
        for node in ast.walk(ast.parse(source))
    )


class _AnyKey(dict[str, Any]):
    """A dict that has every key, for modules that look signals or fields up by name."""

    def __init__(self, make: Callable[[str], Any], *keys: str) -> None:
        super().__init__({key: make(key) for key in keys})
        self._make = make

    def __missing__(self, key: str) -> Any:
        return self._make(key)


def _forms(side: str, make_array: Callable[[list[float]], Any]) -> Iterator[Any]:
    """The arguments that a module of this side may expect, the likeliest first."""

    def wave(k: int = 0) -> Any:
        return make_array([60.0 + k + 60.0 * math.sin(i / 8.0) for i in range(100)])

    if side == "onboard":
        yield wave()
        yield _AnyKey(lambda _: wave(), "VEHICLE_SPEED", "ENGINE_RPM")
        return
    counts = ("n", "num", "count", "samples", "size", "weight", "total")

    def field(key: str) -> Any:
        words = key.lower().replace("-", "_").split("_")
        return 10 if any(w in counts for w in words) else make_array([1.0, 2.0, 3.0])

    yield [1.0, 2.0, 4.0]
    yield [make_array([1.0 + k, 2.0 + k, 3.0 + k]) for k in range(3)]
    yield [(1.0 + k, 2.0 + k) for k in range(3)]
    yield [_AnyKey(lambda _: 2.0, "value") for _ in range(3)]
    yield [_AnyKey(field, "value") for _ in range(3)]
    yield [_AnyKey(lambda _: make_array([1.0, 2.0, 3.0]), "value") for _ in range(3)]


def list_of(numbers: list[float]) -> list[float]:
    """How an environment without NumPy has an array."""
    return list(numbers)


def numpy_of(numbers: list[float]) -> Any:
    """How an environment with NumPy has an array."""
    return values.numpy_array("<f8", [len(numbers)], array("d", numbers).tobytes())
