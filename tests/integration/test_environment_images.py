"""From a lock to a vehicle: the engine and a registry as they are."""

from __future__ import annotations

import json
import secrets
import socket
import tarfile
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest

from edge_runtime.cancelled import Cancelled
from edge_runtime.environments import build, image, layer
from edge_runtime.environments.pip import Source
from edge_runtime.environments.pull import Progress, pull
from edge_runtime.environments.resolve import fetch, resolve
from edge_runtime.environments.usage import Usage, remove_unused
from edge_runtime.sandbox import Call, Sandbox
from edge_runtime.sandbox.image_store import ImageStore
from images.build import ensure as image_of
from protocol.environment import Lock
from protocol.limits import Limits
from protocol.outcome import Outcome
from protocol.values import Tree
from tests import wheels
from tests.conftest import until
from tests.wheels import ask, free_port, refusal

pytestmark = pytest.mark.alone


class Registry:
    """The registry that is shipped, on this machine's own network as the engine sees it."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._client = docker.from_env()
        self.container = self._client.containers.create(
            image_of("registry"),
            network_mode="host",
            environment={"REGISTRY_HTTP_ADDR": self.address},
        )
        self.start()

    def start(self) -> None:
        self.container.start()
        host, _, port = self.address.partition(":")

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) == 0

        assert until(answers), self.container.logs()

    def close(self) -> None:
        self.container.remove(force=True, v=True)
        self._client.close()


@pytest.fixture(scope="module")
def registry(engine: None) -> Iterator[Registry]:  # noqa: ARG001
    with closing(Registry()) as registry:
        yield registry


@pytest.fixture(scope="module")
def base(engine: None) -> str:  # noqa: ARG001
    return image_of("sandbox-minimal")


@pytest.fixture(scope="module")
def sandbox(base: str) -> Iterator[Sandbox]:
    with Sandbox({"minimal": base}, f"test-{secrets.token_hex(4)}") as sandbox:
        yield sandbox


@pytest.fixture
def store(engine: None) -> Iterator[ImageStore]:  # noqa: ARG001
    """The engine's images; those that a test made are gone afterwards."""
    store = ImageStore()
    before = {i.id for i in store.labelled(image.LABEL)}
    yield store
    for made in store.labelled(image.LABEL):
        if made.id not in before:
            assert until(lambda i=made: store.remove(i) or store.find(i.id) is None)  # type: ignore[misc]


class Made:
    """An environment of a library that this test run alone has."""

    def __init__(self, folder: Path, base: str, sandbox: Sandbox) -> None:
        self.mark = secrets.token_hex(8)
        files: dict[str, str | bytes] = {
            "marked/__init__.py": f"from marked.inner import MARK\nassert MARK == {self.mark!r}\n",
            "marked/inner.py": f"MARK = {self.mark!r}\n",
            "marked/template.py": "this is {{ no }} Python",
            "marked/noise.bin": secrets.token_bytes(200_000),
        }
        wheels.make(folder / "site", "marked", files=files)
        self.wheels = folder / "out"
        source = Source((folder / "site",), index=False)
        self.lock = resolve(ask("marked"), base, self.wheels, source=source)
        self._sandbox = sandbox

    def run(self, source: str, argument: Tree, limits: Limits) -> Outcome:
        return self._sandbox.run(Call(source, "minimal", argument), limits)

    def ensure(self, store: ImageStore, registry: str | None) -> build.Built:
        return build.ensure(self.lock, lambda: self.wheels, store, run=self.run, registry=registry)


@pytest.fixture
def made(tmp_path: Path, base: str, sandbox: Sandbox) -> Made:
    return Made(tmp_path, base, sandbox)


def forget(store: ImageStore, lock: Lock) -> None:
    """Remove an environment from this machine, as one that never had it."""
    for there in store.labelled(f"{image.LABEL}={lock.digest}"):
        assert until(lambda i=there: store.remove(i))  # type: ignore[misc]


