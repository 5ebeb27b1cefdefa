"""After a run of a whole system, no key and no password is anywhere but where it is kept."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import docker
import pytest

import oodida
from orchestrator.store.opening import open_store
from protocol.errors import OodidaError, SetupError

MODULE = "def custom_code(window):\n    print('hello')\n    return 1\n"
#: Where in the first line of a key's text its secret number is, whichever of our kinds it is. What
#: comes later may be the public key, which is in certificates as well.
SECRET = slice(50, 64)


def keys(folder: Path) -> dict[Path, bytes]:
    """Each private key below a folder: a piece of its text, which is in it alone."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in (text := path.read_bytes()):
            found[path] = text.partition(b"PRIVATE KEY-----\n")[2][SECRET]
    return found


def texts(folder: Path, apart: set[Path]) -> Iterator[tuple[str, bytes]]:
    """Where a secret might be: other files, processes, containers, images."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in apart:
            yield str(path), path.read_bytes()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield f"the arguments of {process.name}", (process / "cmdline").read_bytes()
    with closing(docker.APIClient()) as client:
        for container in client.containers(all=True):
            with suppress(docker.errors.NotFound):  # others come and go
                said = client.inspect_container(container["Id"])
                yield f"container {said['Name']}", json.dumps(said).encode()
                with suppress(docker.errors.APIError):  # of a sandbox nothing is kept
                    yield f"what {said['Name']} said", client.logs(container["Id"])
        for image in client.images():
            if any(name.startswith("oodida/") for name in image["RepoTags"] or ()):
                about = json.dumps(_of_image(client, image["Id"])).encode()
                yield f"image {image['RepoTags']}", about


def _of_image(client: Any, image: str) -> list[Any]:
    return [client.inspect_image(image), client.history(image)]


@pytest.mark.usefixtures("engine")
def test_a_run_leaves_no_key_in_logs_store_arguments_containers_or_images(tmp_path: Path) -> None:
    with oodida.local(dict.fromkeys(["car-1"]), user="ada", folder=tmp_path) as fleet:
        fleet.deploy(MODULE, name="m", to="vehicles")
        run = fleet.submit(
            oodida.Assignment(
                onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=3),
                offboard=oodida.Offboard("sum"),
            )
        )
        assert run.result(timeout_s=60) == 1
        with pytest.raises(OodidaError) as refused:
            fleet.deploy("import ctypes\n" + MODULE, name="bad", to="vehicles")
        secrets = keys(tmp_path)
        assert len(secrets) >= 5  # authority, broker, orchestrator, worker, vehicle, analyst
        for path in secrets:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert not mode & 0o077, f"{path} can be read by others: {mode:o}"
        places = [*texts(tmp_path, set(secrets)), ("an error", repr(refused.value).encode())]
    assert any(b"orchestrator" in text for _, text in places)
    leaks = {
        (path.name, place)
        for path, piece in secrets.items()
        for place, text in places
        if piece in text
    }
    assert leaks == set()


def test_a_password_of_the_store_is_in_no_error(tmp_path: Path) -> None:
    secret = "s3cr3t-that-can-be-found"  # noqa: S105
    file = tmp_path / "password"
    file.write_text(secret)
    for url in ("postgresql+psycopg://u@127.0.0.1:1/x", f"postgresql+psycopg://u:{secret}@[x", "x"):
        with pytest.raises(SetupError) as raised:
            open_store(url, file)
        assert secret not in f"{raised.value!r} {raised.value.__cause__!r}"
