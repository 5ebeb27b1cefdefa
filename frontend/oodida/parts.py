"""The programs that a system on this machine is made of: they do not outlive who started them."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from protocol.errors import SetupError

#: How long they may take to end when they are told to, in seconds.
STOP_S: Final = 15.0


class Parts:
    """The processes that were started, each with its log."""

    def __init__(self, home: Path) -> None:
        self._logs = home / "logs"
        self._logs.mkdir(exist_ok=True)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._files: list[IO[bytes]] = []

    def start(self, name: str, program: str, options: Sequence[str]) -> None:
        log = (self._logs / f"{name}.log").open("wb")
        self._files.append(log)
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-P", "-m", program, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # an interrupt from the keyboard is ours to hand on
        )

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until every process has said that it is ready."""
        until = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            for name, process in self._processes.items():
                if process.stdout is not None:
                    selector.register(process.stdout, selectors.EVENT_READ, name)
            while selector.get_map():
                found = selector.select(max(0.0, until - time.monotonic()))
                if not found:
                    late = ", ".join(str(key.data) for key in selector.get_map().values())
                    raise SetupError(f"not ready within {timeout_s:g} s: {late}")
                for key, _ in found:
                    if os.read(key.fd, 100).strip() != b"ready":
                        raise SetupError(f"{key.data} has ended: {self._last_words(key.data)}")
                    selector.unregister(key.fileobj)

    def _last_words(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """End them all: the orchestrator last, so that the others' goodbyes are heard."""
        first = self._processes.pop("orchestrator", None)
        self._end(list(self._processes.values()))
        self._end([first] if first is not None else [])
        for file in self._files:
            file.close()

    @staticmethod
    def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        until = time.monotonic() + STOP_S
        for process in processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
