"""The child's part in a sandbox: loads the module, calls it, writes the answer, ends.

All of this runs in the process that the module may do with as it likes. The supervisor, which
forked it (`guest.py`), believes none of it.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from protocol import values, verification

#: Exit status if the child could not say how the call ended.
SPEECHLESS: Final = 70


def serve(
    request: bytes, cpu_s: int, processes: int, answer: int, printed: int, trace: int
) -> NoReturn:
    """Call the module, write the answer, end. Never returns into the supervisor.

    ``processes`` is how many there may be, 0 where the host sees to that.
    """
    write, leave = _write, os._exit  # the module may put something in their place
    try:
        answer = _take_descriptors(answer, printed, trace)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        faulthandler.register(signal.SIGXCPU, file=5, all_threads=False, chain=True)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        if processes:
            resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
        _draw_anew()
        said = values.to_text(_call(request))
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        write(answer, said)
        leave(0)
    except BaseException as problem:  # noqa: BLE001 - such as a module that broke the codec
        write(2, f"{type(problem).__name__}: {problem}\n".encode(errors="replace"))
    finally:
        leave(SPEECHLESS)


def _write(
    descriptor: int, data: bytes, write: Callable[[int, memoryview], int] = os.write
) -> None:
    view = memoryview(data)
    while view:
        view = view[write(descriptor, view) :]


def _take_descriptors(answer: int, printed: int, trace: int) -> int:
    """Keep these three and nothing else; standard input is empty, the outputs are `printed`."""
    os.setsid()
    # Out of the way of what is overwritten: at their lowest the three are above these anyway.
    high = [os.dup(answer), os.dup(trace)]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.dup2(high[0], 4, inheritable=False)
    os.dup2(high[1], 5, inheritable=False)
    os.close(3)
    os.closerange(6, os.sysconf("SC_OPEN_MAX"))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    return 4


def _draw_anew() -> None:
    """Random numbers that no call before has drawn: a library seeded itself at its import."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    # `random` does this by itself, after each fork.


def _call(request: bytes) -> dict[str, Any]:
    """Carry out the call; the answer as `edge_runtime.sandbox.classify` reads it."""
    call = values.from_text(request)
    bounds = values.Bounds(**call["bounds"])
    try:
        argument, previous = values.unpack(call["argument"]), values.unpack(call["previous"])
    except values.ValueProblem as problem:  # an array that this environment cannot have
        return {"kind": "refused", "code": "bad_argument", "reason": str(problem), "line": None}
    try:
        if call["verify"] is not None:
            make = verification.list_of if "numpy" not in sys.modules else verification.numpy_of
            example = () if argument is None else (argument,)
            value = verification.trial(call["source"], call["verify"], make, example)
        else:
            value = verification.load(call["source"])(argument, previous)
        return {"kind": "value", "value": values.pack(value, bounds)}
    except verification.Refusal as no:
        return {"kind": "refused", "code": no.code, "reason": no.reason, "line": no.line}
    except values.TooLarge as problem:
        return {"kind": "too_large", "reason": str(problem), "unit": problem.unit}
    except values.ValueProblem as problem:
        return {"kind": "bad_value", "reason": str(problem)}
    except BaseException as error:  # noqa: BLE001 - SystemExit too: it is the module's
        return {"kind": "error", "fault": verification.fault(error)}


def place(trace: bytearray) -> list[Any] | None:
    """The module's innermost line in the trace that a signal left: [number, function]."""
    mark = f'File "{verification.FILE}", line '
    for text in trace.decode(errors="replace").splitlines():
        number, _, function = text.partition(mark)[2].partition(" in ")
        if number.isdecimal():
            return [int(number[:9]), function[:200]]
    return None
