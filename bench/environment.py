"""What libraries of an analyst's own cost: bytes that a vehicle moves, and seconds to deploy.

    .venv/bin/python bench/environment.py [rounds]

Each round deploys a module with an environment that no engine here has yet, then the same again
with a changed module. Bytes are those of the layers as the registry has them, compressed: the base,
which every environment shares, and the one layer that a library adds. Without environments, a
vehicle would move a whole image for each change of code. Needs the index that pip is set up with.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import urllib.request
from typing import Any

import docker

import oodida
from bench._measure import print_figures, spread
from images.recipe import reference

SOURCE = "import {library}\n\ndef custom_code(window):\n    return {number}\n"
LIBRARIES = {"six": "six==1.17.0", "msgpack": "msgpack==1.1.2"}
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def layers(image: str) -> list[int]:
    """The sizes in bytes of an image's layers in its registry, the lowest first."""
    address, _, digest = image.partition("@")
    registry, _, name = address.partition("/")
    request = urllib.request.Request(
        f"http://{registry}/v2/{name}/manifests/{digest}", headers={"Accept": MANIFEST}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        manifest = json.load(answer)
    return [layer["size"] for layer in manifest["layers"]]


def forget(engine: docker.APIClient) -> None:
    """Remove every environment from the engine, so that the next is one that nobody has."""
    for image in engine.images(filters={"label": "io.oodida.environment"}):
        with contextlib.suppress(docker.errors.APIError):
            engine.remove_image(image["Id"], force=True)


def size(engine: docker.APIClient, name: str) -> int:
    """Bytes that one of our images takes on the disk."""
    found: int = engine.inspect_image(reference(name))["Size"]  # type: ignore[no-untyped-call]
    return found


def main(rounds: int) -> None:
    """Measure."""
    first: dict[str, list[float]] = {name: [] for name in LIBRARIES}
    again: list[float] = []
    moved: dict[str, Any] = {}
    with contextlib.closing(docker.APIClient(version="auto")) as engine:
        for _ in range(rounds):
            forget(engine)
            with oodida.local({"car-1": None}) as fleet:
                for library, requirement in LIBRARIES.items():
                    environment = oodida.Environment(requirements=[requirement])
                    for times, number in ((first[library], 1), (again, 2)):
                        source = SOURCE.format(library=library, number=number)
                        started = time.perf_counter()
                        fleet.deploy(source, name=library, environment=environment)
                        times.append(time.perf_counter() - started)
                    (digest,) = {m.environment for m in fleet.modules() if m.name == library}
                    sizes = layers(fleet.environment(digest).image)
                    moved["base"], moved[library] = sum(sizes[:-1]), sizes[-1]
            forget(engine)
        minimal = size(engine, "sandbox-minimal")
        science = size(engine, "sandbox-science")
    print_figures(
        "environment",
        rounds=rounds,
        bytes_moved=moved,
        library_to_whole_image=round(moved["six"] / (moved["base"] + moved["six"]), 4),
        on_disk_mb={"minimal": round(minimal / 1e6, 1), "science": round(science / 1e6, 1)},
        first_deployment={name: spread(times) for name, times in first.items()},
        same_environment_again=spread(again),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
