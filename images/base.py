"""The image that all others stand on: Debian, without what a container has no use for.

It is pulled where public images can be pulled, and made from Debian's packages where not. What it
is, `base.toml` says; how it comes to be, this file.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import environ, geteuid
from pathlib import Path
from typing import Final

import docker
import docker.errors
import requests

from images.recipe import IMAGES, ImageError

#: Seconds without a word from the registry: a "no" answers at once, a filtered network never.
_PULL_PATIENCE_S: Final = 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Definition:
    """What the base image is; see `base.toml`."""

    suite: str
    public: str
    left_out: tuple[str, ...]

    @classmethod
    def read(cls) -> Definition:
        """Return what the file says."""
        said = tomllib.loads((IMAGES / "base.toml").read_text(encoding="utf-8"))
        return cls(said["suite"], said["public"], tuple(said["left_out"]))


def make(
    client: docker.DockerClient, reference: str, labels: Mapping[str, str], say: Progress
) -> None:
    """Put the base image into the engine under the name `reference`.

    Raises:
        ImageError: it can neither be pulled nor made here.
    """
    definition = Definition.read()
    refusal = _pull(client, definition.public, reference, say)
    if refusal is None:
        return
    say(f"no public image here ({refusal}); making it from Debian's packages, about half a minute")
    _require_root(definition.public, refusal)
    with tempfile.TemporaryDirectory(prefix="oodida-base-") as folder:
        root = Path(folder) / "root"
        _debootstrap(definition, root)
        _import(client, definition, root, reference, labels)


def _pull(client: docker.DockerClient, public: str, reference: str, say: Progress) -> str | None:
    """Pull the public image and name it `reference`; return why not, or None where it worked."""
    say(f"pulling {public}")
    # The time limit belongs to the client, so this one call has a client of its own.
    impatient = docker.from_env(timeout=_PULL_PATIENCE_S)
    try:
        for event in impatient.api.pull(public, stream=True, decode=True):
            if "error" in event:
                return str(event["error"])
        client.images.get(public).tag(reference)
    except docker.errors.APIError as refusal:
        return str(refusal.explanation or refusal)
    except requests.RequestException:
        return f"no word from the registry in {_PULL_PATIENCE_S} s"
    finally:
        impatient.close()
    return None


def _require_root(public: str, refusal: str) -> None:
    """Check that Debian packages can be unpacked here, and get the tool for it.

    Raises:
        ImageError: not root, or not on Debian.
    """
    if geteuid() != 0:
        message = (
            f"The base image can neither be pulled ({refusal}) nor made, for which root is needed. "
            f"Give the engine access to {public}, or run 'make setup' once as root."
        )
        raise ImageError(message)
    if shutil.which("debootstrap"):
        return
    if not shutil.which("apt-get"):
        message = (
            f"The base image can neither be pulled ({refusal}) nor made: debootstrap is missing. "
            f"Install debootstrap, or give the engine access to {public}."
        )
        raise ImageError(message)
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "debootstrap"]
    try:
        _run(install)
    except ImageError:  # the package lists may be missing or old
        _run(["apt-get", "update", "-q"])
        _run(install)


def _debootstrap(definition: Definition, root: Path) -> None:
    """Unpack a minimal Debian into `root`, with its security updates as sources."""
    suite = definition.suite
    _run(["debootstrap", "--variant=minbase", suite, str(root)])
    # For packages that are added later, too.
    rules = [f"path-exclude /usr/share/{name}/*\n" for name in definition.left_out]
    rules.append("path-include /usr/share/doc/*/copyright\n")
    slim = root / "etc/dpkg/dpkg.cfg.d/oodida-slim"
    slim.write_text("".join(rules), encoding="utf-8")
    # The mirror is the one that debootstrap chose, and Debian's mirrors carry these beside it.
    sources = root / "etc/apt/sources.list"
    mirror = sources.read_text(encoding="utf-8").split()[1].rstrip("/")
    sources.write_text(
        f"deb {mirror} {suite} main\n"
        f"deb {mirror} {suite}-updates main\n"
        f"deb {mirror}-security {suite}-security main\n",
        encoding="utf-8",
    )


def _import(
    client: docker.DockerClient,
    definition: Definition,
    root: Path,
    reference: str,
    labels: Mapping[str, str],
) -> None:
    """Make the folder `root` an image of one layer, less what a container has no use for."""
    # Licences lie among the documentation, which is small in a minimal system: it stays.
    left_out = [f"./usr/share/{name}/*" for name in definition.left_out if name != "doc"]
    left_out += ["./dev/*", "./proc/*", "./sys/*", "./var/cache/apt/*", "./var/cache/debconf/*-old"]
    left_out += ["./var/lib/apt/lists/*", "./var/log/*", "./etc/hostname", "./etc/resolv.conf"]
    command = ["tar", "-C", str(root), "--numeric-owner", "--sort=name"]
    command += [f"--exclude={pattern}" for pattern in left_out]
    changes = [f'LABEL {key}="{value}"' for key, value in labels.items()] + ['CMD ["bash"]']
    with subprocess.Popen([*command, "-c", "."], stdout=subprocess.PIPE) as tar:
        answer = client.api.import_image_from_stream(tar.stdout, changes=changes)
    # Named only now: what was cut short must not pass for the image.
    if tar.returncode != 0:
        message = f"tar could not read the new system in {root} (exit status {tar.returncode})."
        raise ImageError(message)
    client.images.get(json.loads(answer.splitlines()[-1])["status"]).tag(reference)


def _run(command: list[str]) -> None:
    """Run a command quietly.

    Raises:
        ImageError: it failed; with its last lines.
    """
    environment = {**environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-15:])
        message = f"'{' '.join(command)}' failed with exit status {done.returncode}:\n{last}"
        raise ImageError(message)
