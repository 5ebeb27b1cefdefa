"""What a user would use instead of the sandbox: a spawned process, and a container by hand."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import docker

from edge_runtime.sandbox import settings
from protocol.limits import Limits

#: Reads a line of JSON with source and argument, and prints the result.
_IN_CONTAINER = """
import json, sys
sys.path.append("/oodida/lib")
source, argument = json.loads(sys.stdin.readline())
module = {}
exec(compile(source, "custom_code.py", "exec"), module)
print(json.dumps(module["custom_code"](argument)))
"""


def spawned(source: str, argument: Any, folder: Path) -> Callable[[], Any]:
    """The paper's mechanism: write the module's file, spawn a process, import and reload it there.

    Returns what does it once, and returns the result.
    """
    spawn = multiprocessing.get_context("spawn")

    def call() -> Any:
        (folder / "custom_module.py").write_text(source)
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_in_process, args=(str(folder), argument, theirs))
        process.start()
        theirs.close()
        result = ours.recv()
        process.join()
        process.close()
        return result

    return call


def _in_process(folder: str, argument: Any, pipe: Connection) -> None:
    sys.path.insert(0, folder)
    module = importlib.reload(importlib.import_module("custom_module"))
    pipe.send(module.custom_code(argument))


def docker_run(image: str, source: str, argument: Any) -> Callable[[], Any]:
    """One container by hand, with the command line's own start, end and removal."""
    command = ["docker", "run", "--rm", "--interactive", "--network=none"]
    command += ["--entrypoint=/usr/bin/python3", image, "-c", _IN_CONTAINER]
    line = json.dumps([source, argument]) + "\n"

    def call() -> Any:
        done = subprocess.run(command, input=line, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return call


def bare_engine(image: str, containers: int, at_once: int) -> float:
    """Containers a second that the engine creates, starts, waits for and removes.

    They have every setting of ours and an interpreter that does nothing.
    """
    body = settings.container(settings.Shape.of(image, Limits()), [], {"io.oodida.bench": "bare"})
    body |= {"Entrypoint": ["/usr/bin/python3", "-I", "-S", "-c", "pass"], "OpenStdin": False}

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
