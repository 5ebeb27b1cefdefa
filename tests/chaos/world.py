"""A whole system of real parts, each of which can be killed and comes back with what it left."""

from __future__ import annotations

import contextlib
import random
import secrets
import shutil
import ssl
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import docker
from docker.errors import DockerException

import oodida
from edge_runtime.sandbox.engine import label
from images.build import ensure
from oodida.throwaway import Throwaway
from protocol.identity import IdentityRole
from protocol.link import credentials
from tests.chaos import service
from tests.chaos.disk import Disk
from tests.chaos.network import FAIR, Ends, Network
from tests.chaos.part import Part
from tests.chaos.schedule import Size
from tests.conftest import until

#: How long all parts together may take to be there, in seconds.
START_S: Final = 120.0
ANALYST: Final = "analyst"


class World:
    """Broker, store, orchestrators, workers, vehicles, and the network between them.

    ``small_disks`` names the vehicles whose disk can be filled. Use as a context manager.
    """

    def __init__(
        self, size: Size, seed: int, *, store: str = "sqlite", small_disks: Iterable[str] = ()
    ) -> None:
        self.size, self.seed = size, seed
        self.name = secrets.token_hex(4)
        self.folder = Path(tempfile.mkdtemp(prefix=f"oodida-chaos-{seed}-"))
        self.notes: list[str] = []
        self.disks: dict[str, Disk] = {}
        self.parts: dict[str, Part] = {}
        self._stack = contextlib.ExitStack()
        self._store, self._small_disks = store, tuple(small_disks)
        self._engine: Any = docker.from_env(timeout=60)
        self._stack.callback(self._engine.close)
        self._fleet: oodida.Fleet | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def fleet(self) -> oodida.Fleet:
        """The analyst's connection, over a lane of its own."""
        if self._fleet is None:
            raise RuntimeError("the world has not been started")
        return self._fleet

    def _start(self) -> None:
        self._issuer = Throwaway(self.folder / "pki")
        self.broker = service.broker(self.name, self._issuer)
        self._stack.callback(self.broker.remove)
        self.broker.start()
        self.database: service.Service | None = None
        self.store_url = f"sqlite:///{self.folder}/store.db"
        if self._store == "postgresql":
            self.database, self.store_url = service.postgres(self.name)
            self._stack.callback(self.database.remove)
            self.database.start()
        size = self.size
        self.identities = {ANALYST: self._issuer.enroll("analyst", ANALYST)}
        for role, of_role in self._roles().items():
            self.identities |= {name: self._issuer.enroll(role, name) for name in of_role}
        self.network = Network(("127.0.0.1", self.broker.port), self.seed, self._ends)
        self._stack.callback(self.network.close)
        names = (*size.orchestrator_names, *size.worker_names, *size.vehicle_names)
        self.network.open((*names, ANALYST))
        for name in self._small_disks:
            disk = Disk.mount(self.folder / name)
            if disk is None:
                self.notes.append(f"{name}: no small disk, mounting is not permitted here")
            else:
                self.disks[name] = disk
                self._stack.callback(disk.unmount)
        for name in names:
            self.parts[name] = self._part(name)
        self._stack.callback(self._end_parts)
        for name in names:
            self.parts[name].start()
        url = self.network.url(ANALYST)
        self._fleet = oodida.connect(url, ANALYST, identity=self.identities[ANALYST])
        self._stack.callback(self._fleet.close)
        if not until(self.whole, START_S):
            raise TimeoutError(f"not everybody is there: {self.missing()}; see {self.folder}/logs")

    def _roles(self) -> Mapping[IdentityRole, Iterable[str]]:
        size = self.size
        return {
            "orchestrator": size.orchestrator_names,
            "worker": size.worker_names,
            "vehicle": size.vehicle_names,
        }

    def _ends(self, name: str) -> Ends:
        """TLS as the broker speaks it to a part, and as the part speaks it to the broker."""
        broker = self.folder / "pki" / "broker"
        to_part = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        to_part.load_cert_chain(broker / "cert.pem", broker / "key.pem")
        to_part.load_verify_locations(broker / "ca.pem")
        to_part.verify_mode = ssl.CERT_REQUIRED
        return Ends(to_part, credentials.load(self.identities[name]).context)

    def _part(self, name: str) -> Part:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        common = [f"--broker={self.network.url(name)}", f"--identity={self.identities[name]}"]
        if name in self.size.orchestrator_names:
            program, options = "orchestrator", [f"--store={self.store_url}", f"--name={name}"]
        else:
            # A container's owner is named after the part: two worlds must not share the names.
            program, options = "edge_runtime", [f"--name={name}", f"--state={self.folder / name}"]
            if name in self.size.worker_names:
                options.append("--role=worker")
            if name in (*self.size.worker_names, *self.size.sandboxed_names):
                options += [f"--image=minimal={ensure('sandbox-minimal')}", "--pool-most=1"]
                options.append("--attribute=sandbox=true")
        return Part(name, program, [*common, *options], logs / f"{name}.log")

    # --- who is there -------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """Who ought to be online and is not, as the cloud sees it."""
        there = {v.name for v in self.fleet.vehicles() if v.online}
        there |= {w.name for w in self.fleet.workers() if w.online}
        return sorted({*self.size.vehicle_names, *self.size.worker_names} - there)

    def whole(self) -> bool:
        """True if everybody is online, as the cloud sees it."""
        try:
            return not self.missing()
        except oodida.OodidaError:
            return False

    def died(self) -> list[str]:
        """Parts that are not running."""
        return [name for name, part in self.parts.items() if not part.alive]

    def heal(self) -> None:
        """Mend everything, whatever is broken."""
        if self.database is not None:
            self.database.start()
        self.broker.start()
        for name in (*self.parts, ANALYST):
            self.network.set(name, FAIR)
        for disk in self.disks.values():
            disk.free()
        for part in self.parts.values():
            part.thaw()
            part.start()

    # --- containers ---------------------------------------------------------------------------

    def containers(self, of: str | None = None) -> list[Any]:
        """The sandbox containers of every process that ever was one of our parts, or this one."""
        parts = self.parts.values() if of is None else [self.parts[of]]
        return _of_processes(self._engine, {mark for part in parts for mark in part.marks})

    def kill_containers(self, of: str, draw: random.Random) -> int:
        """SIGKILL some of a part's running containers; how many."""
        running = [c for c in self.containers(of) if c.status == "running"]
        killed = 0
        for container in draw.sample(running, min(len(running), draw.randint(1, 2))):
            with contextlib.suppress(DockerException):
                container.kill()
                killed += 1
        return killed

    # --- the end ------------------------------------------------------------------------------

    def _end_parts(self) -> None:
        clouds = [p for n, p in self.parts.items() if n in self.size.orchestrator_names]
        edges = [p for n, p in self.parts.items() if n not in self.size.orchestrator_names]
        for group in (edges, clouds):  # so that the edges' goodbyes are heard
            for part in group:
                part.ask_to_stop()
            for part in group:
                if not part.wait():
                    self.notes.append(f"{part.name} did not stop when it was told to")

    def left(self) -> list[str]:
        """What is left of this world after its end."""
        found = [f"the container {c.name}" for c in self._left_containers()]
        with contextlib.closing(docker.from_env()) as engine:
            wanted = {"label": f"{service.LABEL}={self.name}"}
            volumes: list[Any] = engine.volumes.list(filters=wanted)
            found += [f"the volume {volume.name}" for volume in volumes]
        found += [f"the process {pid}" for pid in _processes_with(str(self.folder))]
        mounts = Path("/proc/mounts").read_text()
        if str(self.folder) in mounts:
            found.append(f"a mount under {self.folder}")
        return found

    def _left_containers(self) -> list[Any]:
        marks = {mark for part in self.parts.values() for mark in part.marks}
        with contextlib.closing(docker.from_env()) as engine:
            wanted: Any = {"label": f"{service.LABEL}={self.name}"}
            own: list[Any] = engine.containers.list(all=True, filters=wanted, ignore_removed=True)
            return own + _of_processes(engine, marks)

    def forget(self) -> None:
        """Remove logs, store and state."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _processes_with(text: str) -> Iterator[int]:
    """The processes that have this text in their command."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                yield int(path.parent.name)


def _of_processes(engine: Any, marks: set[str]) -> list[Any]:
    """The sandbox containers that processes with these marks have started."""
    mark = label("process")
    found = engine.containers.list(all=True, filters={"label": mark}, ignore_removed=True)
    return [c for c in found if c.labels[mark] in marks]
