"""A broker for benches: the image that is shipped, on the host's own network, at loopback.

A published port goes through the engine's proxy, which takes as much of the processor as the
broker itself. The limits are those of `images/broker/mosquitto.conf`, but for what a machine that
plays a whole fleet needs.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker

from images.build import ensure

_CONFIG = """
persistence false
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_packet_size 8454144
max_inflight_messages 1000
max_queued_messages 100000
max_queued_bytes 268435456
plugin /usr/lib/oodida/pace.so
plugin_opt_paces /etc/mosquitto/paces
log_dest stderr
log_type error
"""


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """A broker of one's own; its address."""
    port = free_port()
    image = ensure("broker", progress=lambda _: None)
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(docker.from_env()) as client:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(_CONFIG.format(port=port))
        config.chmod(0o644)
        Path(folder).chmod(0o755)
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        container = client.containers.create(
            image,
            ["-c", "/etc/mosquitto/bench.conf"],
            network_mode="host",
            labels={"io.oodida.bench": str(os.getpid())},
            volumes={str(config): {"bind": "/etc/mosquitto/bench.conf", "mode": "ro"}},
            ulimits=[docker.types.Ulimit(name="nofile", soft=files, hard=files)],
        )
        try:
            container.start()
            _wait(port)
            yield f"mqtt://127.0.0.1:{port}"
        finally:
            container.remove(force=True, v=True)


def _wait(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
