"""What a user would use instead of the sandbox: a spawned process, and a container by hand."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import docker

from edge_runtime.sandbox import settings
from protocol.limits import Limits

#: Reads a line of JSON with source and argument, and prints the result.
_IN_CONTAINER: Final = """
import json, sys
sys.path.append("/oodida/lib")
source, argument = json.loads(sys.stdin.readline())
module = {}
exec(compile(source, "custom_code.py", "exec"), module)
print(json.dumps(module["custom_code"](argument)))
"""
_SPAWNING: Final = Path(__file__).with_name("_spawning.txt")


def _command(image: str, program: str) -> list[str]:
    command = ["docker", "run", "--rm", "--interactive", "--network=none"]
    return [*command, "--entrypoint=/usr/bin/python3", image, "-c", program]


@contextmanager
def spawning(image: str, source: str, argument: Any) -> Iterator[Callable[[], tuple[float, Any]]]:
    """Gives what spawns a process with the module once: the seconds it took, and the result."""
    line = json.dumps([source, argument]) + "\n"
    with subprocess.Popen(
        _command(image, _SPAWNING.read_text()),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def call() -> tuple[float, Any]:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("no pipes")
            process.stdin.write(line)
            process.stdin.flush()
            seconds, result = json.loads(process.stdout.readline())
            return float(seconds), result

        yield call
        if process.stdin is not None:
            process.stdin.close()


def docker_run(image: str, source: str, argument: Any) -> Callable[[], Any]:
    """One container by hand, with the command line's own start, end and removal."""
    line = json.dumps([source, argument]) + "\n"

    def call() -> Any:
        command = _command(image, _IN_CONTAINER)
        done = subprocess.run(command, input=line, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return call


def bare_engine(image: str, containers: int, at_once: int, *, trivial: bool) -> float:
    """Containers a second that the engine creates, starts, waits for and removes.

    They have every setting of ours and no call: the program that ours run comes up and ends, or
    with ``trivial`` an interpreter that does nothing.
    """
    body = settings.container(settings.Shape.of(image, Limits()), [], {"io.oodida.bench": "bare"})
    body["OpenStdin"] = False  # the program finds its input ended
    if trivial:
        body["Entrypoint"] = ["/usr/bin/python3", "-I", "-S", "-c", "pass"]

    def one(number: int) -> None:
        with closing(docker.APIClient(version="auto", timeout=60)) as client:
            name = f"oodida-bench-{number}-{time.monotonic_ns()}"
            client.create_container_from_config(body, name)  # type: ignore[no-untyped-call]
            client.start(name)
            client.wait(name)
            client.remove_container(name, force=True, v=True)

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(one, range(containers)))
    return containers / (time.perf_counter() - started)
