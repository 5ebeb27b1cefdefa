"""The guest program by itself, through pipes: no engine, no container."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from protocol import values
from tests.conftest import until

ROOT = Path(__file__).parent.parent.parent


class Said(NamedTuple):
    """What the guest wrote: its report's two parts, and what was printed."""

    seen: dict[str, Any]
    answer: Any
    printed: bytes


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it lies in an image."""
    folder = tmp_path_factory.mktemp("oodida")
    for part, names in (
        (ROOT / "images/sandbox", ("__init__", "guest", "module_side")),
        (ROOT / "protocol", ("__init__", "values", "verification")),
    ):
        (folder / part.name).mkdir()
        for name in names:
            shutil.copy(part / f"{name}.py", folder / part.name)
    return folder


def start(
    program: Path, data: bytes, *, time_s: float = 20, cpu_s: int = 15, output: int = 4096
) -> subprocess.CompletedProcess[bytes]:
    limits = json.dumps([time_s, cpu_s, output, 20_000, 0]).encode()
    return serve(program, frame(limits) + data)


def frame(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def serve(
    program: Path, data: bytes, *how: str, libraries: tuple[str, ...] = ("json", "no.such")
) -> subprocess.CompletedProcess[bytes]:
    run = f"import sys; sys.path += [{str(program)!r}]; from sandbox import guest; guest.run()"
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", *how, "-c", run, *libraries]
    return subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)


def request_of(
    source: str, argument: Any = None, previous: Any = None, verify: str | None = None
) -> bytes:
    return values.to_text(
        {
            "source": textwrap.dedent(source),
            "argument": values.pack(argument),
            "previous": values.pack(previous),
            "verify": verify,
            "bounds": {"size": 5000, "depth": 8, "items": 100},
        }
    )


def call(
    program: Path,
    source: str,
    argument: Any = None,
    previous: Any = None,
    verify: str | None = None,
    **limits: Any,
) -> Said:
    request = request_of(source, argument, previous, verify)
    done = start(program, frame(request), **limits)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout[:8] == bytes(8), "the frames that say that it is up, and all is imported"
    (length,) = struct.unpack(">I", done.stdout[8:12])
    assert len(done.stdout) == 12 + length
    line, _, answer = done.stdout[12:].partition(b"\n")
    said = None
    if answer.endswith(b"}"):
        said = values.from_text(answer)
    return Said(json.loads(line), said, done.stderr)


def test_value(program: Path) -> None:
    source = """
    def custom_code(window, previous):
        print("computing")
        return [sum(window), previous, window]
    """
    said = call(program, source, [1, 2], (3,))
    assert values.unpack(said.answer["value"]) == [3, (3,), [1, 2]]
    assert said.answer["kind"] == "value"
    assert said.printed == b"computing\n"
    assert said.seen["exit"] == 0
    assert said.seen["stopped"] is None
    assert said.seen["printed"] == 10
    # What the kernel counts is somebody else's where there is no container.
    assert said.seen["oom_kills"] is None


def test_error_with_the_modules_lines_only(program: Path) -> None:
    said = call(program, "import json\ndef custom_code(window): return json.loads(window)", "{")
    assert said.answer["kind"] == "error"
    fault = said.answer["fault"]
    assert fault["type"] == "JSONDecodeError"
    assert [line["number"] for line in fault["lines"]] == [2]


def test_no_module(program: Path) -> None:
    said = call(program, "def costum_code(window): pass")
    assert (said.answer["kind"], said.answer["code"]) == ("refused", "no_custom_code")


def test_trial(program: Path) -> None:
    good = call(program, "def custom_code(window): return max(window)", verify="onboard")
    assert values.unpack(good.answer["value"])[0]["ok"] is True
    bad = call(program, "def custom_code(window): return 1 / 0", verify="onboard")
    assert values.unpack(bad.answer["value"])[0]["line"] == 1
    one = call(program, "def custom_code(window): return window['a']", {"a": 1}, verify="onboard")
    assert values.unpack(one.answer["value"])[0]["ok"] is True


def test_what_may_not_travel(program: Path) -> None:
    said = call(program, "def custom_code(window): return {1, 2}")
    assert said.answer["kind"] == "bad_value"
    said = call(program, "def custom_code(window): return [[[[[[[[[[]]]]]]]]]]")
    assert (said.answer["kind"], said.answer["unit"]) == ("too_large", "levels")
    said = call(program, "def custom_code(window): return [0] * 101")
    assert said.answer["unit"] == "items"
    said = call(program, "def custom_code(window): return 'x' * 5001")
    assert said.answer["unit"] == "bytes"


def test_answer_beyond_its_budget(program: Path) -> None:
    said = call(program, "import os\nos.write(4, b'x' * 30_000)\nx = 1")
    assert said.seen["stopped"] == "answer"
    assert said.answer is None


@pytest.mark.parametrize("descriptor", [1, 2])
def test_output_beyond_its_budget(program: Path, descriptor: int) -> None:
    source = f"import os\ndef custom_code(window):\n    while True: os.write({descriptor}, b'xy')"
    said = call(program, source)
    assert said.seen["stopped"] == "output"
    assert len(said.printed) == said.seen["printed"] == 4096


def test_out_of_time(program: Path) -> None:
    source = "import time\ndef custom_code(window):\n    time.sleep(3600)"
    said = call(program, source, time_s=0.3)
    assert said.seen["stopped"] == "time"
    assert said.seen["at"] == [3, "custom_code"]
    assert 0.3 <= said.seen["seconds"] < 5


def test_out_of_processor_time(program: Path) -> None:
    said = call(program, "def custom_code(window):\n    while True: pass", cpu_s=1)
    assert said.seen["signal"] == signal.SIGXCPU
    assert said.seen["cpu_s"] == pytest.approx(1, abs=0.3)
    assert said.seen["at"] == [2, "custom_code"]


@pytest.mark.parametrize("status", [0, 3])
def test_exit_without_an_answer(program: Path, status: int) -> None:
    said = call(program, f"import os\nos._exit({status})")
    assert said.seen["exit"] == status
    assert said.answer is None


def test_death_by_a_signal(program: Path) -> None:
    said = call(program, "import os\nos.kill(os.getpid(), 9)")
    assert (said.seen["exit"], said.seen["signal"]) == (None, 9)


def test_no_process_is_left(program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    source = f"""
    import os, pathlib, time

    def custom_code(window):
        if os.fork() == 0:
            pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))
            time.sleep(3600)
        while not pathlib.Path({str(mark)!r}).exists():
            pass
        return 1
    """
    assert call(program, source).answer["value"] == 1
    pid = int(mark.read_text())
    assert until(lambda: _has_ended(pid))


def _has_ended(pid: int) -> bool:
    """True if a process is gone, or dead and not yet taken note of by whoever inherited it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


