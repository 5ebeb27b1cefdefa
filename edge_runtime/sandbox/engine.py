"""The container engine, behind a few verbs. Nothing else knows Docker's client or its errors."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # imported at the first use: it takes 8 MB and 150 ms
    import docker

#: How long the engine may take to answer one request, in seconds.
PATIENCE_S: Final = 60
#: Connections that a client keeps. An attached container takes one for as long as it lives.
POOL_SIZE: Final = 32
_CHUNK: Final = 65_536


class EngineFailure(Exception):
    """The container engine did not do what it was asked for."""


class ImageMissing(EngineFailure):
    """The engine has no such image."""


class Gone(EngineFailure):
    """The engine has no such container."""


@dataclass(frozen=True)
class Ending:
    """What the engine knows of a container: whether it runs, and else how it ended."""

    running: bool
    status: int
    oom_killed: bool


@dataclass(frozen=True)
class Found:
    """A container that is there."""

    name: str
    labels: Mapping[str, str]


class Attached:
    """The streams of a container: its input, and both outputs as the engine mixes them."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._socket = getattr(raw, "_sock", raw)  # a TLS connection is its own socket

    def send(self, data: memoryview, timeout_s: float) -> int | None:
        """Write to the container's input; return how much of it, None if it takes no more."""
        try:
            self._socket.settimeout(timeout_s)
            return int(self._socket.send(data))
        except TimeoutError:
            return 0
        except OSError:
            return None

    def receive(self, timeout_s: float) -> bytes | None:
        """Return what has arrived, b"" at the end, None if nothing came in time."""
        try:
            self._socket.settimeout(max(timeout_s, 0.001))
            return bytes(self._socket.recv(_CHUNK))
        except TimeoutError:
            return None
        except OSError:  # the engine broke it off: it is over
            return b""

    @property
    def quiet(self) -> bool:
        """True if nothing is there to be received, not even the end."""
        try:
            return not select.select([self._socket], [], [], 0)[0]
        except (OSError, ValueError):  # closed
            return False

    def close(self) -> None:
        """Let the connection go."""
        response = getattr(self._raw, "_response", None)
        with suppress(OSError):
            if response is not None:
                response.close()
            self._raw.close()
            self._socket.close()


