"""One process of the system: started, killed without a word, started again with what it left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_runtime.sandbox.reaper import _mark

#: How long a part may take to end when it is told to, in seconds.
STOP_S: Final = 20.0


class Part:
    """A program with its options, its state folder and its log. It never outlives us."""

    def __init__(self, name: str, program: str, options: Sequence[str], log: Path) -> None:
        self.name, self.log = name, log
        self._command = [sys.executable, "-P", "-m", program, *options, "--stop-on-eof"]
        self._process: subprocess.Popen[bytes] | None = None
        #: What the containers of every process that ever was this part are marked with.
        self.marks: list[str] = []
        #: How it ended where nobody had killed it or told it to stop.
        self.fell: list[int] = []
        self._killed = False

    @property
    def alive(self) -> bool:
        """True while its process runs, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.alive:
            return
        if self._process is not None and not self._killed:
            self.fell.append(self._process.returncode)
        self._killed = False
        self._forget()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
                start_new_session=True,
            )
        self.marks.append(_mark(self._process.pid))

    def kill(self) -> bool:
        """SIGKILL; False if there was nothing to be killed."""
        if not self.alive or self._process is None:
            return False
        self._killed = True
        self._process.kill()
        self._process.wait()
        return True

    def freeze(self) -> bool:
        """Have it stand still, as a machine that is suspended; False if there is nothing to."""
        return self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Let it end in good order."""
        self.thaw()
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self) -> bool:
        """Wait for its end; False if it had to be killed."""
        if self._process is None:
            return True
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGABRT)  # it writes into its log what it was at
            self.kill()
            return False
        finally:
            self._forget()
        return True

    def _signal(self, number: int) -> bool:
        if not self.alive or self._process is None:
            return False
        os.kill(self._process.pid, number)
        return True

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