def test_module_has_no_descriptor_but_its_own(program: Path) -> None:
    source = """
    import os, stat, sys

    def custom_code(window):
        kinds = {}
        for descriptor in range(256):
            try:
                kinds[str(descriptor)] = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
            except OSError:
                pass
        return [kinds, sys.stdin.read()]
    """
    kinds, read = call(program, source).answer["value"]
    assert kinds == {"0": False, "1": True, "2": True, "4": True, "5": True}
    assert read == ""


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", b"\0\0\0\x05abc", b"\xff\xff\xff\xff"],
    ids=["nothing", "half a length", "half a request", "an absurd length"],
)
def test_host_that_goes_away(program: Path, data: bytes) -> None:
    for sent in (data, frame(b"[1, 1, 1, 1, 0]") + data):
        done = serve(program, sent)
        assert done.returncode == 0
        assert done.stdout == bytes(8)


def test_library_that_prints_and_reads_when_it_is_imported(program: Path, tmp_path: Path) -> None:
    shutil.copytree(program, tmp_path / "oodida")
    (tmp_path / "oodida/noisy.py").write_text(
        "import os, sys\n"
        "os.write(1, b'Hello from the noisy community')\n"
        "print('a tip', flush=True)\n"
        "print('one more')\n"
        "read = os.read(0, 4)\n"
    )
    request = request_of("import noisy\ndef custom_code(window): return noisy.read")
    limits = json.dumps([20, 15, 4096, 20_000, 0]).encode()
    done = serve(tmp_path / "oodida", frame(limits) + frame(request), libraries=("noisy",))
    assert done.stdout[:8] == bytes(8)
    assert values.unpack(values.from_text(done.stdout[12:].partition(b"\n")[2])["value"]) == b""
    assert done.stderr == b""


def test_one_call_after_the_other_each_in_a_process_of_its_own(program: Path) -> None:
    source = """
    import builtins, os, random

    def custom_code(window):
        seen = [hasattr(builtins, "left"), "LEFT" in os.environ, os.getcwd() == window]
        builtins.left = os.environ["LEFT"] = "x"
        os.chdir("/")
        return [*seen, random.random(), os.getpid()]
    """
    sent = b""
    for _ in range(3):
        sent += frame(b"[20, 15, 4096, 20000, 0]")
        sent += frame(request_of(source, str(Path.cwd())))
    done = serve(program, sent)
    said, rest = [], done.stdout[8:]
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        said.append(values.from_text(rest[4 : 4 + length].partition(b"\n")[2])["value"])
        rest = rest[4 + length :]
    assert [answer[:3] for answer in said] == [[False, False, True]] * 3
    assert len({answer[3] for answer in said}) == 3, "each draws its own random numbers"
    assert len({answer[4] for answer in said}) == 3


def test_it_imports_little(program: Path) -> None:
    """Its imports are most of what a cold start adds to the engine's."""
    done = serve(program, b"", "-X", "importtime")
    imported = {line.rpartition(b"|")[2].strip().decode() for line in done.stderr.splitlines()}
    assert "protocol.values" in imported
    slow = {"ast", "base64", "dataclasses", "inspect", "linecache", "pathlib", "site", "tokenize"}
    assert not slow & imported
