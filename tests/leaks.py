"""Where a secret might have come to, and which of them did."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import docker

Places = list[tuple[str, bytes]]
#: Where in the first line of a key's text its secret number is, whichever of our kinds it is. What
#: comes later may be the public key, which is in certificates as well.
_SECRET: Final = slice(50, 64)


def keys(folder: Path) -> dict[Path, bytes]:
    """Each private key below a folder: a piece of its text, which is in it alone."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in (text := path.read_bytes()):
            found[path] = text.partition(b"PRIVATE KEY-----\n")[2][_SECRET]
    return found


def places(*, of_containers: str = "") -> Iterator[tuple[str, bytes]]:
    """What the machine shows: arguments of processes, containers and what they said, our images.

    Of containers those are looked at whose names have this in them.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield f"the arguments of {process.name}", (process / "cmdline").read_bytes()
    with closing(docker.APIClient()) as client:
        for container in client.containers(all=True, filters={"name": of_containers}):
            with suppress(docker.errors.NotFound):  # others come and go
                said = client.inspect_container(container["Id"])
                yield f"container {said['Name']}", json.dumps(said).encode()
                with suppress(docker.errors.APIError):  # of a sandbox nothing is kept
                    yield f"what {said['Name']} said", client.logs(container["Id"])
        for image in client.images():
            if any(name.startswith("oodida/") for name in image["RepoTags"] or ()):
                about = json.dumps(_of_image(client, image["Id"])).encode()
                yield f"image {image['RepoTags']}", about


def files(folder: Path, apart: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """What is in a folder's files, but for those where secrets are kept."""
    kept = set(apart)
    for path in folder.rglob("*"):
        if path.is_file() and path not in kept:
            yield str(path), path.read_bytes()


def leaked(
    secrets: Mapping[str, bytes], where: Iterable[tuple[str, bytes]]
) -> set[tuple[str, str]]:
    """Which secret is at which place."""
    return {
        (name, place)
        for place, text in where
        for name, secret in secrets.items()
        if secret in text
    }  # fmt: skip


def _of_image(client: Any, image: str) -> list[Any]:
    return [client.inspect_image(image), client.history(image)]