def test_from_a_lock_to_a_call(
    made: Made, store: ImageStore, registry: Registry, sandbox: Sandbox
) -> None:
    built = made.ensure(store, registry.address)
    assert built.built
    local = store.find(image.name(made.lock.digest))
    assert local is not None
    assert local.labels[image.LABEL] == made.lock.digest

    def never() -> Path:
        raise AssertionError("built again")

    again = build.ensure(made.lock, never, store, run=None, registry=registry.address)
    assert again == build.Built(built.reference, built=False)

    forget(store, made.lock)
    told: list[Progress] = []
    pulled = pull(built.reference, made.lock.digest, store, progress=told.append)
    assert pulled == local.id
    assert told == sorted(told, key=lambda p: p.done)
    assert told[-1].done == told[-1].total
    assert 200_000 < told[-1].total < 400_000, "the one layer; the base's are here"
    assert pull(built.reference, made.lock.digest, store) == local.id, "without a registry, too"

    sandbox.add(made.lock.digest, pulled)
    source = """
    import marked
    from pathlib import Path
    def custom_code(window):
        lock = Path("/oodida/lock.txt").read_text()
        return [marked.MARK, marked.__cached__, lock]
    """
    outcome = sandbox.run(Call(textwrap.dedent(source), made.lock.digest))
    assert outcome.ok, outcome
    assert outcome.value == [
        made.mark, "/oodida/lib/marked/__pycache__/__init__.cpython-313.pyc", made.lock.text(),
    ]  # fmt: skip
    sandbox.remove(made.lock.digest)


def test_the_same_lock_gives_the_same_image(made: Made, store: ImageStore, tmp_path: Path) -> None:
    first = made.ensure(store, None)
    assert first.built
    assert made.ensure(store, None) == build.Built(first.reference, built=False)
    forget(store, made.lock)
    fetch(made.lock, tmp_path / "fetched", source=Source((tmp_path / "site",), index=False))
    made.wheels = tmp_path / "fetched"
    assert made.ensure(store, None) == first
    assert pull(first.reference, made.lock.digest, store) == first.reference.partition("@")[2]
    forget(store, made.lock)
    error = refusal(lambda: pull(first.reference, made.lock.digest, store))
    assert error.details["reason_code"] == "gone", "without a registry there is none to ask"


def test_what_is_compiled_is_what_the_interpreter_would_make(made: Made, tmp_path: Path) -> None:
    written = layer.write(made.lock, made.wheels, tmp_path / "layer", run=made.run)
    plain = layer.write(made.lock, made.wheels, tmp_path / "plain", run=None)
    assert written.files == plain.files
    with tarfile.open(tmp_path / "layer") as one, tarfile.open(tmp_path / "plain") as other:
        added = set(one.getnames()) - set(other.getnames())
    places = ("", "/__init__.cpython-313.pyc", "/inner.cpython-313.pyc")
    assert added == {f"oodida/lib/marked/__pycache__{place}" for place in places}
    again = layer.write(made.lock, made.wheels, tmp_path / "again", run=made.run)
    assert again == written


def test_an_image_of_another_environment_is_refused(
    made: Made, store: ImageStore, registry: Registry
) -> None:
    built = made.ensure(store, registry.address)
    forget(store, made.lock)
    error = refusal(lambda: pull(built.reference, "0" * 64, store))
    assert error.details["reason_code"] == "wrong_image"
    assert store.labelled(f"{image.LABEL}={made.lock.digest}") == [], "and not kept"
    unknown = f"{registry.address}/{image.REPOSITORY}@sha256:{'0' * 64}"
    gone = refusal(lambda: pull(unknown, "0" * 64, store))
    assert gone.details["reason_code"] == "gone"
    full = refusal(lambda: pull(unknown, "0" * 64, store, size=2**60))
    assert full.details["reason_code"] == "no_space"


