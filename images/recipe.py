"""What each image is made from, and the name that follows from it.

The name of an image ends in a hash of its definition: the files of its context, the locks of what
it installs, and the name of the image it stands on. Two clones of one commit give the same names,
a changed line gives another one, and an image that is already there need not be built.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
IMAGES: Final = ROOT / "images"
LABEL: Final = "io.oodida.image"
LABEL_CONTENT: Final = "io.oodida.content"
LABEL_LIBRARIES: Final = "io.oodida.libraries"
#: On the stages of a build, which have no name: what remains of them is found by it.
LABEL_STAGE: Final = "io.oodida.stage"
#: Counts up when the way of building changes what comes out of the same files.
FORMAT: Final = 1


class ImageError(RuntimeError):
    """An image cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Recipe:
    """One image: its context, and what it stands on.

    Attributes:
        name: the image is `oodida/<name>:<hash>`.
        parents: build argument -> name of the image that it is set to.
        sources: place in the context -> file or folder of this tree. Of a folder, all but caches.
        lock: file under `images/locks/`, whose wheels are put into the context as `wheels/`.
    """

    name: str
    parents: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    lock: str | None = None

    def files(self) -> dict[str, Path]:
        """Return what the context holds, wheels apart: place in it -> file.

        Raises:
            ImageError: a file of the definition is not there.
        """
        found: dict[str, Path] = {}
        for place, source in sorted(self.sources.items()):
            path = ROOT / source
            if path.is_dir():
                inside = (p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix != ".pyc")
                found |= {f"{place}/{p.relative_to(path).as_posix()}": p for p in inside}
            elif path.is_file():
                found[place] = path
            else:
                message = f"Image {self.name} is made from {source}, which is not in this tree."
                raise ImageError(message)
        return found

    def lock_text(self) -> str:
        """Return the lock of the libraries, empty where there is none."""
        if self.lock is None:
            return ""
        return (IMAGES / "locks" / self.lock).read_text(encoding="utf-8")

    def libraries(self) -> str:
        """Return the locked libraries as `name==version`, separated by blanks."""
        lines = self.lock_text().splitlines()
        return " ".join(line.split()[0] for line in lines if "==" in line and line[0].isalnum())


#: What every image stands on. It has no context: images/base.py makes it.
BASE: Final = Recipe("base", sources={"base.toml": "images/base.toml"})

_SANDBOX: Final = {
    "Dockerfile": "images/sandbox/Dockerfile",
    "program/sandbox/__init__.py": "images/sandbox/__init__.py",
    "program/sandbox/guest.py": "images/sandbox/guest.py",
    "program/sandbox/module_side.py": "images/sandbox/module_side.py",
    # What the guest shares with the other side: how values are written, and how a module is loaded.
    "program/protocol/__init__.py": "protocol/__init__.py",
    "program/protocol/values.py": "protocol/values.py",
    "program/protocol/verification.py": "protocol/verification.py",
}

RECIPES: Final[Mapping[str, Recipe]] = {
    recipe.name: recipe
    for recipe in (
        BASE,
        Recipe(
            "python",
            {"BASE": "base"},
            {
                "Dockerfile": "images/python/Dockerfile",
                "rootfs.sh": "images/rootfs.sh",
                "trim.sh": "images/python/trim.sh",
            },
        ),
        Recipe(
            "broker",
            {"BASE": "base"},
            {
                "Dockerfile": "images/broker/Dockerfile",
                **{
                    name: f"images/broker/{name}"
                    for name in (
                        "common.conf",
                        "identity.c",
                        "mosquitto.conf",
                        "pace.c",
                        "paces",
                        "plugin.h",
                        "rules",
                        "secure.conf",
                    )
                },
                "rootfs.sh": "images/rootfs.sh",
            },
        ),
        Recipe(
            "registry",
            {"BASE": "base"},
            {
                "Dockerfile": "images/registry/Dockerfile",
                "registry.yml": "images/registry/registry.yml",
                "rootfs.sh": "images/rootfs.sh",
            },
        ),
        Recipe(
            "postgres",
            {"BASE": "base"},
            {
                "Dockerfile": "images/postgres/Dockerfile",
                "pg_hba.conf": "images/postgres/pg_hba.conf",
                "pg_ident.conf": "images/postgres/pg_ident.conf",
                "postgresql.conf": "images/postgres/postgresql.conf",
                "rootfs.sh": "images/rootfs.sh",
                "start.sh": "images/postgres/start.sh",
            },
        ),
        Recipe(
            "science",
            {"PYTHON": "python"},
            {
                "Dockerfile": "images/science/Dockerfile",
                "unpack.py": "images/unpack.py",
            },
            lock="science.txt",
        ),
        Recipe("sandbox-minimal", {"RUNTIME": "python"}, _SANDBOX),
        Recipe("sandbox-science", {"RUNTIME": "science"}, _SANDBOX),
        Recipe(
            "edge",
            {"PYTHON": "python"},
            {
                "Dockerfile": "images/edge/Dockerfile",
                "probe.py": "images/probe.py",
                "unpack.py": "images/unpack.py",
                "source/protocol": "protocol",
                "source/edge_runtime": "edge_runtime",
            },
            lock="edge.txt",
        ),
        Recipe(
            "orchestrator",
            {"BASE": "base", "PYTHON": "python"},
            {
                "Dockerfile": "images/orchestrator/Dockerfile",
                "probe.py": "images/probe.py",
                "unpack.py": "images/unpack.py",
                "source/protocol": "protocol",
                "source/orchestrator": "orchestrator",
            },
            lock="cloud.txt",
        ),
    )
}


def recipe_of(name: str) -> Recipe:
    """Return the recipe of the image called `name`.

    Raises:
        ImageError: there is none.
    """
    try:
        return RECIPES[name]
    except KeyError:
        message = f"There is no image {name!r}. There are: {', '.join(RECIPES)}."
        raise ImageError(message) from None


def content(name: str) -> str:
    """Return the hash of all that the image called `name` is made from, as 64 hexadecimal digits.

    Raises:
        ImageError: there is no such image, or a file of its definition is missing.
    """
    recipe = recipe_of(name)
    definition = {
        "format": FORMAT,
        "name": name,
        "parents": {arg: content(parent) for arg, parent in recipe.parents.items()},
        "files": {
            place: hashlib.sha256(path.read_bytes()).hexdigest()
            for place, path in recipe.files().items()
        },
        "lock": hashlib.sha256(recipe.lock_text().encode()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def reference(name: str) -> str:
    """Return the full name of an image, such as `oodida/broker:3fa2c1…`; needs no engine.

    Raises:
        ImageError: there is no such image, or a file of its definition is missing.
    """
    return f"oodida/{name}:{content(name)[:16]}"


def context(recipe: Recipe, wheels: list[Path]) -> io.BytesIO:
    """Return the build context as a tar archive, the same bytes for the same files."""
    members = recipe.files() | {f"wheels/{wheel.name}": wheel for wheel in wheels}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for place, path in sorted(members.items()):
            # Owner, mode and time of a clone are accidents: all members get the same.
            member = tarfile.TarInfo(place)
            member.size = path.stat().st_size
            member.mode = 0o755 if path.suffix == ".sh" else 0o644
            with path.open("rb") as source:
                tar.addfile(member, source)
    archive.seek(0)
    return archive
