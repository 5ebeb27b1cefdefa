"""The program in a sandbox's container: takes one call, answers with one frame, and ends.

    guest TIME_S CPU_S OUTPUT_BYTES ANSWER_BYTES [LIBRARY...]

It is process 1 of the container and only supervises. A forked child loads and calls the module;
what the child prints and what it answers come through two private pipes, so that nothing a module
writes to a descriptor can pass for a frame. When the child has ended, every process that is left
is killed, and the report is written: a line of JSON in which the supervisor says what it saw, and
the child's answer, unread. A frame is four bytes of length and as many bytes. The one before the
report is empty and says that the interpreter and the libraries are up.

Beside the standard library it needs only the two files of `protocol` that are baked in with it.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

_HERE: Final = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - 10 ms of imports
# Last, so that nothing here or in the libraries can stand in for the standard library.
sys.path += [place for place in (_HERE, f"{_HERE}/lib") if place not in sys.path]

from protocol import values, verification  # noqa: E402 - after the path it is found on

MAX_REQUEST: Final = 64 * 1024 * 1024
#: How often the counters are looked at, in milliseconds. Everything else wakes us by itself.
TICK_MS: Final = 50
#: How long a module may take to die of a limit before it is killed, in seconds.
GRACE_S: Final = 0.3
PR_SET_DUMPABLE: Final = 4
#: Exit status if the child could not say how the call ended.
SPEECHLESS: Final = 70
#: Counter -> where cgroup v1 and v2 have it, and the word before it.
_COUNTERS: Final = {
    "oom_kills": ("memory/memory.oom_control", "memory.events", "oom_kill"),
    "forks_refused": ("pids/pids.events", "pids.events", "max"),
    "memory_peak": ("memory/memory.max_usage_in_bytes", "memory.peak", ""),
}


def main(arguments: list[str]) -> None:
    """Serve one call on descriptors 0, 1 and 2."""
    time_s, cpu_s, output, answer = float(arguments[0]), *map(int, arguments[1:4])
    for library in arguments[4:]:
        __import__(library)
    _hide()
    # A module that sends us a signal must find no handler; Python installs one for this.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _write(1, bytes(4))
    request = _read_request()
    if request is None:
        return  # the host went away
    gc.freeze()  # what is loaded by now is shared with the child, not copied by its collector
    report = _Supervisor(time_s, output, answer).serve(request, cpu_s)
    _write(1, len(report).to_bytes(4, "big") + report)


def _hide() -> None:
    """Make this process, and the child, one that no other may trace or look into by /proc."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _read_request() -> bytes | None:
    head = _read(4)
    size = int.from_bytes(head, "big")
    if len(head) < 4 or size > MAX_REQUEST:
        return None
    body = _read(size)
    return body if len(body) == size else None


def _read(count: int) -> bytes:
    data = bytearray()
    while len(data) < count and (chunk := os.read(0, min(count - len(data), 1 << 20))):
        data += chunk
    return bytes(data)


def _write(
    descriptor: int, data: bytes, write: Callable[[int, memoryview], int] = os.write
) -> None:
    view = memoryview(data)
    while view:  # with the `os.write` of the start: the module may put something in its place
        view = view[write(descriptor, view) :]


