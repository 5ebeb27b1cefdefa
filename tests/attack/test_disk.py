"""Scratch space and the root file system: cases 13 to 17 of the catalogue."""

from __future__ import annotations

import pytest

from protocol.outcome import Kind
from tests.attack.harness import SMALL, Rig


@pytest.mark.parametrize(
    "attack",
    [
        "open('/tmp/big', 'wb').write(bytes(100_000_000))",
        "os.truncate(open('/tmp/sparse', 'wb').fileno(), 1 << 50)",
        "os.posix_fallocate(open('/tmp/reserved', 'wb').fileno(), 0, 1 << 40)",
        "[open(f'/tmp/{n}', 'w').close() for n in range(1_000_000)]",
        "[os.mkdir(f'/tmp/{n}') for n in range(1_000_000)]",
    ],
    ids=["one big file", "sparse petabyte", "fallocate", "inodes of files", "inodes of folders"],
)
def test_scratch_space_ends(rig: Rig, attack: str) -> None:
    outcome = rig.run(
        f"import os\ndef custom_code(window):\n    {attack}\n",
        limits=SMALL.model_copy(update={"memory_mb": 256, "scratch_files": 200}),
    )
    assert outcome.kind is Kind.MODULE_ERROR, outcome
    assert outcome.fault is not None
    assert outcome.fault.type == "OSError"
    assert outcome.fault.lines[-1].number == 3


def test_the_root_cannot_be_written(rig: Rig) -> None:
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


def test_nothing_is_executed_from_the_scratch_space(rig: Rig) -> None:
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
    assert outcome.fault is not None, outcome
    assert outcome.fault.type == "PermissionError"


def test_something_left_for_the_next_run(rig: Rig) -> None:
    source = """
    import builtins, os, pathlib

    def custom_code(window):
        found = [str(p) for p in pathlib.Path("/tmp").iterdir()] + [hasattr(builtins, "mine")]
        pathlib.Path("/tmp/mine").write_text("x")
        builtins.mine = os.environ["MINE"] = "x"
        return found
    """
    assert rig.value(source) == [False]
    assert rig.value(source) == [False]
