"""An image from two others' parts: what the engine saved of the base, and one layer on top."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import IO, Any, Final

from edge_runtime.environments.layer import Layer
from protocol.environment import Lock, Reason, refused

#: The repository of environments in a registry, and on a machine.
REPOSITORY: Final = "oodida/environment"
#: On an image: the digest of the lock that it was made from.
LABEL: Final = "io.oodida.environment"
_MAX_JSON: Final = 4 * 2**20
#: What of a base's configuration goes on: how it is started. Its labels stay with it.
_KEPT: Final = ("Cmd", "Entrypoint", "Env", "User", "WorkingDir", "StopSignal")


def name(lock_digest: str) -> str:
    """Return the name of an environment's image on a machine."""
    return f"{REPOSITORY}:{lock_digest}"


def compose(base: Path, layer: Path, written: Layer, lock: Lock, to: Path) -> str:
    """Write an archive that the engine can load; return the image's id, `sha256:…`.

    Nothing in it depends on when or where it was made.

    Args:
        base: what the engine saved of the base image.
        layer: the file of the layer.
        written: its hash and size.
        lock: what is in it.
        to: the file to write; removed again if that fails.
    """
    try:
        with tarfile.open(base) as saved:
            manifest = json.loads(_small(saved, "manifest.json"))[0]
            config = _config(json.loads(_small(saved, manifest["Config"])), written, lock)
            layers: list[str] = manifest["Layers"]
            with tarfile.open(to, "x", format=tarfile.GNU_FORMAT) as tar:
                own = f"{written.digest.removeprefix('sha256:')}.tar"
                image = hashlib.sha256(config).hexdigest()
                said = {"Config": f"{image}.json", "Layers": [*layers, own]}
                said["RepoTags"] = [name(lock.digest)]
                _copy_layers(saved, layers, tar)
                with layer.open("rb") as source:
                    _add(tar, own, written.size, source)
                for file, data in (
                    (f"{image}.json", config),
                    ("manifest.json", json.dumps([said]).encode()),
                ):
                    _add(tar, file, len(data), io.BytesIO(data))
        return f"sha256:{image}"
    except (tarfile.TarError, KeyError, IndexError, TypeError, ValueError) as problem:
        to.unlink(missing_ok=True)
        message = f"What the engine saved of the base image is not understood: {problem!r}"
        raise refused(Reason.BUILD_FAILED, message) from problem
    except BaseException:
        to.unlink(missing_ok=True)
        raise


def _config(base: dict[str, Any], layer: Layer, lock: Lock) -> bytes:
    start = {key: base["config"][key] for key in _KEPT if base["config"].get(key)}
    config = {
        "architecture": base["architecture"],
        "config": {**start, "Labels": {LABEL: lock.digest}},
        "created": "1970-01-01T00:00:00Z",
        "os": base["os"],
        # The base first, as it is: who has it needs only what comes last.
        "rootfs": {"type": "layers", "diff_ids": [*base["rootfs"]["diff_ids"], layer.digest]},
    }
    return json.dumps(config, sort_keys=True, separators=(",", ":")).encode()


def _copy_layers(saved: tarfile.TarFile, layers: list[str], tar: tarfile.TarFile) -> None:
    """Copy the base's layers. A layer that occurs twice is a link to the first in some versions."""
    for place in dict.fromkeys(layers):
        member = saved.getmember(place)
        source = saved.extractfile(member)
        if source is None:
            raise ValueError(f"{place} is no file")
        if member.issym() or member.islnk():
            with io.BytesIO() as whole:
                shutil.copyfileobj(source, whole)
                size = whole.tell()
                whole.seek(0)
                _add(tar, place, size, whole)
        else:
            _add(tar, place, member.size, source)


def _small(saved: tarfile.TarFile, place: str) -> bytes:
    source = saved.extractfile(place)
    if source is None:
        raise ValueError(f"{place} is no file")
    return source.read(_MAX_JSON)


def _add(tar: tarfile.TarFile, place: str, size: int, source: IO[bytes]) -> None:
    member = tarfile.TarInfo(place)
    member.size, member.mode = size, 0o644
    tar.addfile(member, source)
