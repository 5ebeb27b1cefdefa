"""What runs in a container of its own, broker and database: killed, and back at the same port."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import docker
from docker.errors import DockerException, NotFound
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from images.build import ensure
from oodida.containers import OWNER_LABEL, owner_of
from oodida.throwaway import Throwaway
from protocol.link import credentials
from tests.conftest import until

#: Whose world a container or volume belongs to.
LABEL: Final = "io.oodida.chaos"
START_S: Final = 60.0


class Service:
    """A container with one port on loopback, which stays the same over its deaths.

    ``answers`` tells whether it can be used. ``state`` is a folder in it that a volume keeps.
    """

    def __init__(
        self,
        image: str,
        world: str,
        inside: int,
        *,
        environment: Mapping[str, str] | None = None,
        state: str | None = None,
        scratch: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._client: Any = docker.from_env(timeout=60)
        self.port = free_port()
        self.answers: Callable[[], bool] = lambda: True
        self._volume: Any = None
        # With the second label `oodida.local` reaps it if we die: whose it is, and since when.
        labels = {LABEL: world, OWNER_LABEL: owner_of(os.getpid())}
        if state is not None:
            self._volume = self._client.volumes.create(labels=labels)
        kept = {self._volume.name: {"bind": state, "mode": "rw"}} if state is not None else {}
        settings: dict[str, Any] = {"volumes": kept, **(options or {})}
        self._container: Any = self._client.containers.create(
            ensure(image),
            ports={f"{inside}/tcp": ("127.0.0.1", self.port)},
            environment=dict(environment or {}),
            tmpfs=dict(scratch or {}),
            labels=labels,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            **settings,
        )

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        self._container.start()
        if not until(self.answers, START_S):
            raise TimeoutError(f"{self._container.name} does not come up")

    def kill(self) -> bool:
        """SIGKILL; False if it did not run."""
        try:
            self._container.kill()
        except DockerException:
            return False
        self._container.wait()
        return True

    def remove(self) -> None:
        """Remove it, and what it kept."""
        with contextlib.suppress(DockerException):
            self._container.remove(force=True, v=True)
        if self._volume is not None:
            with contextlib.suppress(NotFound):
                self._volume.remove(force=True)
        self._client.close()


def broker(world: str, issuer: Throwaway) -> Service:
    """The broker that is shipped, with certificates."""
    made = Service("broker", world, 8883, options=issuer.broker())
    # The engine's own proxy takes connections before the broker does: its CONNACK tells.
    client_id = b"analyst:nobody"
    tls = credentials.load(issuer.enroll("analyst", "nobody")).context
    hello = b"\x00\x04MQTT\x05\x02\x00\x05\x00\x00" + bytes([len(client_id)]) + client_id

    def answers() -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", made.port), 1) as plain,
                tls.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
            ):
                sock.sendall(bytes([0x10, len(hello)]) + hello)
                return sock.recv(1) == b"\x20"
        except OSError:
            return False

    made.answers = answers
    return made


def postgres(world: str) -> tuple[Service, str]:
    """The database that is shipped, and the URL of a store in it."""
    password = secrets.token_urlsafe(24)
    made = Service(
        "postgres",
        world,
        5432,
        environment={"POSTGRES_PASSWORD": password},
        state="/var/lib/postgresql/data",
        scratch={"/run/postgresql": "uid=10001,gid=10001,mode=0700"},
    )
    url = f"postgresql+psycopg://oodida:{password}@127.0.0.1:{made.port}/oodida"
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 2})

    def answers() -> bool:
        try:
            with engine.connect() as connection:
                return connection.execute(text("SELECT 1")).scalar() == 1
        except OperationalError:
            return False

    made.answers = answers
    return made, url


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
