"""The engine's images, and the registry as the engine sees it. Blocks; from several threads."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_runtime.cancelled import NEVER, check
from edge_runtime.sandbox.engine import EngineFailure, ImageMissing
from edge_runtime.sandbox.image_failures import NotPublished, client_for, failure

if TYPE_CHECKING:  # imported at the first use: it takes 8 MB and 150 ms
    import docker

_TICK_S: Final = 0.1


@dataclass(frozen=True)
class Stored:
    """An image that is there. Size in bytes, with what it shares with others."""

    id: str
    size: int
    labels: Mapping[str, str]
    names: tuple[str, ...]


class ImageStore:
    """Images of one engine."""

    def save(self, image: str, to: Path) -> None:
        """Write an image, with all that it stands on, to a file. Raises ImageMissing."""
        with client_for("save an image") as client, to.open("wb") as file:
            for chunk in client.get_image(image):
                file.write(chunk)

    def load(self, archive: Path) -> None:
        """Take in the images of an archive."""
        with client_for("load an image") as client, archive.open("rb") as file:
            _raise_errors(client.load_image(file, quiet=True))  # type: ignore[no-untyped-call]

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Give an image a further name."""
        with client_for("name an image") as client:
            client.tag(image, repository, tag)

    def push(self, repository: str, tag: str, cancelled: threading.Event = NEVER) -> str:
        """Bring an image to the registry that its name begins with; return its digest there.

        Raises RegistryUnreachable, Cancelled, EngineFailure.
        """
        digest = ""

        def start(client: docker.APIClient) -> Iterable[Any]:
            events: Iterable[Any] = client.push(repository, tag, stream=True, decode=True)
            return events

        for event in _followed("push an image", start, cancelled):
            digest = (event.get("aux") or {}).get("Digest") or digest
        if not digest:
            raise EngineFailure("could not push an image: the engine did not say its digest")
        return digest

    def pull(self, reference: str, cancelled: threading.Event = NEVER) -> Iterator[dict[str, Any]]:
        """Get an image, `REPOSITORY@sha256:…`; the engine's events as they come.

        What was downloaded before an error is kept by the engine for a while.

        Raises RegistryUnreachable, NotPublished, DiskFull, Cancelled, EngineFailure.
        """
        repository, _, digest = reference.rpartition("@")

        def start(client: docker.APIClient) -> Iterable[Any]:
            events: Iterable[Any] = client.pull(repository, digest, stream=True, decode=True)
            return events

        return _followed("pull an image", start, cancelled)

    def published(self, reference: str) -> str | None:
        """Return the digest of an image in its registry, None if it has none of this name."""
        try:
            with client_for("ask a registry") as client:
                found = client.inspect_distribution(reference)  # type: ignore[no-untyped-call]
        except NotPublished:
            return None
        return str(found["Descriptor"]["digest"])

    def find(self, reference: str) -> Stored | None:
        """Return an image by name, id or digest, if it is there."""
        try:
            with client_for("look at an image") as client:
                found = client.inspect_image(reference)  # type: ignore[no-untyped-call]
        except ImageMissing:
            return None
        names = (*(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ()))
        labels = (found.get("Config") or {}).get("Labels") or {}
        return Stored(str(found["Id"]), int(found["Size"]), labels, names)

    def labelled(self, label: str) -> list[Stored]:
        """Return the images that have a label, whatever its value."""
        with client_for("list images") as client:
            found = client.images(filters={"label": label})
        return [
            Stored(
                str(i["Id"]),
                int(i["Size"]),
                i["Labels"] or {},
                tuple(
                    n for n in (*(i["RepoTags"] or ()), *(i["RepoDigests"] or ())) if "<" not in n
                ),
            )
            for i in found
        ]

    def remove(self, image: Stored) -> bool:
        """Remove an image under all its names; False if a container uses it, or it was gone."""
        removed = False
        with client_for("remove an image") as client:
            import docker.errors

            if client.containers(all=True, quiet=True, filters={"ancestor": image.id}):
                return False  # which would lose its names otherwise
            for name in (*image.names, image.id):
                try:
                    client.remove_image(name)
                    removed = True
                except docker.errors.NotFound:  # gone with the name before
                    continue
                except docker.errors.APIError as problem:
                    if problem.status_code != 409:
                        raise
                    return False
        return removed

    def free(self) -> int | None:
        """Return how many bytes the engine's disk has left, None where that cannot be seen."""
        with client_for("ask for the engine's folder") as client:
            root = str(client.info().get("DockerRootDir", ""))
        try:
            return shutil.disk_usage(root).free
        except OSError:  # the engine is on another machine, or outside of our container
            return None


class _Reader:
    """Reads the engine's events in a thread, so that nobody has to wait for the next to stop."""

    def __init__(self, what: str, start: Callable[[docker.APIClient], Iterable[Any]]) -> None:
        self._what, self._start = what, start
        self._items: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._responses: list[Any] = []
        self._thread = threading.Thread(target=self._read, name="engine-events", daemon=True)
        self._thread.start()

    def events(self, cancelled: threading.Event) -> Iterator[dict[str, Any]]:
        while True:
            check(cancelled)
            try:
                item = self._items.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """Break the connection off, upon which the engine stops its work."""
        self._stopped.set()
        for response in list(self._responses):
            try:
                response.raw.shutdown()
            except (OSError, RuntimeError, ValueError):  # it was at its end
                continue

    def _read(self) -> None:
        try:
            with client_for(self._what) as client:
                client.hooks["response"].append(self._remember)
                for event in self._start(client):
                    if self._stopped.is_set():
                        break
                    self._items.put(event)
            self._items.put(None)
        except BaseException as problem:  # noqa: BLE001 - raised again by who follows
            self._items.put(problem)

    def _remember(self, response: Any, *_: Any, **__: Any) -> None:
        self._responses.append(response)
        if self._stopped.is_set():
            response.close()


def _followed(
    what: str, start: Callable[[docker.APIClient], Iterable[Any]], cancelled: threading.Event
) -> Iterator[dict[str, Any]]:
    reader = _Reader(what, start)
    try:
        yield from _checked(what, reader.events(cancelled))
    finally:
        reader.stop()


def _checked(what: str, events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for event in events:
        if "error" in event:
            raise failure(what, str(event["error"]))
        yield event


def _raise_errors(events: Iterable[dict[str, Any]]) -> None:
    for _ in _checked("load an image", events):
        pass
