"""After a run of a whole system, no secret is anywhere but where it is kept."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import oodida
from images.build import ensure
from oodida.pki import Pki
from orchestrator.store.opening import open_store
from protocol import identity, topics
from protocol.errors import OodidaError, SetupError
from protocol.link import enrolment
from tests.conftest import until
from tests.leaks import files, keys, leaked, places
from tests.secure import Raw, Secure, raw

MODULE = "def custom_code(window):\n    print('hello')\n    return 1\n"
#: All that the broker keeps, by who may read it: what a vehicle should have, what each worker
#: should, and who is there.
RETAINED: Final = {
    "vehicle:car-1": (topics.own_modules("car-1"),),
    "worker:worker-1": (topics.every_offboard_module(),),
    "orchestrator:spy": tuple(topics.all_of(f, "presence") for f in ("vehicles", "workers")),
}


def free_port() -> int:
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def process(log: Path, *command: str, **environment: str) -> Iterator[None]:
    """A program of ours, ended when this ends."""
    with log.open("wb") as said:
        running = subprocess.Popen(
            [sys.executable, *command], env={**os.environ, **environment}, stdout=said, stderr=said
        )
        try:
            yield
        finally:
            running.terminate()
            running.wait(20)


def cli(*words: str) -> str:
    command = [sys.executable, "-c", "from oodida.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def enrolled_by_token(folder: Path, broker: str, name: str) -> Iterator[str]:
    """A vehicle that has come by its certificate with a token, which is given."""
    pki, at = folder / "pki", f"127.0.0.1:{free_port()}"
    serve = ["-c", "from oodida.cli import main; main()", "pki", "serve", f"--listen={at}"]
    with process(folder / "logs" / "keeper.log", *serve, f"--pki={pki}"):
        assert until(lambda: _answers(at))
        token = cli("enroll", "vehicle", name, "--token", "--at", at, "--pki", str(pki)).strip()
        own = [f"--name={name}", f"--broker={broker}", f"--state={folder / name}", "--pool=0"]
        own.append(f"--identity={folder / 'own' / name}")
        own.append(f"--image=minimal={ensure('sandbox-minimal', progress=print)}")
        log = folder / "logs" / f"{name}.log"
        with process(log, "-m", "edge_runtime", *own, OODIDA_ENROLL=token):
            yield token


def _answers(at: str) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(enrolment.address(at), 1).close()
        return True
    return False


def retained(broker: Secure) -> list[tuple[str, bytes]]:
    """Every message that the broker keeps."""
    found: list[tuple[str, bytes]] = []
    for who, filters in RETAINED.items():
        with raw(broker, identity.parse(who)) as client:
            for one in filters:
                assert client.subscribe(one) < 128, f"{who} may not read {one}"
                found += _heard(client)
    return found


def _heard(client: Raw) -> Iterator[tuple[str, bytes]]:
    wait_s = 5.0  # what is kept comes at once, and one behind the other
    with contextlib.suppress(queue.Empty):
        while True:
            topic, payload = client.heard.get(timeout=wait_s)
            yield f"retained at {topic}", payload
            wait_s = 0.5


@pytest.mark.usefixtures("engine")
@pytest.mark.timeout(180)
def test_a_run_leaves_no_secret_in_logs_store_messages_arguments_containers_or_images(
    tmp_path: Path,
) -> None:
    port = free_port()
    with (
        oodida.local({"car-1": None}, user="ada", folder=tmp_path, port=port) as fleet,
        enrolled_by_token(tmp_path, f"mqtts://127.0.0.1:{port}", "car-2") as token,
    ):
        assert until(lambda: len([v for v in fleet.vehicles() if v.online]) == 2, 60)
        fleet.deploy(MODULE, name="m", to="vehicles")
        fleet.deploy("def custom_code(results): return sum(results)", name="s", to="cloud")
        run = fleet.submit(
            oodida.Assignment(
                onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=3),
                offboard=oodida.Offboard("custom", module="s"),
            )
        )
        assert run.result(timeout_s=60) == 2
        with pytest.raises(OodidaError) as refused:
            fleet.deploy("import ctypes\n" + MODULE, name="bad", to="vehicles")
        kept = keys(tmp_path)
        assert len(kept) >= 7  # authority, broker, orchestrator, worker, two vehicles, analyst
        for path in kept:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert not mode & 0o077, f"{path} can be read by others: {mode:o}"
        messages = retained(Secure(port, Pki(tmp_path / "pki")))
        said = ("an error", repr(refused.value).encode())
        everywhere = [*messages, *places(), *files(tmp_path, kept), said]
    topics_ = {place.removeprefix("retained at ") for place, _ in messages}
    wanted = {topics.modules("car-1", "ada", "m"), topics.offboard_modules("ada", "s")}
    assert wanted < topics_
    assert leaked({"what is no secret": b"hello"}, everywhere)  # it would be found
    secrets = {str(path): piece for path, piece in kept.items()}
    secrets |= {"token": token.encode(), "its secret": enrolment.parse(token).secret.encode()}
    assert leaked(secrets, everywhere) == set()


def test_a_password_of_the_store_is_in_no_error(tmp_path: Path) -> None:
    secret = "s3cr3t-that-can-be-found"  # noqa: S105
    file = tmp_path / "password"
    file.write_text(secret)
    for url in ("postgresql+psycopg://u@127.0.0.1:1/x", f"postgresql+psycopg://u:{secret}@[x", "x"):
        with pytest.raises(SetupError) as raised:
            open_store(url, file)
        assert secret not in f"{raised.value!r} {raised.value.__cause__!r}"
