"""The command `oodida`, each time in a process of its own.

An interpreter that begins anew spends a second of processor time on imports, and there are hundreds
of commands. So they are forked from one that has them: each with memory, environment, folder,
streams and status of its own. That the program begins by itself is shown where it is told to stop.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

#: What takes long to import, and does not look at the environment while it is.
_HEAVY = (
    "oodida", "typer", "rich.console", "rich.markdown", "rich.table", "rich.progress",
    "rich.traceback", "cryptography.x509",
)  # fmt: skip
_STREAMS = (("in", os.O_RDONLY), ("out", os.O_WRONLY), ("err", os.O_WRONLY))


class Done(NamedTuple):
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str


def run(
    *words: str,
    environ: Mapping[str, str] | None = None,
    answer: str = "",
    timeout_s: float = 120,
) -> Done:
    """Run `oodida` with these words. ``environ`` is added to ours, ``answer`` is what is typed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, _ in _STREAMS:
            (folder / name).write_text(answer if name == "in" else "")
        job = {
            "words": words, "environ": {**os.environ, **(environ or {})}, "folder": place,
            "cwd": str(Path.cwd()),
        }  # fmt: skip
        status = _server().carry_out(job, timeout_s)
        return Done(status, (folder / "out").read_text(), (folder / "err").read_text())


class _Server:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.command"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        atexit.register(self._end)

    def carry_out(self, job: Mapping[str, Any], timeout_s: float) -> int:
        told, asked = self._process.stdout, self._process.stdin
        if told is None or asked is None:
            raise RuntimeError
        late = threading.Timer(timeout_s, self._kill)
        late.start()
        try:
            asked.write(json.dumps(job) + "\n")
            asked.flush()
            line = told.readline()
        except BaseException:  # the test's own time is over
            self._kill()
            raise
        finally:
            late.cancel()
        if not line:
            _server.cache_clear()
            raise TimeoutError(f"oodida {' '.join(job['words'])} did not end in {timeout_s:g} s")
        return int(line)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        self._kill()
        self._process.communicate()


@cache
def _server() -> _Server:
    return _Server()


def _serve() -> None:
    for name in _HEAVY:
        __import__(name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(job: Mapping[str, Any]) -> None:
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environ"])
    for number, (name, flags) in enumerate(_STREAMS):
        opened = os.open(Path(job["folder"]) / name, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1)  # noqa: SIM115
    sys.argv = ["oodida", *job["words"]]
    from oodida.cli import main

    main()


if __name__ == "__main__":
    _serve()
