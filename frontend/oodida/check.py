"""The analyst's own first check of a module, in a process of its own with limits.

The cloud checks again in its sandbox; this one is for an answer at once, before anything is sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from typing import Any, Final

from protocol import values
from protocol.errors import ModuleRefused, SetupError
from protocol.messages import Verdict
from protocol.module import Environment, Side

TIME_S: Final = 10
_LIMITS: Final = [
    (resource.RLIMIT_CPU, TIME_S),
    (resource.RLIMIT_AS, 2 * 1024**3),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 1024**2),
]
#: What the process runs. Its own output is thrown away, so that a module cannot write the verdict.
_PROGRAM: Final = """
import json, os, resource, sys
for limit, most in json.loads(sys.argv[1]):
    resource.setrlimit(limit, (most, most))
channel, dumps, leave = os.dup(1), json.dumps, os._exit  # before the module can change them
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
from protocol import values, verification
job = values.from_text(sys.stdin.buffer.read())
numpy = job["numpy"]
if numpy:
    try:
        import numpy as _
    except ImportError:
        numpy = False
make = verification.numpy_of if numpy else verification.list_of
arrays = values.numpy_array if numpy else values.list_array
example = tuple(values.unpack(e, arrays) for e in job["example"])
verdict = verification.verify(job["source"], job["side"], make, example)
with os.fdopen(channel, "wb") as out:
    out.write(dumps(verdict).encode())
    out.flush()
    leave(0)
"""


def check(
    source: str, side: Side, environment: Environment, example: values.Tree = None
) -> Verdict:
    """Try a module; the verdict.

    A library that is not installed here but is in the environment is no reason to refuse: then
    the verdict is the cloud's.
    """
    job = {
        "source": source,
        "side": side.value,
        "numpy": environment is Environment.SCIENCE,
        "example": [] if example is None else [example],
    }
    verdict = _try(values.to_text(job))
    if verdict.code == "missing_library" and environment is not Environment.MINIMAL:
        return Verdict(ok=True, warning=f"not tried here: {verdict.reason}")
    return verdict


def require(
    source: str, side: Side, environment: Environment, example: values.Tree, name: str
) -> Verdict:
    """As `check`, but a refused module raises ModuleRefused."""
    verdict = check(source, side, environment, example)
    if not verdict.ok:
        where = f"line {verdict.line}: " if verdict.line else ""
        raise ModuleRefused(
            f"{name} was refused: {where}{verdict.reason}",
            reason_code=verdict.code,
            line=verdict.line,
            reason=verdict.reason,
        )
    return verdict


def _try(job: bytes) -> Verdict:
    environ = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
    # One thread: each thread of a numerical library reserves memory, which is limited.
    environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, json.dumps(_LIMITS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
        )
    except OSError as e:
        raise SetupError(f"no process can be started to try the module in: {e}") from None
    try:
        out, _ = process.communicate(job, timeout=TIME_S)
    except subprocess.TimeoutExpired:
        return Verdict(
            ok=False, code="time", reason=f"it did not return within {TIME_S} s when it was tried"
        )
    finally:
        with contextlib.suppress(ProcessLookupError):  # children of the module too
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    return _verdict(out, process.returncode)


def _verdict(out: bytes, status: int) -> Verdict:
    try:
        found: Any = json.loads(out[:65_536])
        return Verdict.model_validate(found)
    except ValueError:
        if status == -signal.SIGXCPU:
            return Verdict(ok=False, code="time", reason=f"it computed for more than {TIME_S} s")
        how = f"signal {-status}" if status < 0 else f"status {status}"
        reason = f"its process ended with {how} before it returned"
        return Verdict(ok=False, code="died", reason=reason)
