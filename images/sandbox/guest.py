"""The program in a sandbox's container: serves calls, one forked process each.

    guest [LIBRARY...]

It is process 1 of the container and only supervises. An empty frame says that it is up, another one
that the libraries are imported; then calls are served until the input ends.
A call comes as two frames, its limits and its request; a frame is four bytes of length and as many
bytes. A forked child loads and calls the module (`module_side.py`); what it prints and what it
answers come through private pipes, so that nothing that a module writes to a descriptor can pass
for a frame. When the child has ended, every process that is left is killed, and the report is
written: a line of JSON in which the supervisor says what it saw, and the child's answer, unread.

Beside the standard library it needs only the files that are baked in with it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from . import module_side

MAX_REQUEST: Final = 64 * 1024 * 1024
SCRATCH: Final = "/tmp"  # noqa: S108 - the container's own
#: How often the counters are looked at, in milliseconds. Everything else wakes us by itself.
TICK_MS: Final = 50
#: How long a module may take to die of a limit before it is killed, in seconds.
GRACE_S: Final = 0.3
PR_SET_DUMPABLE: Final = 4
#: Counter -> where cgroup v1 and v2 have it, and the word before it.
_COUNTERS: Final = {
    "oom_kills": ("memory/memory.oom_control", "memory.events", "oom_kill"),
    "forks_refused": ("pids/pids.events", "pids.events", "max"),
    "memory_peak": ("memory/memory.max_usage_in_bytes", "memory.peak", ""),
}


def main(libraries: list[str]) -> None:
    """Serve calls on descriptors 0, 1 and 2."""
    calls, reports = _take_channels()
    _write(reports, bytes(4))
    for library in libraries:
        with suppress(BaseException):  # the module that wants it is told, when it imports it
            __import__(library)
    with suppress(BaseException):
        sys.stdout.flush()  # or each child would print it once more
    _hide()
    # A module that sends us a signal must find no handler; Python installs one for this.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    supervisor = _Supervisor()
    gc.freeze()  # what is loaded by now is shared with the children, not copied by their collectors
    _write(reports, bytes(4))
    while (limits := _read_frame(calls)) and (request := _read_frame(calls)):
        time_s, cpu_s, output, answer, processes = json.loads(limits)
        supervisor.begin(time_s, output, answer)
        report = supervisor.serve(request, cpu_s, processes)
        _write(reports, len(report).to_bytes(4, "big") + report)


def _take_channels() -> tuple[int, int]:
    """Keep both to ourselves: a library that prints or reads at its import does not meet them."""
    channels = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return channels


def _hide() -> None:
    """Make this process, and the child, one that no other may trace or look into by /proc."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _read_frame(calls: int) -> bytes | None:
    size = int.from_bytes(_read(calls, 4), "big")
    body = _read(calls, size) if size <= MAX_REQUEST else b""
    return body if len(body) == size else None  # else the host went away


def _read(descriptor: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count and (chunk := os.read(descriptor, min(count - len(data), 1 << 20))):
        data += chunk
    return bytes(data)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class _Supervisor:
    """Watches one child at a time until it ends or goes beyond a limit; leaves nothing running."""

    def __init__(self) -> None:
        self.counters = {name: _Counter(*where) for name, where in _COUNTERS.items()}
        self.wake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def begin(self, time_s: float, output: int, answer: int) -> None:
        """Forget the call before."""
        self.time_s, self.output, self.answer_size = time_s, output, answer
        self.answer, self.trace, self.printed = bytearray(), bytearray(), 0
        self.stopped: str | None = None  # the limit for which we stopped the child
        self.status: int | None = None  # as waitpid gives it
        self.cpu_s = 0.0

    def serve(self, request: bytes, cpu_s: int, processes: int) -> bytes:
        """Run the call in a child; return the report."""
        pipes = [os.pipe() for _ in range(3)]
        self.started = time.monotonic()
        self.child = os.fork()
        if self.child == 0:
            module_side.serve(request, cpu_s, processes, *(write for _, write in pipes))
        take = (self._answered, self._printed, self._traced, lambda _: None)
        ends = (*(read for read, _ in pipes), self.wake)
        self.readers: dict[int, Callable[[bytes], None]] = dict(zip(ends, take, strict=True))
        for descriptor in self.readers:
            os.set_blocking(descriptor, False)
        for _, write in pipes:
            os.close(write)
        self._watch()
        self._end_all()
        for descriptor in self.readers:  # what was still in the pipes
            while self._drain(descriptor):
                pass
        for read, _ in pipes:
            os.close(read)
        return self._report()

    def _watch(self) -> None:
        poll = select.poll()
        for descriptor in self.readers:
            poll.register(descriptor, select.POLLIN)
        deadline = self.started + self.time_s
        while True:
            for descriptor, _ in poll.poll(TICK_MS):
                if not self._drain(descriptor):
                    poll.unregister(descriptor)
            self._reap(os.WNOHANG)
            now = time.monotonic()
            if self.status is not None:
                return  # it has ended by itself; the report looks at the counters once more
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
        _write(2, chunk[:room])
        self.printed += min(len(chunk), room)

    def _traced(self, chunk: bytes) -> None:
        self.trace += chunk[: 65_536 - len(self.trace)]

    def _counted(self) -> str | None:
        """The limit of which the kernel says that it was hit, whatever the module made of it."""
        if self.counters["oom_kills"].read():
            return "memory"
        return "processes" if self.counters["forks_refused"].read() else None

    def _reap(self, how: int) -> None:
        """Take the end of the child, and of orphans that were left to us."""
        with suppress(ChildProcessError):
            while (found := os.wait4(-1, how))[0]:
                if found[0] == self.child:
                    self.status, self.cpu_s = found[1], found[2].ru_utime + found[2].ru_stime

    def _end_all(self) -> None:
        with suppress(ProcessLookupError):
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)  # whatever runs in this container
            else:
                os.killpg(self.child, signal.SIGKILL)
        self._reap(0)

    def _report(self) -> bytes:
        code = os.waitstatus_to_exitcode(self.status or 0)
        seen = {
            "stopped": self.stopped or self._counted(),
            "exit": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "seconds": time.monotonic() - self.started,
            "cpu_s": self.cpu_s,
            "printed": self.printed,
            "at": module_side.place(self.trace),
            "left": len(os.listdir(SCRATCH)) if os.getpid() == 1 else 0,  # noqa: PTH208
            **{name: counter.read(patient=True) for name, counter in self.counters.items()},
        }
        return json.dumps(seen).encode() + b"\n" + bytes(self.answer)


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


def run() -> NoReturn:
    """The program: serve, end."""
    main(sys.argv[1:])
    os._exit(0)  # nothing is left to tidy up, and the container ends with us
