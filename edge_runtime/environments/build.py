"""From a lock to an image in a registry, which is built once for all."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.cancelled import NEVER, check
from edge_runtime.environments import image
from edge_runtime.environments.bounds import BOUNDS, Bounds
from edge_runtime.environments.compiled import Run
from edge_runtime.environments.layer import write
from edge_runtime.sandbox.engine import EngineFailure, ImageMissing
from edge_runtime.sandbox.image_failures import DiskFull, RegistryUnreachable
from edge_runtime.sandbox.image_store import ImageStore, Stored
from protocol.environment import Lock, Reason, refused
from protocol.errors import EnvironmentRefused


def _say_nothing(_: str) -> None:
    pass


@dataclass(frozen=True)
class Built:
    """An environment that vehicles can get.

    Attributes:
        reference: `REGISTRY/oodida/environment@sha256:…`. Without a registry the image's id
            is in the digest's place; those who share this machine's engine find it.
        built: False if it was there.
    """

    reference: str
    built: bool


def ensure(
    lock: Lock,
    wheels: Callable[[], Path],
    store: ImageStore,
    *,
    run: Run | None,
    registry: str | None,
    bounds: Bounds = BOUNDS,
    cancelled: threading.Event = NEVER,
    progress: Callable[[str], None] = _say_nothing,
) -> Built:
    """Return an environment's image, built and pushed if the registry has none. Blocks.

    Args:
        lock: what is in it.
        wheels: gives the folder of its wheels; asked only if they are needed.
        store: the engine's images, among them the lock's base.
        run: compiles in a sandbox of the base; None leaves libraries uncompiled.
        registry: such as `127.0.0.1:5000`. None: the image stays on this machine.
        bounds: what it may come to.
        cancelled: stops it.
        progress: is told each step, a few words.

    Raises:
        EnvironmentRefused: it cannot be had; `reason_code` in the details.
        EngineFailure: the engine failed; it can be tried again.
        Cancelled: it was stopped.
    """
    try:
        return _ensure(lock, wheels, store, run, registry, bounds, cancelled, progress)
    except (DiskFull, RegistryUnreachable, ImageMissing) as problem:
        raise translated(problem) from problem


def _ensure(
    lock: Lock,
    wheels: Callable[[], Path],
    store: ImageStore,
    run: Run | None,
    registry: str | None,
    bounds: Bounds,
    cancelled: threading.Event,
    progress: Callable[[str], None],
) -> Built:
    repository = image.REPOSITORY if registry is None else f"{registry}/{image.REPOSITORY}"
    if registry is not None:
        digest = store.published(f"{repository}:{lock.digest}")
        if digest is not None:
            return Built(f"{repository}@{digest}", built=False)
    stored = store.find(image.name(lock.digest))
    built = stored is None
    if stored is None:
        stored = _make(lock, wheels(), store, run, bounds, cancelled, progress)
    if registry is None:
        return Built(f"{repository}@{stored.id}", built=built)
    progress("pushing the image")
    store.tag(stored.id, repository, lock.digest)
    digest = store.push(repository, lock.digest, cancelled)
    return Built(f"{repository}@{digest}", built=True)


def _make(
    lock: Lock,
    wheels: Path,
    store: ImageStore,
    run: Run | None,
    bounds: Bounds,
    cancelled: threading.Event,
    progress: Callable[[str], None],
) -> Stored:
    with tempfile.TemporaryDirectory(prefix="oodida-image-") as scratch:
        work = Path(scratch)
        progress("packing the libraries")
        layer = write(lock, wheels, work / "layer", run=run, bounds=bounds, cancelled=cancelled)
        check(cancelled)
        progress("making the image")
        store.save(lock.base, work / "base")
        expected = image.compose(work / "base", work / "layer", layer, lock, work / "image")
        check(cancelled)
        store.load(work / "image")
    stored = store.find(image.name(lock.digest))
    # Engines that keep images in another way give them another id; the label is what counts.
    if stored is None or stored.labels.get(image.LABEL) != lock.digest:
        message = f"The engine took in the image {expected} and does not show it."
        raise refused(Reason.BUILD_FAILED, message)
    return stored


def translated(problem: EngineFailure) -> EnvironmentRefused:
    """Make the error for people of one of the engine's that has a reason of its own."""
    reason, message = Reason.BUILD_FAILED, f"The image could not be made: {problem}"
    if isinstance(problem, DiskFull):
        reason = Reason.NO_SPACE
        message = "The disk is full. Remove images that are not used, or give it more room."
    elif isinstance(problem, RegistryUnreachable):
        reason = Reason.REGISTRY_UNREACHABLE
        message = f"The registry cannot be reached. Does it run? ({problem})"
    elif isinstance(problem, ImageMissing):
        message = f"The base image is not on this machine. Build it with 'make setup'. ({problem})"
    return refused(reason, message)
