"""A cloud for benches: store, orchestrator and worker, and what can be read of them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import docker
from sqlalchemy import Engine, create_engine, text

from bench._broker import free_port
from images.build import ensure

PATIENCE_S = 120.0


def say(line: str) -> None:
    """Progress, where it is not in the way of the figures."""
    print(line, file=sys.stderr, flush=True)


def end_on_termination() -> None:
    """Let a SIGTERM end the bench as Ctrl-C does, so that nothing of it is left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for something; RuntimeError if it does not come about."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {patience_s:g} s: {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def part(module: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """One of our programs, which ends when this does; its errors go where ours go."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", module, "--stop-on-eof", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _line(stream: IO[str] | None) -> str:
    line = stream.readline() if stream is not None else ""
    if not line:
        raise RuntimeError("a part has ended; what it said last is above")
    return line


@contextlib.contextmanager
def store(kind: str) -> Iterator[str]:
    """An empty SQLite file, or a PostgreSQL of one's own; its SQLAlchemy URL."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/store.db"
            return
        with _postgres() as url:
            yield url


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    port, password = free_port(), secrets.token_urlsafe(24)
    image = ensure("postgres", progress=lambda _: None)
    with contextlib.closing(docker.from_env()) as client:
        container = client.containers.create(
            image,
            ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}"],
            network_mode="host",
            environment={"POSTGRES_PASSWORD": password},
            labels={"io.oodida.bench": str(os.getpid())},
        )
        try:
            container.start()
            url = f"postgresql+psycopg://oodida:{password}@127.0.0.1:{port}/oodida"
            until(lambda: rows(url, "SELECT 1") is not None, "PostgreSQL")
            yield url
        finally:
            container.remove(force=True, v=True)


def rows(url: str, query: str, **values: Any) -> list[Any] | None:
    """What a query finds in a store, beside those that work with it; None without an answer."""
    try:
        with _engine(url).connect() as connection:
            return list(connection.execute(text(query), values).all())
    except Exception:  # noqa: BLE001 - it is not there yet, or just being written to
        return None


@cache
def _engine(url: str) -> Engine:
    """Made once: who looks again and again must not take the processor from what is measured."""
    return create_engine(url)


class Cloud(NamedTuple):
    """A running cloud."""

    url: str
    store: str
    orchestrator: subprocess.Popen[str]

    def online(self, role: str) -> int:
        """How many vehicles or workers it knows to be there."""
        found = rows(
            self.store, "SELECT count(*) FROM edges WHERE role = :role AND online", role=role
        )
        return int(found[0][0]) if found else 0

    @property
    def peak_mb(self) -> float:
        """The most memory the orchestrator has taken so far: resident set, in MB."""
        status = Path(f"/proc/{self.orchestrator.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1000

    @property
    def cpu_s(self) -> float:
        """What the orchestrator has taken of the processor so far, in seconds."""
        fields = Path(f"/proc/{self.orchestrator.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def cloud(url: str, kind: str, *, worker: bool = True) -> Iterator[Cloud]:
    """One orchestrator on an empty store, and one worker."""
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(store(kind))
        common = [f"--broker={url}", "--log-level=WARNING"]
        orchestrator = stack.enter_context(part("orchestrator", *common, f"--store={where}"))
        _line(orchestrator.stdout)
        made = Cloud(url, where, orchestrator)
        if worker:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            options = ["--role=worker", "--name=worker-1", f"--state={folder}", "--pool=0"]
            working = stack.enter_context(part("edge_runtime", *common, *options))
            _line(working.stdout)
            until(lambda: made.online("workers") == 1, "the worker is known")
        yield made


@contextlib.contextmanager
def vehicles(url: str, number: int, processes: int | None) -> Iterator[dict[str, Any]]:
    """A simulated fleet, once all are connected; what it said of itself."""
    options = [f"--processes={processes}"] if processes else []
    with part(
        "edge_runtime.simulate", "--json", f"--url={url}", f"--vehicles={number}", *options
    ) as process:
        told: dict[str, Any] = {}
        while told.get("event") != "ready":
            told = json.loads(_line(process.stdout))
        yield told
        # Nobody reads what it tells at its end.
        if process.stdin is not None:
            process.stdin.close()
        if process.stdout is not None:
            process.stdout.read()
