"""From a request to a lock and its wheels: pip as it is, with and without an index."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_runtime.cancelled import Cancelled
from edge_runtime.environments.bounds import Bounds
from edge_runtime.environments.pip import Source
from edge_runtime.environments.resolve import fetch, resolve
from protocol.environment import EnvironmentSpec, Lock, WheelRef
from protocol.errors import EnvironmentRefused
from tests import wheels
from tests.conftest import missing
from tests.wheels import ask, free_port, refusal

BASE = "oodida/sandbox-minimal:test"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of wheels, as a site without a network has it."""
    folder = tmp_path / "site"
    wheels.make(folder, "alpha", requires=["beta>=1", 'newer; python_version >= "3.13"',
                                           'older; python_version < "3.13"'])  # fmt: skip
    wheels.make(folder, "beta", "1.0")
    wheels.make(folder, "beta", "2.0")
    wheels.make(folder, "newer")
    wheels.make(folder, "older")
    wheels.make(folder, "strict", requires=["beta==1.0"])
    wheels.make(folder, "ancient", tags="cp27-none-any")
    return folder


def found(lock: Lock) -> list[str]:
    return [f"{p.name}=={p.version}" for p in lock.packages]


# --- without a network ------------------------------------------------------------------------


def test_a_folder_is_enough_and_conditions_are_those_of_the_image(
    site: Path, tmp_path: Path
) -> None:
    source = Source((site,), index=False)
    lock = resolve(ask("Alpha"), BASE, tmp_path / "out", source=source)
    assert found(lock) == ["alpha==1.0", "beta==2.0", "newer==1.0"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [p.file for p in lock.packages]
    for package in lock.packages:
        data = (site / package.file).read_bytes()
        assert (package.sha256, package.size) == (hashlib.sha256(data).hexdigest(), len(data))
    again = resolve(ask("alpha"), BASE, tmp_path / "again", source=source)
    assert again.digest == lock.digest


@pytest.mark.parametrize(
    ("requirements", "reason", "word"),
    [
        (("gamma",), "unknown_package", "gamma"),
        (("beta>2",), "no_version", "2.0"),
        (("ancient",), "no_wheel", "ancient"),
        (("beta>=2", "strict"), "conflict", "strict"),
    ],
)
def test_what_cannot_be_had_is_said(
    requirements: tuple[str, ...], reason: str, word: str, site: Path, tmp_path: Path
) -> None:
    source = Source((site,), index=False)
    error = refusal(lambda: resolve(ask(*requirements), BASE, tmp_path / "out", source=source))
    assert (error.details["reason_code"], word in error.message) == (reason, True), error
    assert not (tmp_path / "out").exists()


def test_too_much_is_refused(site: Path, tmp_path: Path) -> None:
    source = Source((site,), index=False)
    noise = secrets.token_bytes(300_000)
    wheels.make(site, "large", files={"large/data.bin": noise, "large/zeros.bin": bytes(2**22)})
    for bounds in (Bounds(wheels=200_000), Bounds(unpacked=2**22), Bounds(members=3)):
        error = refusal(
            lambda b=bounds: resolve(ask("large"), BASE, tmp_path / "out", source=source, bounds=b)  # type: ignore[misc]
        )
        assert error.details["reason_code"] == "too_large", error
        assert not (tmp_path / "out").exists()


def test_what_only_looks_like_a_wheel_is_refused(site: Path, tmp_path: Path) -> None:
    (site / "fake-1.0-py3-none-any.whl").write_bytes(b"no archive")
    source = Source((site,), index=False)
    error = refusal(lambda: resolve(ask("fake"), BASE, tmp_path / "out", source=source))
    assert error.details["reason_code"] == "bad_wheel", error


def test_wheels_that_travelled_are_used_as_they_are(site: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    mine = wheels.make(sent, "beta", "1.0", {"beta.py": "MINE = True"})
    spec = EnvironmentSpec(requirements=("alpha",), wheels=(ref(mine),))
    source = Source((site,), index=False)
    lock = resolve(spec, BASE, tmp_path / "out", sent=sent, source=source)
    assert found(lock) == ["alpha==1.0", "beta==1.0", "newer==1.0"]
    assert (tmp_path / "out" / mine.name).read_bytes() == mine.read_bytes()
    fetch(lock, tmp_path / "again", sent=sent, source=source)
    assert (tmp_path / "again" / mine.name).read_bytes() == mine.read_bytes()
    mine.write_bytes(mine.read_bytes() + b"\0")
    changed = refusal(lambda: resolve(spec, BASE, tmp_path / "x", sent=sent, source=source))
    assert changed.details["reason_code"] == "hash_differs"
    mine.unlink()
    lost = refusal(lambda: resolve(spec, BASE, tmp_path / "x", sent=sent, source=source))
    assert lost.details["reason_code"] == "gone"
    old = wheels.make(sent, "beta", "1.0", tags="cp27-none-any")
    unfit = EnvironmentSpec(wheels=(ref(old),))
    error = refusal(lambda: resolve(unfit, BASE, tmp_path / "x", sent=sent, source=source))
    assert error.details["reason_code"] == "no_wheel"


def ref(path: Path) -> WheelRef:
    data = path.read_bytes()
    return WheelRef(name=path.name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def test_a_lock_gives_the_same_files_or_says_why_not(site: Path, tmp_path: Path) -> None:
    source = Source((site,), index=False)
    lock = resolve(ask("beta"), BASE, tmp_path / "out", source=source)
    wheels.make(site, "beta", "3.0")
    fetch(lock, tmp_path / "same", source=source)
    file = site / lock.packages[0].file
    assert (tmp_path / "same" / file.name).read_bytes() == file.read_bytes()
    wheels.make(site, "beta", "2.0", {"beta.py": "EVIL = True"})
    error = refusal(lambda: fetch(lock, tmp_path / "x", source=source))
    assert error.details["reason_code"] == "hash_differs", error
    file.unlink()
    error = refusal(lambda: fetch(lock, tmp_path / "x", source=source))
    assert error.details["reason_code"] == "gone", error
    assert not (tmp_path / "x").exists()


@pytest.fixture
def no_site(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Point pip at an index of this machine alone."""

    def point(port: int) -> None:
        for name, value in {
            "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "",
            "PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple", "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)

    return point


def test_an_index_that_is_away_is_no_unknown_package(
    no_site: Callable[[int], None], tmp_path: Path
) -> None:
    no_site(free_port())
    error = refusal(lambda: resolve(ask("six"), BASE, tmp_path / "out"))
    assert error.details["reason_code"] == "index_unreachable", error


def children() -> set[int]:
    """The processes of pip that this one has started."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = (place / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and b"\0-m\0pip\0" in (place / "cmdline").read_bytes():
                found.add(int(place.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.parametrize("how", ["cancelled", "timeout"])
def test_an_index_that_says_nothing_is_left_without_a_trace(
    how: str, no_site: Callable[[int], None], tmp_path: Path
) -> None:
    with socket.socket() as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        no_site(listener.getsockname()[1])
        cancelled = threading.Event()
        bounds = Bounds(seconds=60 if how == "cancelled" else 5)
        out = tmp_path / "out"
        running = pool.submit(resolve, ask("six"), BASE, out, bounds=bounds, cancelled=cancelled)
        asked, _ = listener.accept()
        with asked:
            assert len(children()) == 1
            if how == "cancelled":
                cancelled.set()
                with pytest.raises(Cancelled):
                    running.result(timeout=10)
            else:
                assert refusal(running.result).details["reason_code"] == "timeout"
    assert children() == set()
    assert not out.exists()


class Endless(BaseHTTPRequestHandler):
    """An index whose one wheel never ends."""

    sent = 0
    pause = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path.endswith(".whl"):
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(bytes(65_536))
                    Endless.sent += 65_536
                    self.pause.wait(0.005)
            return
        page = b'<a href="/big-1.0-py3-none-any.whl">big-1.0-py3-none-any.whl</a>'
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_download_without_end_is_ended(no_site: Callable[[int], None], tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        no_site(server.server_port)
        bounds = Bounds(wheels=2**20)
        error = refusal(lambda: resolve(ask("big"), BASE, tmp_path / "out", bounds=bounds))
        server.shutdown()
    assert error.details["reason_code"] == "too_large", error
    assert 2**20 < Endless.sent < 32 * 2**20
    assert children() == set()
    assert not (tmp_path / "out").exists()


# --- with the index that pip is configured with -----------------------------------------------


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An index that answers."""
    try:
        resolve(ask("six"), BASE, tmp_path_factory.mktemp("index") / "out")
    except EnvironmentRefused as problem:
        missing(f"pip's index does not answer: {problem}")


@pytest.mark.usefixtures("index")
def test_the_real_index(tmp_path: Path) -> None:
    lock = resolve(ask("msgpack", "python-dateutil==2.9.0.post0"), BASE, tmp_path / "out")
    names = [p.name for p in lock.packages]
    assert names == ["msgpack", "python-dateutil", "six"]
    assert "cp313" in lock.packages[0].file, "a compiled library, for the image's interpreter"
    fetch(lock, tmp_path / "again")
    for package in lock.packages:
        assert (tmp_path / "again" / package.file).is_file()
    unknown = refusal(lambda: resolve(ask("oodida-no-such-package"), BASE, tmp_path / "x"))
    assert unknown.details["reason_code"] == "unknown_package", unknown