class Engine:
    """One client of the engine, for one thread at a time."""

    def __init__(self, client: docker.APIClient) -> None:
        self._client = client

    @property
    def version(self) -> str:
        """The version of the interface that was agreed on."""
        return str(self._client.api_version)

    def create(self, name: str, settings: Mapping[str, Any]) -> None:
        """Create a container. Raises ImageMissing or EngineFailure."""
        with _translated("create a container"):
            self._client.create_container_from_config(settings, name)  # type: ignore[no-untyped-call]

    def attach(self, name: str) -> Attached:
        """Attach to a container's streams, best before it starts."""
        with _translated("attach to a container"):
            params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            return Attached(self._client.attach_socket(name, params))

    def start(self, name: str) -> None:
        """Start a container."""
        with _translated("start a container"):
            self._client.start(name)

    def inspect(self, name: str) -> Ending:
        """Return how a container is. Raises Gone if there is none."""
        with _translated("inspect a container"):
            state = self._client.inspect_container(name)["State"]
        return Ending(bool(state["Running"]), int(state["ExitCode"]), bool(state["OOMKilled"]))

    def memory(self, name: str) -> int:
        """Return how many bytes of memory a container takes now; 0 where that is not counted."""
        with _translated("look at a container's memory"):
            stats = self._client.stats(name, stream=False, one_shot=True)["memory_stats"]
        return int(stats.get("usage", 0)) - int(stats.get("stats", {}).get("inactive_file", 0))

    def await_end(self, name: str, timeout_s: int) -> None:
        """Return when a container has ended, or after so many seconds."""
        with suppress(EngineFailure), _translated("wait for a container"):
            self._client.wait(name, timeout=timeout_s)

    def kill(self, name: str) -> None:
        """End a container at once. One that has ended or is gone is fine."""
        from docker.errors import APIError

        with _translated("kill a container"), suppress(APIError):
            self._client.kill(name)

    def remove(self, name: str) -> None:
        """Remove a container, killing it if it runs. One that is gone is fine."""
        with suppress(Gone), _translated("remove a container"):
            self._client.remove_container(name, force=True, v=True)

    def find(self, **labels: str) -> list[Found]:
        """Return the containers, running or not, that have all these labels of ours."""
        wanted = [f"{label(key)}={value}" for key, value in labels.items()]
        with _translated("list containers"):
            found = self._client.containers(all=True, filters={"label": wanted})
        return [Found(c["Names"][0].lstrip("/"), c["Labels"]) for c in found if c["Names"]]

    def info(self) -> dict[str, Any]:
        """What the engine says of itself and its machine, in its own words.

        Beside them "ApiVersion", and under "Components" the versions of its parts by name.
        """
        with _translated("ask the engine about itself"):
            info: dict[str, Any] = self._client.info()
            parts = self._client.version().get("Components") or ()
        components = {str(part["Name"]): str(part.get("Version") or "") for part in parts}
        return {**info, "ApiVersion": self.version, "Components": components}

    def images(self) -> set[str]:
        """Every name that an image has here: with tag, with digest, and its number."""
        with _translated("list images"):
            listed = self._client.images()
        return {
            name
            for image in listed
            for name in (image["Id"], *(image["RepoTags"] or ()), *(image["RepoDigests"] or ()))
        }

    def image_id(self, name: str) -> str:
        """How an image is named by its content."""
        with _translated("look at an image"):
            found: dict[str, Any] = self._client.inspect_image(name)  # type: ignore[no-untyped-call]
            return str(found["Id"])

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()


def label(key: str) -> str:
    """Return the full name of one of our labels."""
    return f"io.oodida.{key}"


class Engines:
    """Clients of one engine: lent to one thread at a time, kept for the next."""

    def __init__(self) -> None:
        self._idle: list[Engine] = []
        self._lock = threading.Lock()
        self._version = "auto"  # asked for once
        self._closed = False

    @contextmanager
    def borrow(self) -> Iterator[Engine]:
        """Lend a client. Raises EngineFailure if the engine does not answer."""
        with self._lock:
            engine = self._idle.pop() if self._idle else None
        if engine is None:
            engine = self._connect()
        try:
            yield engine
        finally:
            with self._lock:
                keep = not self._closed
                if keep:
                    self._idle.append(engine)
            if not keep:
                engine.close()

    def _connect(self) -> Engine:
        import docker
        from docker.utils import kwargs_from_env

        with _translated("reach the container engine"):
            engine = Engine(
                docker.APIClient(
                    version=self._version,
                    timeout=PATIENCE_S,
                    max_pool_size=POOL_SIZE,
                    **kwargs_from_env(),
                )
            )
        self._version = engine.version
        return engine

    def close(self) -> None:
        """Close the clients, those that are lent when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for engine in idle:
            engine.close()


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn the client's errors into ours: the only place that knows them."""
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.ImageNotFound as problem:
        raise ImageMissing(str(problem.explanation)) from problem
    except docker.errors.NotFound as problem:
        # In some versions a missing image at `create` is a plain "not found".
        missing = "image" in str(problem.explanation).lower()
        kind = ImageMissing if missing else Gone
        raise kind(str(problem.explanation)) from problem
    except docker.errors.APIError as problem:
        raise EngineFailure(f"could not {what}: {problem.explanation or problem}") from problem
    except requests.Timeout as problem:
        raise EngineFailure(f"could not {what}: no answer in {PATIENCE_S} s") from problem
    except (docker.errors.DockerException, requests.RequestException, OSError) as problem:
        raise EngineFailure(f"could not {what}: {problem}. Does the engine run?") from problem