class _Supervisor:
    """Watches one child until it ends or goes beyond a limit, and then leaves nothing running."""

    def __init__(self, time_s: float, output: int, answer: int) -> None:
        self.time_s, self.output, self.answer_size = time_s, output, answer
        self.answer, self.trace = bytearray(), bytearray()
        self.printed = 0
        self.counters = {name: _Counter(*where) for name, where in _COUNTERS.items()}
        self.stopped: str | None = None  # the limit for which we stopped the child
        self.status: int | None = None  # as waitpid gives it
        self.cpu_s = 0.0

    def serve(self, request: bytes, cpu_s: int) -> bytes:
        """Run the call in a child; return the report."""
        answer, printed, trace, wake = os.pipe(), os.pipe(), os.pipe(), os.pipe()
        os.set_blocking(wake[1], False)
        signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.started = time.monotonic()
        self.child = os.fork()
        if self.child == 0:
            _be_the_module(request, cpu_s, answer[1], printed[1], trace[1])
        self.readers: dict[int, Callable[[bytes], None]] = {
            answer[0]: self._answered,
            printed[0]: self._printed,
            trace[0]: self._traced,
            wake[0]: lambda _: None,
        }
        for descriptor in self.readers:
            os.set_blocking(descriptor, False)
        for ends in (answer, printed, trace):
            os.close(ends[1])
        self._watch()
        self._end_all()
        for descriptor in self.readers:  # what was still in the pipes
            while self._drain(descriptor):
                pass
        return self._report()

    def _watch(self) -> None:
        poll = select.poll()
        for descriptor in self.readers:
            poll.register(descriptor, select.POLLIN)
        deadline = self.started + self.time_s
        while self.status is None:
            for descriptor, _ in poll.poll(TICK_MS):
                if not self._drain(descriptor):
                    poll.unregister(descriptor)
            self._reap()
            now = time.monotonic()
            if self.stopped is None:
                self.stopped = "time" if now > deadline else self._counted()
                if self.stopped is None:
                    continue
                deadline = now
                # The handler writes down where the module is; then it dies of this signal.
                os.kill(self.child, signal.SIGXCPU)
            elif now > deadline + GRACE_S or self.stopped in ("output", "answer"):
                return

    def _drain(self, descriptor: int) -> bool:
        """Take what is in a pipe; False when it has ended, or is empty at the end."""
        try:
            chunk = os.read(descriptor, 65_536)
        except BlockingIOError:
            return False
        self.readers[descriptor](chunk)
        return bool(chunk)

    def _answered(self, chunk: bytes) -> None:
        self.answer += chunk[: self.answer_size + 1 - len(self.answer)]
        if len(self.answer) > self.answer_size:
            self.stopped = self.stopped or "answer"

    def _printed(self, chunk: bytes) -> None:
        room = self.output - self.printed
        if len(chunk) > room:
            self.stopped = self.stopped or "output"
        if room > 0:
            _write(2, chunk[:room])
        self.printed += min(len(chunk), room)

    def _traced(self, chunk: bytes) -> None:
        self.trace += chunk[: 65_536 - len(self.trace)]

    def _counted(self) -> str | None:
        """The limit of which the kernel says that it was hit, whatever the module made of it."""
        if self.counters["oom_kills"].read():
            return "memory"
        return "processes" if self.counters["forks_refused"].read() else None

    def _reap(self) -> None:
        """Take the end of the child, and of orphans that were left to us."""
        with suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.child:
                    self.status, self.cpu_s = status, usage.ru_utime + usage.ru_stime

    def _end_all(self) -> None:
        with suppress(ProcessLookupError):
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)  # whatever runs in this container
            else:
                os.killpg(self.child, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, 0)
                if pid == self.child:
                    self.status, self.cpu_s = status, usage.ru_utime + usage.ru_stime

    def _report(self) -> bytes:
        code = os.waitstatus_to_exitcode(self.status or 0)
        seen = {
            "stopped": self.stopped or self._counted(),
            "exit": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "seconds": time.monotonic() - self.started,
            "cpu_s": self.cpu_s,
            "printed": self.printed,
            "at": self._place(),
            **{name: counter.read(patient=True) for name, counter in self.counters.items()},
        }
        return json.dumps(seen).encode() + b"\n" + bytes(self.answer)

    def _place(self) -> list[Any] | None:
        """The module's innermost line in the trace that a signal left: [number, function]."""
        mark = f'File "{verification.FILE}", line '
        for text in self.trace.decode(errors="replace").splitlines():
            number, _, function = text.partition(mark)[2].partition(" in ")
            if number.isdecimal():
                return [int(number[:9]), function[:200]]
        return None


class _Counter:
    """A number that the kernel keeps for this container."""

    def __init__(self, v1: str, v2: str, word: str) -> None:
        self.word = word
        self.descriptor: int | None = None
        if os.getpid() != 1:
            return  # not in a container: it would be somebody else's
        for place in (v1, v2):
            with suppress(OSError):
                self.descriptor = os.open(f"/sys/fs/cgroup/{place}", os.O_RDONLY)
                return

    def read(self, *, patient: bool = False) -> int | None:
        """The number; None where it cannot be seen. Out of memory, even this takes patience."""
        for _ in range(20 if patient else 1):
            if self.descriptor is None:
                return None
            with suppress(OSError, ValueError):
                lines = os.pread(self.descriptor, 4096, 0).decode().splitlines()
                return next(
                    (int(line.split()[-1]) for line in lines if self.word in ("", line.split()[0])),
                    None,
                )
            time.sleep(0.005)
        return None


def _be_the_module(request: bytes, cpu_s: int, answer: int, printed: int, trace: int) -> NoReturn:
    """The child: call the module, write the answer, end. Never returns into the supervisor."""
    write, leave = _write, os._exit
    try:
        answer = _take_descriptors(answer, printed, trace)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        faulthandler.register(signal.SIGXCPU, file=5, all_threads=False, chain=True)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
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


def _take_descriptors(answer: int, printed: int, trace: int) -> int:
    """Keep these three and nothing else; standard input is empty, the outputs are `printed`."""
    os.setsid()
    high = [os.dup(answer), os.dup(trace)]  # out of the way of what is overwritten
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
            value = verification.verify(call["source"], call["verify"], make, example)
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


def run() -> NoReturn:
    """The program: serve one call, end."""
    main(sys.argv[1:])
    os._exit(0)  # nothing is left to tidy up, and the container ends with us


if __name__ == "__main__":
    run()
