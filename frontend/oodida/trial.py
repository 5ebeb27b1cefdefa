"""A process in which the analyst's own machine tries modules, ready before it is needed.

It has the interpreter up and forks a child for each trial, so that a trial takes milliseconds and
finds nothing that another one left. It ends with the program that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
from typing import Any, Final

from protocol.errors import SetupError

#: Seconds that a trial may take where nobody says otherwise.
TIME_S: Final = 10
#: Limit, soft and hard.
_LIMITS: Final = [
    (resource.RLIMIT_AS, 2 * 1024**3, 2 * 1024**3),
    (resource.RLIMIT_CORE, 0, 0),
    (resource.RLIMIT_FSIZE, 1024**2, 1024**2),
]
#: Bytes of a verdict.
MAX_VERDICT: Final = 65_536
#: What the process runs. A job and its answer are a line of JSON with their length, and the bytes.
#: The child's own output is thrown away, so that a module cannot write the verdict by printing.
_PROGRAM: Final = """
import json, os, resource, select, signal, sys, time
from protocol import values, verification
limits, time_s, most = json.loads(sys.argv[1])

def tried(job, channel):
    for limit, soft, hard in limits:
        resource.setrlimit(limit, (soft, hard))
    dumps, leave, write = json.dumps, os._exit, os.write  # before the module can change them
    os.setsid()
    for descriptor in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    numpy = job["numpy"] and "numpy" in sys.modules
    make = verification.numpy_of if numpy else verification.list_of
    arrays = values.numpy_array if numpy else values.list_array
    example = tuple(values.unpack(e, arrays) for e in job["example"])
    write(channel, dumps(verification.verify(job["source"], job["side"], make, example)).encode())
    leave(0)

while head := sys.stdin.buffer.readline():
    job = values.from_text(sys.stdin.buffer.read(json.loads(head)))
    if job["numpy"]:
        try:
            import numpy
        except ImportError:
            pass
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            tried(job, write)
        finally:
            os._exit(1)
    os.close(write)
    out, until, late = b"", time.monotonic() + time_s, False
    while len(out) < most:
        if not select.select([read], [], [], max(0, until - time.monotonic()))[0]:
            late = True
            break
        chunk = os.read(read, most)
        if not chunk:
            break
        out += chunk
    os.close(read)
    try:
        os.killpg(child, signal.SIGKILL)  # what it left behind too
    except (ProcessLookupError, PermissionError):
        if late:
            os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.buffer.write(json.dumps([len(out), status, late]).encode() + b"\\n" + out)
    sys.stdout.buffer.flush()
"""


class Trier:
    """The process. Safe from several threads, one trial at a time.

    Args:
        time_s: seconds that a trial may take, of wall and of processor time.
    """

    def __init__(self, time_s: int = TIME_S) -> None:
        self.time_s = time_s
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start it if it does not run. Returns before it is up."""
        with self._lock:
            self._running()

    def run(self, job: bytes) -> tuple[bytes, int, bool]:
        """Try a module: what it wrote, its exit status (negative: the signal), if it took too long.

        Raises SetupError if no process can be started.
        """
        with self._lock:
            for _ in range(2):  # one that has ended meanwhile is replaced, once
                process = self._running()
                try:
                    return _ask(process, job)
                except (OSError, ValueError):
                    self._end()
                except BaseException:  # an interrupt: the answer would be taken for the next one's
                    self._end()
                    raise
        raise SetupError("the process in which modules are tried has ended twice")

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():  # after a fork it is the parent's
            self._process, self._owner = None, os.getpid()
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        environ = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
        # One thread: each thread of a numerical library reserves memory, which is limited.
        environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        # Out of processor time a process gets a signal that says so; at the hard limit it would be
        # killed without a word.
        limits = [(resource.RLIMIT_CPU, self.time_s, self.time_s + 2), *_LIMITS]
        settings = json.dumps([limits, self.time_s, MAX_VERDICT])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM, settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environ,
                start_new_session=True,
            )
        except OSError as e:
            raise SetupError(f"no process can be started to try the module in: {e}") from None
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _ask(process: subprocess.Popen[bytes], job: bytes) -> tuple[bytes, int, bool]:
    if process.stdin is None or process.stdout is None:
        raise ValueError
    process.stdin.write(json.dumps(len(job)).encode() + b"\n" + job)
    process.stdin.flush()
    head: Any = json.loads(process.stdout.readline())
    size, status, late = head
    return process.stdout.read(size), int(status), bool(late)


#: The one of this program: what is tried has nothing to do with who is connected to what.
TRIER: Final = Trier()
atexit.register(TRIER.close)
