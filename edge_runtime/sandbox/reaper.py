"""Removing containers: those of ended calls, beside the calls, and those that a crash left."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from pathlib import Path
from typing import Final

from edge_runtime.sandbox.engine import EngineFailure, Engines, Found, label

log = logging.getLogger(__name__)

#: How long an ended container is left lying, in seconds. Removing one takes the engine nearly as
#: long as starting one; in a moment it is in nobody's way, neither here nor in the next vehicle.
DELAY_S: Final = 1.0
_TRIES: Final = 3
_PAUSE_S: Final = 0.5


def process_mark() -> str:
    """What tells this process from every other, also after a restart of the machine."""
    return _mark(os.getpid())


def _mark(pid: int) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    # The fields after the command's name, which may hold blanks and parentheses itself.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    namespace = Path("/proc/self/ns/pid").readlink()
    return f"{boot} {namespace} {pid} {fields[19]}"  # the time at which it started


def is_alive(mark: str) -> bool:
    """True if the process of this mark runs now, as far as can be seen from here."""
    try:
        return _mark(int(mark.split()[-2])) == mark
    except (OSError, ValueError, IndexError):
        return False


class Reaper:
    """Removes containers in a thread of its own, so that no caller waits for it."""

    def __init__(self, engines: Engines, owner: str, instance: str) -> None:
        self._engines, self._owner, self._instance = engines, owner, instance
        self._names: queue.SimpleQueue[tuple[float, str] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sandbox-reaper", daemon=True)
        self._thread.start()

    def take(self, name: str) -> None:
        """Remove this container soon. It may never have come to be."""
        self._names.put((time.monotonic() + DELAY_S, name))

    def close(self) -> None:
        """Remove what is left of this instance, and return when all of it is gone."""
        self._stopping.set()
        self._names.put(None)
        self._thread.join()
        try:
            with self._engines.borrow() as engine:
                for found in engine.find(instance=self._instance):
                    engine.remove(found.name)
        except EngineFailure as problem:
            log.warning("containers may be left until the next start: %s", problem)

    def _work(self) -> None:
        self._reap_leftovers()
        while (taken := self._names.get()) is not None:
            due, name = taken
            self._stopping.wait(max(0.0, due - time.monotonic()))
            self._remove(name)

    def _remove(self, name: str) -> None:
        for remaining in reversed(range(_TRIES)):
            try:
                with self._engines.borrow() as engine:
                    engine.remove(name)
                return
            except EngineFailure as problem:
                if not remaining:
                    log.warning("container %s is left for later: %s", name, problem)
                elif not self._stopping.is_set():
                    self._stopping.wait(_PAUSE_S)

    def _reap_leftovers(self) -> None:
        """Remove what a dead runtime of this owner left. A live one's is not touched."""
        try:
            with self._engines.borrow() as engine:
                for found in engine.find(owner=self._owner):
                    if not self._in_use(found):
                        log.info("removing %s, left by a runtime that is gone", found.name)
                        engine.remove(found.name)
        except EngineFailure as problem:
            log.warning("could not look for containers that a crash left: %s", problem)

    def _in_use(self, found: Found) -> bool:
        return is_alive(found.labels.get(label("process"), ""))
