"""Builds images that are not there yet: `python -m images.build [NAME…]`."""

from __future__ import annotations

import argparse
import fcntl
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import docker
import docker.errors
from docker.models.images import Image

from images import base
from images.base import Progress
from images.recipe import (
    LABEL,
    LABEL_CONTENT,
    LABEL_LIBRARIES,
    LABEL_STAGE,
    RECIPES,
    ImageError,
    Recipe,
    content,
    context,
    recipe_of,
    reference,
)
from images.wheels import cache_folder, fetch

__all__ = ["ImageError", "ensure", "main", "prune", "reference", "renew"]

#: Seconds without a word from the engine. A step of a build may compile for a while.
_PATIENCE_S: Final = 900
_LAST_LINES: Final = 15
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


def ensure(name: str, *, progress: Progress = print) -> str:
    """Return the reference of an image, having built it and what it stands on if need be.

    Args:
        name: one of `images.recipe.RECIPES`.
        progress: is told each step, one line at a time.

    Raises:
        ImageError: no engine answers, or a step failed.
    """
    with closing(_connect()) as client:
        return _ensure(client, recipe_of(name), progress, renew=set())


def renew(names: Iterable[str], *, progress: Progress = print) -> None:
    """Build images again, and what they stand on, with the distribution's newest packages.

    Raises:
        ImageError: no engine answers, or a step failed.
    """
    recipes = [recipe_of(name) for name in names]
    left = {ancestor for recipe in recipes for ancestor in _lineage(recipe)}
    with closing(_connect()) as client:
        for recipe in recipes:
            _ensure(client, recipe, progress, renew=left)


def prune(*, keep: Iterable[str]) -> list[str]:
    """Remove this project's images, apart from those called `keep` as they are defined now.

    An image that a container uses stays.

    Returns:
        what was removed.

    Raises:
        ImageError: no engine answers.
    """
    kept = {reference(name) for name in keep}
    with closing(_connect()) as client:
        targets = [
            target
            # What was renewed and the stages have no name; a pulled base has no label. Under
            # somebody else's name an image is not ours to remove.
            for filters in ({"reference": "oodida/*"}, {"label": LABEL}, {"label": LABEL_STAGE})
            for image in client.images.list(filters=filters)
            for target in (image.tags or [str(image.id)])
            if target.startswith(("oodida/", "sha256:")) and target not in kept
        ]
        return [target for target in targets if _remove(client, target)]


def _connect() -> docker.DockerClient:
    """Return a client of an engine that answers."""
    try:
        client = docker.from_env(timeout=_PATIENCE_S)
        client.ping()
    except docker.errors.DockerException as problem:
        message = f"No container engine answers. Run 'make setup', which gets one. ({problem})"
        raise ImageError(message) from problem
    return client


def _find(client: docker.DockerClient, name: str) -> Image | None:
    try:
        return client.images.get(name)
    except docker.errors.ImageNotFound:
        return None


def _remove(client: docker.DockerClient, target: str) -> bool:
    try:
        client.images.remove(target)
    except docker.errors.APIError:  # in use, or gone with the one before
        return False
    return True


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Hold the right to build `name`; a second process waits, and then finds it built."""
    folder = cache_folder() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lineage(recipe: Recipe) -> set[str]:
    """Return the names of an image and of all that it stands on."""
    parents = (recipe_of(parent) for parent in recipe.parents.values())
    return {recipe.name}.union(*map(_lineage, parents))


def _ensure(
    client: docker.DockerClient, recipe: Recipe, progress: Progress, *, renew: set[str]
) -> str:
    """Do the work of `ensure`; what is in `renew` is built even if it is there, and taken out."""
    wanted = reference(recipe.name)
    if recipe.name not in renew and _find(client, wanted):
        return wanted
    parents = {
        argument: _ensure(client, recipe_of(parent), progress, renew=renew)
        for argument, parent in recipe.parents.items()
    }
    with _alone(recipe.name):
        fresh = recipe.name in renew
        if fresh or not _find(client, wanted):
            _build(client, recipe, wanted, parents, progress, fresh=fresh)
    renew.discard(recipe.name)
    return wanted


def _build(
    client: docker.DockerClient,
    recipe: Recipe,
    wanted: str,
    parents: dict[str, str],
    progress: Progress,
    *,
    fresh: bool,
) -> None:
    def say(line: str) -> None:
        progress(f"{recipe.name}: {line}")

    labels = {LABEL: recipe.name, LABEL_CONTENT: content(recipe.name)}
    if recipe.lock is not None:
        labels[LABEL_LIBRARIES] = recipe.libraries()
    say(f"building {wanted}")
    if recipe.name == "base":
        base.make(client, wanted, labels, say)
        return
    if recipe.lock is not None:
        say(f"fetching libraries of {recipe.lock}")
    wheels = [] if recipe.lock is None else fetch(recipe.lock)
    # The engine's own builder, which every engine has: no plug-in to install.
    events = client.api.build(
        fileobj=context(recipe, wheels),
        custom_context=True,
        tag=wanted,
        buildargs=parents,
        labels=labels,
        nocache=fresh,
        rm=True,
        forcerm=True,
        use_config_proxy=True,
        decode=True,
    )
    _follow(events, recipe.name, say)


def _follow(events: Iterable[dict[str, Any]], name: str, say: Progress) -> None:
    """Report the steps of a build as they come.

    Raises:
        ImageError: a step failed; with its last lines.
    """
    lines: list[str] = []
    for event in events:
        for line in str(event.get("stream", "")).splitlines():
            if line.startswith("Step "):
                say(line[:96])
            elif plain := _COLOUR.sub("", line).strip():
                lines.append(plain)
        if "error" in event:
            last = "\n".join(lines[-_LAST_LINES:])
            message = f"Image {name} could not be built: {event['error']}\n{last}"
            raise ImageError(message)


def _list(progress: Progress) -> None:
    """Print each image with its reference and its size, if it is there."""
    with closing(_connect()) as client:
        for name in RECIPES:
            wanted = reference(name)
            image = _find(client, wanted)
            size = f"{image.attrs['Size'] / 1e6:.1f} MB" if image else "not built"
            progress(f"{name:16} {size:>10}  {wanted}")


def _variables(found: Mapping[str, str]) -> str:
    """Return a line for each image, such as `OODIDA_IMAGE_SANDBOX_MINIMAL=oodida/…`."""
    names = {name: name.upper().replace("-", "_") for name in found}
    return "".join(f"OODIDA_IMAGE_{names[name]}={built}\n" for name, built in found.items())


def main(arguments: list[str] | None = None) -> int:
    """Build the images that are named, or do what an option says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m images.build", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--env", type=Path, metavar="FILE", help="write their names for Compose")
    parser.add_argument("--list", action="store_true", help="show all images and their sizes")
    parser.add_argument("--fresh", action="store_true", help="build again, with newest packages")
    parser.add_argument("--prune", action="store_true", help="remove images of older definitions")
    parser.add_argument("--clean", action="store_true", help="remove all images of this project")
    options = parser.parse_args(arguments)
    try:
        if options.fresh:
            renew(options.names)
        found = {}
        for name in options.names:
            found[name] = ensure(name)
            print(found[name])
        if options.env is not None:
            options.env.write_text(_variables(found), encoding="utf-8")
        if options.prune or options.clean:
            for gone in prune(keep=() if options.clean else RECIPES):
                print(f"removed {gone}")
        if options.list:
            _list(print)
    except ImageError as problem:
        print(f"images: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
