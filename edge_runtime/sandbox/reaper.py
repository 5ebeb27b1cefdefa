"""Removing containers: those of ended calls, beside the calls, and those that a crash left."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from edge_runtime.sandbox.engine import EngineFailure, Engines, Found, label

log = logging.getLogger(__name__)

#: How long a container is left alone after its last call, in seconds. Its end and its removal take
#: the engine nearly as long as its start; in a moment they are in nobody's way, neither here nor in
#: the next vehicle. Until then nothing of the call is left in it but the guest, which waits.
DELAY_S: Final = 1.0
#: How long the engine may take to see that a container has ended by itself, in seconds.
END_S: Final = 1
#: How many are removed at once: as many as may start at once, or they would pile up.
AT_ONCE: Final = 4
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


class _Taken(NamedTuple):
    due: float
    name: str
    close: Callable[[], None]


class Reaper:
    """Removes containers in threads of its own, so that no caller waits for it."""

    def __init__(self, engines: Engines, owner: str, instance: str) -> None:
        self._engines, self._owner, self._instance = engines, owner, instance
        self._taken: queue.SimpleQueue[_Taken | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(n == 0,), name="sandbox-reaper", daemon=True)
            for n in range(AT_ONCE)
        ]
        for thread in self._threads:
            thread.start()

    def take(self, name: str, close: Callable[[], None] = lambda: None) -> None:
        """Remove this container soon. It may never have come to be.

        ``close`` lets our connection to it go, and with it the guest that reads from it.
        """
        if any(thread.is_alive() for thread in self._threads):
            self._taken.put(_Taken(time.monotonic() + DELAY_S, name, close))
        else:  # all of this instance is gone already
            close()

    def close(self) -> None:
        """Remove what is left of this instance, and return when all of it is gone."""
        self._stopping.set()
        for _ in self._threads:
            self._taken.put(None)
        for thread in self._threads:
            thread.join()
        try:
            with self._engines.borrow() as engine:
                for found in engine.find(instance=self._instance):
                    engine.remove(found.name)
        except EngineFailure as problem:
            log.warning("containers may be left until the next start: %s", problem)

    def _work(self, leftovers_too: bool) -> None:
        if leftovers_too:
            self._reap_leftovers()
        while (taken := self._taken.get()) is not None:
            self._stopping.wait(max(0.0, taken.due - time.monotonic()))
            taken.close()  # a guest that ends by itself saves the engine the killing of it
            self._remove(taken.name)

    def _remove(self, name: str) -> None:
        for remaining in reversed(range(_TRIES)):
            try:
                with self._engines.borrow() as engine:
                    engine.await_end(name, END_S)
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
