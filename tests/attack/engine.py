"""A container engine of a test's own, which it may kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException

from tests.conftest import missing, until


class OwnEngine:
    """An engine in a folder, beside the machine's own: with its own network and its own images."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"unix://{folder}/engine.sock"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "daemon.json").write_text("{}", encoding="ascii")  # nothing of the machine's own

    def start(self) -> None:
        """Start it, and return when it answers."""
        # A folder's name may have lines at the end or next to each other, a namespace's may not.
        name = self._folder.name.replace("_", "0")
        # In a network of its own: an engine without a bridge takes away the one that it finds,
        # which is that of the machine's own engine.
        command = [
            "unshare", "--net", "dockerd", f"--host={self.url}",
            f"--config-file={self._folder}/daemon.json",
            f"--data-root={self._folder}/data", f"--exec-root={self._folder}/exec",
            f"--pidfile={self._folder}/engine.pid", "--bridge=none", "--iptables=false",
            "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false",
            f"--containerd-namespace={name}", f"--containerd-plugins-namespace={name}-plugins",
        ]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if not until(self._answers, 60):
            said = (self._folder / "log").read_text(errors="replace")[-1500:]
            raise RuntimeError(f"a second engine did not come up:\n{said}")

    def kill(self) -> None:
        """End it at once, as the kernel does when memory is out. Its containers go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        # Its containerd was told to end with it; a new one would not start beside the old one.
        assert until(lambda: not self._left("containerd")), "its containerd is still there"
        # Where nobody takes the end of orphans its number is still in use, and would be believed.
        (self._folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """End it, whatever it runs, and take away what it has mounted."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=30)
            self._process.kill()
            self._process.wait()
        for pid in self._left(""):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert until(lambda: not self._left("")), "something of the second engine is left"
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        for place in sorted((line.split()[1] for line in mounts), reverse=True):
            if place.startswith(f"{self._folder}/"):
                command = [shutil.which("umount") or "umount", "--lazy", place]
                subprocess.run(command, check=True, timeout=30)

    def load(self, image: str) -> None:
        """Copy an image of the machine's own engine."""
        with closing(docker.from_env()) as own, closing(self._client()) as client:
            client.images.load(b"".join(own.api.get_image(image)))

    def containers(self) -> list[dict[str, Any]]:
        """What it has, in whatever state."""
        with closing(self._client()) as client:
            return list(client.api.containers(all=True))

    def is_busy(self) -> bool:
        """True if a module runs in one of its containers."""
        with closing(self._client()) as client:
            for container in client.api.containers():
                with suppress(APIError):  # it has ended by now
                    processes = client.api.top(container["Id"])["Processes"]
                    if len(processes) > 1:  # the supervisor, and what it has forked for the call
                        return True
        return False

    def _client(self) -> docker.DockerClient:
        return docker.DockerClient(self.url, timeout=30)

    def _answers(self) -> bool:
        with suppress(DockerException, OSError):
            with socket.socket(socket.AF_UNIX) as link:  # the client would not close a failed one
                link.connect(self.url.removeprefix("unix://"))
            with closing(self._client()) as client:
                return bool(client.ping())
        return False

    def _left(self, name: str) -> list[int]:
        """The processes that were started for it: they have its folder among their arguments."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                program, *arguments = (process / "cmdline").read_bytes().split(b"\0")
                ours = any(os.fsencode(self._folder) in argument for argument in arguments)
                if ours and program.endswith(name.encode()) and int(process.name) != os.getpid():
                    found.append(int(process.name))
        return found


@contextlib.contextmanager
def own_engine() -> Iterator[OwnEngine]:
    """A second engine that answers. Afterwards nothing of it is left."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "unshare", "umount"))):
        missing("only root can start a second container engine, and only where there is one")
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    engine = OwnEngine(folder)
    try:
        engine.start()
        yield engine
    finally:
        engine.close()
        shutil.rmtree(folder)
