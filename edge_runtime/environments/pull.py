"""Getting an environment's image into a vehicle, however often the network goes away."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge_runtime.cancelled import NEVER, check
from edge_runtime.environments.build import translated
from edge_runtime.environments.image import LABEL
from edge_runtime.sandbox.image_failures import DiskFull, NotPublished, RegistryUnreachable
from edge_runtime.sandbox.image_store import ImageStore, Stored
from protocol.environment import Reason, refused

#: The only form of reference that is pulled: by digest, so that the bytes are known beforehand, and
#: with the registry's address, because without one the engine would ask a public one.
_REFERENCE: Final = re.compile(
    r"(localhost|[A-Za-z0-9-]*[.:][A-Za-z0-9.:-]*)(/[a-z0-9][a-z0-9._-]*){1,6}@sha256:[0-9a-f]{64}"
)
#: Pauses between tries, in seconds: they double from the first to the longest.
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
#: What has to stay free on the disk, in bytes.
SPARE: Final = 64 * 2**20


@dataclass(frozen=True)
class Progress:
    """How far a pull is, in bytes of what has to come as it is moved; 0 of 0 at first."""

    done: int = 0
    total: int = 0


@dataclass
class Tally:
    """Sums up the engine's events. Layers that are here already count for nothing."""

    _layers: dict[str, Progress] = field(default_factory=dict)

    def add(self, event: Mapping[str, Any]) -> Progress:
        """Take an event in; return the sum over all layers."""
        layer, status = str(event.get("id", "")), event.get("status")
        detail = event.get("progressDetail") or {}
        known = self._layers.get(layer)
        if status == "Downloading" and detail.get("total"):
            done, total = int(detail.get("current", 0)), int(detail["total"])
            self._layers[layer] = Progress(min(max(done, known.done if known else 0), total), total)
        elif known is not None and status in {"Download complete", "Pull complete"}:
            self._layers[layer] = Progress(known.total, known.total)
        layers = self._layers.values()
        return Progress(sum(p.done for p in layers), sum(p.total for p in layers))


def _say_nothing(_: Progress) -> None:
    pass


def pull(
    reference: str,
    lock_digest: str,
    store: ImageStore,
    *,
    size: int = 0,
    patience_s: float = 600.0,
    cancelled: threading.Event = NEVER,
    progress: Callable[[Progress], None] = _say_nothing,
) -> str:
    """Return the id of an environment's image, pulled if it is not here. Blocks.

    Args:
        reference: `REGISTRY/oodida/environment@sha256:…`.
        lock_digest: which environment it has to be.
        store: the engine's images.
        size: bytes that it takes on the disk, as far as they are known; checked beforehand.
        patience_s: how long the registry may be away, counted from the last byte that came.
        cancelled: stops it.
        progress: is told how far it is, from this thread.

    Raises:
        EnvironmentRefused: reason `gone`, `wrong_image`, `no_space`, `registry_unreachable`.
        EngineFailure: the engine failed; it can be tried again.
        Cancelled: it was stopped.
    """
    # Wherever it came from: what has the label was made of this lock by this engine, or checked.
    for here in store.labelled(f"{LABEL}={lock_digest}"):
        return here.id
    if not _REFERENCE.fullmatch(reference):
        message = f"{reference[:200]!r} is not on this machine, and names no image in a registry."
        raise refused(Reason.GONE, message)
    free = store.free()
    if free is not None and free < size + SPARE:
        have, need = free / 2**20, (size + SPARE) / 2**20
        message = f"The disk has {have:.0f} MB left, {need:.0f} are needed. Make room."
        raise refused(Reason.NO_SPACE, message)
    found = _pulled(reference, store, patience_s, cancelled, progress)
    if found.labels.get(LABEL) != lock_digest:
        if LABEL in found.labels:
            store.remove(found)
        message = "The registry's image is of another environment than was ordered; build it again."
        raise refused(Reason.WRONG_IMAGE, message)
    return found.id


def _pulled(
    reference: str,
    store: ImageStore,
    patience_s: float,
    cancelled: threading.Event,
    progress: Callable[[Progress], None],
) -> Stored:
    tally, told, pause = Tally(), Progress(), FIRST_PAUSE_S
    last = time.monotonic()
    while True:
        try:
            for event in store.pull(reference, cancelled):
                now = tally.add(event)
                if now != told:
                    told, last, pause = now, time.monotonic(), FIRST_PAUSE_S
                    progress(told)
        except RegistryUnreachable as problem:
            if time.monotonic() - last + pause > patience_s:
                raise translated(problem) from problem
        except NotPublished as problem:
            message = "The registry does not have the environment any more; build it again."
            raise refused(Reason.GONE, message) from problem
        except DiskFull as problem:
            raise translated(problem) from problem
        else:
            found = store.find(reference)
            if found is not None:
                return found
            message = "The engine pulled the image and does not show it."
            raise refused(Reason.BUILD_FAILED, message)
        cancelled.wait(pause)
        check(cancelled)
        pause = min(2 * pause, LONGEST_PAUSE_S)
