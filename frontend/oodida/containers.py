"""The containers that a system on this machine needs: they do not outlive who started them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from protocol.errors import SetupError

#: Whose service a container is: "pid:start time" of the process that started it.
OWNER_LABEL: Final = "io.oodida.local"


@contextlib.contextmanager
def service(
    image: str, inside: int, port: int = 0, state: str | None = None,
    options: Mapping[str, object] | None = None,
) -> Iterator[str]:  # fmt: skip
    """A container of which one port can be reached on loopback; host:port. It may write `state`.

    ``options`` go to the engine as they are.
    """
    import docker
    from docker.errors import DockerException

    client: Any = None
    container: Any = None
    try:
        try:
            client = docker.from_env(timeout=30)
            _reap(client)
            container = client.containers.create(
                image,
                ports={f"{inside}/tcp": ("127.0.0.1", port or None)},
                **{"volumes": [state] if state else [], **(options or {})},
                labels={OWNER_LABEL: owner_of(os.getpid())},
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
            )
            container.start()
            container.reload()
            found = container.ports[f"{inside}/tcp"][0]["HostPort"]
        except DockerException as e:
            raise SetupError(_what_to_do(e, port)) from e
        yield f"127.0.0.1:{found}"
    finally:
        if container is not None:
            with contextlib.suppress(DockerException):
                container.remove(force=True, v=True)
        if client is not None:
            client.close()


def forget_images(registry: str) -> None:
    """Remove the names that images have from a registry which is gone with its port."""
    import docker
    from docker.errors import DockerException

    with contextlib.suppress(DockerException), contextlib.closing(docker.from_env()) as client:
        for image in client.images.list(filters={"reference": f"{registry}/*/*"}):
            names = [*image.tags, *image.attrs.get("RepoDigests", ())]
            for name in names:
                if name.startswith(f"{registry}/"):
                    with contextlib.suppress(DockerException):  # it went with the name before
                        client.images.remove(name)


def _what_to_do(problem: Exception, port: int) -> str:
    if "already allocated" in str(problem) or "already in use" in str(problem):
        return (
            f"port {port} is taken on this machine; choose another (--port), or 0 for any free one"
        )
    return f"the container engine: {problem}. `make setup` installs and starts one"


def owner_of(pid: int) -> str:
    """The process behind a number: the number alone is used again by others."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}:gone"
    return f"{pid}:{after_name[19]}"


def _reap(client: Any) -> None:
    """Remove containers whose process died without a chance to."""
    from docker.errors import DockerException

    found = client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True)
    for container in found:
        owner = container.labels.get(OWNER_LABEL, "")
        pid = owner.partition(":")[0]
        if pid.isdigit() and owner_of(int(pid)) != owner:
            with contextlib.suppress(DockerException):  # somebody else may be at it too
                container.remove(force=True, v=True)
