"""Scratch space and the root file system: cases 13 to 17 of the catalogue."""

from __future__ import annotations

import pytest

from protocol.outcome import Outcome
from tests.attack.harness import SMALL, Rig, ended


def fill(rig: Rig, attack: str, memory_mb: int) -> Outcome:
    """Write to the scratch space, in line 3 of a module."""
    limits = SMALL.model_copy(update={"memory_mb": memory_mb, "scratch_files": 200})
    return rig.run(f"import os\ndef custom_code(window):\n    {attack}\n", limits=limits)


def assert_full(outcome: Outcome) -> None:
    """Scratch space ends: the module is told, in its line, and nothing else comes of it."""
    assert ended(outcome) == "module_error OSError", outcome
    assert outcome.fault is not None
    assert outcome.fault.lines[-1].number == 3


@pytest.mark.gvisor
def test_13_one_big_file(rig: Rig) -> None:
    assert_full(fill(rig, "open('/tmp/big', 'wb').write(bytes(100_000_000))", 256))


@pytest.mark.parametrize(
    "attack",
    [
        "[open(f'/tmp/{n}', 'w').close() for n in range(1_000_000)]",
        "[os.mkdir(f'/tmp/{n}') for n in range(1_000_000)]",
        "[os.symlink('/tmp', f'/tmp/{n}') for n in range(1_000_000)]",
    ],
    ids=["files", "folders", "links"],
)
def test_14_millions_of_inodes(rig: Rig, attack: str) -> None:
    outcome = fill(rig, attack, 64)
    if rig.gvisor:  # its scratch space counts no inodes; they are memory like everything else
        assert ended(outcome) == "limit_exceeded memory 64", outcome
    else:
        assert_full(outcome)


@pytest.mark.parametrize(
    "attack",
    [
        "os.truncate(open('/tmp/sparse', 'wb').fileno(), 1 << 50)",
        "os.posix_fallocate(open('/tmp/reserved', 'wb').fileno(), 0, 1 << 40)",
    ],
    ids=["sparse petabyte", "fallocate"],
)
def test_15_sparse_and_reserved_files(rig: Rig, attack: str) -> None:
    assert_full(fill(rig, attack, 64))


@pytest.mark.gvisor
def test_16_a_write_to_every_path(rig: Rig) -> None:
    source = """
    import os, stat

    def custom_code(window):
        written = []
        for folder, folders, files in os.walk("/"):
            if folder in ("/proc", "/sys"):
                folders.clear()
                continue
            for path in [os.path.join(folder, ".mine"), *(os.path.join(folder, f) for f in files)]:
                try:
                    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
                except OSError:
                    continue
                if stat.S_ISREG(os.fstat(descriptor).st_mode):  # no pipe, no /dev/null
                    written.append(folder)
                os.close(descriptor)
        return written
    """
    assert rig.value(source) == ["/tmp"]  # noqa: S108 - inside the container


def test_16_nothing_is_executed_from_the_one_that_can_be_written(rig: Rig) -> None:
    outcome = rig.run(
        """
        import os, shutil, subprocess, sys

        def custom_code(window):
            shutil.copyfile("/usr/bin/python3", "/tmp/python")
            os.chmod("/tmp/python", 0o755)
            subprocess.run(["/tmp/python", "-c", "pass"])
        """,
        limits=SMALL.model_copy(update={"scratch_mb": 32}),
    )
    assert ended(outcome) == "module_error PermissionError"


def test_17_something_left_for_the_next_run(rig: Rig) -> None:
    source = """
    import builtins, json, os, pathlib, sys

    places = ["/tmp", "/var/tmp", "/run", "/dev/shm", "/dev/mqueue"]

    def custom_code(window):
        found = [str(f) for p in places for f in pathlib.Path(p).glob("*")]
        found += [hasattr(builtins, "mine"), hasattr(json, "mine"), "MINE" in os.environ]
        found += [os.getcwd(), len("four"), sys.getrecursionlimit()]
        for place in places:
            try:
                pathlib.Path(place, "mine").write_text("x")
            except OSError:
                pass
        builtins.mine = json.mine = os.environ["MINE"] = "x"
        builtins.len = lambda _: 5
        sys.setrecursionlimit(5000)
        os.chdir("/")
        if window and os.fork() == 0:
            os.setsid()
            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(3600)"])
        return found
    """
    first = rig.value(source, True)
    assert first == [False, False, False, "/tmp", 4, 1000]  # noqa: S108
    assert rig.value(source, False) == first


def test_17_a_call_that_fails_leaves_nothing_either(rig: Rig) -> None:
    outcome = rig.run(
        """
        import os, sys

        def custom_code(window):
            open("/tmp/mine", "w").write("x")
            os.mkdir("/tmp/folder", 0o000)
            if os.fork() == 0:
                os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(3600)"])
            os._exit(1)
        """
    )
    assert ended(outcome) == "module_error"
    look = """
    import os

    def custom_code(window):
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        others = [n for n in numbers if n not in (1, os.getpid(), os.getppid())]
        return os.listdir("/tmp"), others
    """
    assert rig.value(look) == ([], [])