class Counting(ImageStore):
    """The engine's images, and how often it was asked to pull."""

    def __init__(self) -> None:
        self.pulls = 0

    def pull(
        self,
        reference: str,
        cancelled: threading.Event = threading.Event(),  # noqa: B008
    ) -> Iterator[dict[str, Any]]:
        self.pulls += 1
        return super().pull(reference, cancelled)


def test_a_registry_may_go_and_come_back(made: Made, store: ImageStore, registry: Registry) -> None:
    built = made.ensure(store, registry.address)
    forget(store, made.lock)
    registry.container.kill()
    try:
        digest = made.lock.digest
        away = refusal(lambda: pull(built.reference, digest, store, patience_s=0.5))
        assert away.details["reason_code"] == "registry_unreachable"
        away = refusal(lambda: made.ensure(store, registry.address))
        assert away.details["reason_code"] == "registry_unreachable"
        counting, cancelled = Counting(), threading.Event()
        with ThreadPoolExecutor(2) as pool:
            stopped = pool.submit(pull, built.reference, digest, ImageStore(), cancelled=cancelled)
            waiting = pool.submit(pull, built.reference, digest, counting)
            assert until(lambda: counting.pulls >= 2)
            cancelled.set()
            with pytest.raises(Cancelled):
                stopped.result(timeout=5)
            registry.start()
            image_id = waiting.result(timeout=60)
    finally:
        registry.start()
    found = store.find(image_id)
    assert found is not None
    assert found.labels[image.LABEL] == digest


def test_a_pull_that_hangs_can_be_cancelled(
    made: Made, store: ImageStore, registry: Registry
) -> None:
    built = made.ensure(store, registry.address)
    forget(store, made.lock)
    registry.container.pause()
    try:
        counting, cancelled = Counting(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(
                pull, built.reference, made.lock.digest, counting, cancelled=cancelled
            )
            assert until(lambda: counting.pulls == 1)
            cancelled.set()
            with pytest.raises(Cancelled):
                hanging.result(timeout=5)
    finally:
        registry.container.unpause()

    def quiet() -> bool:
        return not any(t.name == "engine-events" for t in threading.enumerate())

    assert until(quiet), "a thread still waits for the engine"
    assert pull(built.reference, made.lock.digest, store)


def test_what_nobody_uses_is_removed_and_what_is_used_stays(
    made: Made, store: ImageStore, tmp_path: Path
) -> None:
    built = made.ensure(store, None)
    digest, usage, now = made.lock.digest, Usage(tmp_path / "usage.json"), time.time()
    others = {i.labels[image.LABEL] for i in store.labelled(image.LABEL)} - {digest}
    assert remove_unused(store, usage, others, now, 3600.0) == [], "seen for the first time"
    later = now + 7200
    assert remove_unused(store, usage, {digest, *others}, later, 3600.0) == [], "deployed here"
    with closing(docker.from_env()) as client:
        container = client.containers.create(built.reference.partition("@")[2])
        try:
            assert remove_unused(store, usage, others, later, 3600.0) == [], "a container has it"
        finally:
            container.remove()
    assert store.find(image.name(digest)) is not None, "under its name"
    assert remove_unused(store, usage, others, later, 3600.0) == [digest]
    assert store.labelled(f"{image.LABEL}={digest}") == []
    assert digest not in json.loads((tmp_path / "usage.json").read_text())


def test_nothing_of_a_failed_build_stays(made: Made, store: ImageStore, tmp_path: Path) -> None:
    lock = made.lock.model_copy(update={"base": "oodida/no-such-base:x"})
    error = refusal(lambda: build.ensure(lock, lambda: made.wheels, store, run=None, registry=None))
    assert error.details["reason_code"] == "build_failed"
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        layer.write(made.lock, made.wheels, tmp_path / "layer", run=None, cancelled=cancelled)
    assert not (tmp_path / "layer").exists()
