"""Making environments to order: on a worker that has a registry to push them to."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_runtime.environments.build import ensure
from edge_runtime.environments.pip import Source
from edge_runtime.environments.resolve import fetch, resolve
from edge_runtime.sandbox import Call, Sandbox
from edge_runtime.sandbox.engine import EngineFailure
from edge_runtime.sandbox.image_store import ImageStore
from protocol.environment import MAX_WHEEL_BYTES, Lock, Reason, refused
from protocol.errors import EnvironmentRefused
from protocol.limits import Limits
from protocol.messages import BuildOrder, BuildReport, ErrorReply, WheelOrder, new_id
from protocol.outcome import Outcome
from protocol.values import Tree

log = logging.getLogger(__name__)

#: Bytes of wheels that were sent and not built with yet.
MAX_WAITING: Final = 4 * MAX_WHEEL_BYTES
#: How long a wheel stays that no order needs, in seconds: its order comes right behind it.
KEEP_S: Final = 60.0


class Workshop:
    """Resolves, locks, builds and pushes; one environment at a time, because the disk is one.

    Args:
        folder: where wheels lie until they are built with.
        base: the image that environments stand on.
        registry: where they are pushed, such as `127.0.0.1:5000`.
        source: where libraries come from.
        sandbox: in which libraries are compiled.
    """

    def __init__(
        self, folder: Path, base: str, registry: str, source: Source, sandbox: Sandbox
    ) -> None:
        self._wheels, self._base, self._registry = folder / "wheels", base, registry
        self._source, self._sandbox = source, sandbox
        self._store = ImageStore()
        self._turn = asyncio.Lock()
        self._running: dict[str, BuildOrder] = {}
        shutil.rmtree(self._wheels, ignore_errors=True)  # parts are sent again with each order
        self._wheels.mkdir(parents=True)

    def take(self, part: WheelOrder) -> None:
        """Keep a part of a wheel. One that does not follow the last, or is too much, is dropped."""
        if part.offset == 0:
            self._tidy()
        path = self._wheels / part.sha256
        size = path.stat().st_size if path.exists() else 0
        if part.offset < size and _holds(path, part):  # sent again, or for another order
            os.utime(path)
            return
        if part.offset == 0 and size:
            path.unlink()
            size = 0
        waiting = sum(file.stat().st_size for file in self._wheels.iterdir())
        if part.offset != size or waiting + len(part.data) > MAX_WAITING:
            log.warning("dropped a part of the wheel %s", part.sha256[:12])
            return
        with path.open("ab") as file:
            file.write(part.data)

    async def build(self, order: BuildOrder, report: Callable[[BuildReport], None]) -> None:
        """Carry out an order; every step is reported, and how it ended.

        One that comes again while it is carried out is the same order.
        """
        if order.id in self._running:
            return
        self._running[order.id] = order
        try:
            await self._carry_out(order, report)
        finally:
            del self._running[order.id]
            self._tidy()

    def _tidy(self) -> None:
        """Remove the wheels that no order needs, however theirs ended; not those of one to come."""
        needed = {w.sha256 for order in self._running.values() for w in order.spec.wheels}
        for path in self._wheels.iterdir():
            if path.name not in needed and time.time() - path.stat().st_mtime > KEEP_S:
                path.unlink()

    async def _carry_out(self, order: BuildOrder, report: Callable[[BuildReport], None]) -> None:
        loop, cancelled = asyncio.get_running_loop(), threading.Event()

        def say(**what: Any) -> None:
            report(BuildReport(id=new_id(), order=order.id, **what))

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(lambda: say(state="building", progress=text))

        try:
            async with asyncio.timeout(order.timeout_s), self._turn:
                done = await asyncio.to_thread(self._build, order, progress, cancelled)
        except TimeoutError:
            cancelled.set()
            late = refused(Reason.TIMEOUT, f"It took more than {order.timeout_s:g} s.")
            say(state="refused", error=_error(late))
        except asyncio.CancelledError:
            cancelled.set()
            raise
        except EnvironmentRefused as problem:
            say(state="refused", error=_error(problem))
        except EngineFailure as problem:
            failed = refused(Reason.BUILD_FAILED, f"The worker's container engine: {problem}")
            say(state="refused", error=_error(failed))
        except Exception as bug:  # one order must not take the worker along
            log.exception("the environment %s could not be made", order.id[:12])
            failed = refused(Reason.BUILD_FAILED, f"The worker failed: {type(bug).__name__}")
            say(state="refused", error=_error(failed))
        else:
            lock, image = done
            say(state="built", lock=lock.text(), image=image, size=lock.size)

    def _build(
        self, order: BuildOrder, progress: Callable[[str], None], cancelled: threading.Event
    ) -> tuple[Lock, str]:
        with tempfile.TemporaryDirectory(prefix="oodida-environment-") as scratch:
            sent = self._sent(order, Path(scratch) / "sent")
            progress("finding the libraries")
            wheels = Path(scratch) / "wheels"
            if order.spec.lock:
                lock = self._again(order.spec.lock)
                fetch(lock, wheels, sent=sent, source=self._source, cancelled=cancelled)
            else:
                lock = resolve(
                    order.spec, self._base, wheels,
                    sent=sent, source=self._source, cancelled=cancelled,
                )  # fmt: skip
            progress(f"found {len(lock.packages)} packages, {lock.size / 2**20:.1f} MB")
            built = ensure(
                lock, lambda: wheels, self._store,
                run=self._run, registry=self._registry, cancelled=cancelled, progress=progress,
            )  # fmt: skip
        return lock, built.reference

    def _again(self, text: str) -> Lock:
        """The lock that is to be built once more, which has to be for the base that is here."""
        lock = Lock.from_text(text)
        if lock.base != self._base:
            message = (
                f"The lock was made for the base image {lock.base}, this worker has {self._base}: "
                "the same libraries on it are another environment. Ask for them by requirements."
            )
            raise refused(Reason.OTHER_BASE, message)
        return lock

    def _sent(self, order: BuildOrder, folder: Path) -> Path:
        """The wheels that were sent along, under their names; whole, and as they were announced."""
        folder.mkdir()
        for wheel in order.spec.wheels:
            part = self._wheels / wheel.sha256
            if not part.exists() or part.stat().st_size != wheel.size:
                raise refused(Reason.GONE, f"{wheel.name} did not arrive whole. Send it again.")
            with part.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != wheel.sha256:
                    part.unlink(missing_ok=True)
                    message = f"{wheel.name} changed on its way. Send it again."
                    raise refused(Reason.HASH_DIFFERS, message)
            shutil.copy(part, folder / wheel.name)
        return folder

    def _run(self, source: str, argument: Tree, limits: Limits) -> Outcome:
        return self._sandbox.run(Call(source, "minimal", argument), limits)


def _holds(path: Path, part: WheelOrder) -> bool:
    with path.open("rb") as file:
        file.seek(part.offset)
        return file.read(len(part.data)) == part.data


def _error(problem: EnvironmentRefused) -> ErrorReply:
    return ErrorReply(code=problem.code, message=problem.message, details=problem.details)
