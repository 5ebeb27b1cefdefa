"""What can go wrong with images and registries: the engine's words, translated in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from edge_runtime.sandbox.engine import EngineFailure, ImageMissing

if TYPE_CHECKING:  # imported at the first use: it takes 8 MB and 150 ms
    import docker

#: How long the engine, or the registry behind it, may say nothing, in seconds.
SILENCE_S: Final = 120


class RegistryUnreachable(EngineFailure):
    """The registry does not answer, or not as a registry; it may later."""


class NotPublished(EngineFailure):
    """The registry has no such image."""


class DiskFull(EngineFailure):
    """The engine's disk is full."""


#: What the engine says -> what it means. The first that fits holds.
_MEANINGS: Final[tuple[tuple[type[EngineFailure], tuple[str, ...]], ...]] = (
    (DiskFull, ("no space left on device", "disk quota exceeded")),
    (NotPublished, ("manifest unknown", "name unknown", "repository does not exist")),
    (ImageMissing, ("no such image", "reference does not exist")),
    (
        RegistryUnreachable,
        (
            "connection refused", "connection reset", "i/o timeout", "timeout exceeded",
            "no such host", "network is unreachable", "no route to host", "unexpected eof", ": eof",
            "server misbehaving", "service unavailable", "bad gateway", "gateway timeout",
            "internal server error", "broken pipe", "tls handshake", "context deadline exceeded",
            "toomanyrequests", "use of closed network connection",
        ),
    ),
)  # fmt: skip


def failure(what: str, said: str) -> EngineFailure:
    """Make the error for what the engine said: pure."""
    lower = said.lower()
    for kind, words in _MEANINGS:
        if any(word in lower for word in words):
            return kind(f"could not {what}: {said[:500]}")
    return EngineFailure(f"could not {what}: {said[:500]}")


@contextmanager
def client_for(what: str) -> Iterator[docker.APIClient]:
    """Lend a client for one request: images take longer than all else that the engine is asked."""
    import docker
    import docker.errors
    import requests
    from docker.utils import kwargs_from_env

    client = None
    try:
        client = docker.APIClient(version="auto", timeout=SILENCE_S, **kwargs_from_env())
        yield client
    except docker.errors.APIError as problem:
        raise failure(what, str(problem.explanation or problem)) from problem
    except requests.Timeout as problem:
        raise RegistryUnreachable(f"could not {what}: no word in {SILENCE_S} s") from problem
    except (docker.errors.DockerException, requests.RequestException) as problem:
        raise EngineFailure(f"could not {what}: {problem}. Does the engine run?") from problem
    except OSError as problem:
        raise failure(what, str(problem)) from problem
    finally:
        if client is not None:
            client.close()
