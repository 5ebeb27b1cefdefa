"""Archives of an environment, and modules that turn against the guest program: cases 40 and 41."""

from __future__ import annotations

import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from images import unpack
from protocol.outcome import Kind
from tests.attack.harness import Rig, ended

LINK = stat.S_IFLNK | 0o777
Member = tuple[str, bytes, int]


def unpacked(tmp_path: Path, *members: Member) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Unpack a wheel of these members as a build does; what lies in the folder afterwards."""
    wheels, place = tmp_path / "wheels", tmp_path / "lib"
    wheels.mkdir()
    place.mkdir()
    with zipfile.ZipFile(wheels / "evil-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(info, data)
    done = subprocess.run(
        [sys.executable, unpack.__file__, wheels, place],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done, {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "../outside.py", "a/../../outside.py", "/outside.py", "{folder}/outside.py",
        "evil.data/purelib/../../outside.py", "evil.data/platlib//outside.py",
    ],
)  # fmt: skip
def test_40_archive_with_traversal(tmp_path: Path, name: str) -> None:
    name = name.format(folder=tmp_path)
    done, inside = unpacked(tmp_path, (name, b"x = 1", 0o644))
    assert done.returncode == 1
    assert "lies outside of it" in done.stderr
    assert inside == set()
    assert not Path("/outside.py").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"wheels", "lib"}


def test_40_archive_with_links(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    secret = tmp_path / "secret.py"
    secret.write_text("secret = 1", encoding="ascii")
    done, inside = unpacked(
        tmp_path,
        ("link", str(target).encode(), LINK),
        ("copy.txt", str(secret).encode(), LINK),
        ("link/through.py", b"x = 1", 0o644),
    )
    # A link is written down as the file that it is in the archive, and is no way to anywhere.
    assert done.returncode != 0
    assert list(target.iterdir()) == []
    assert not any((tmp_path / "lib" / path).is_symlink() for path in inside)
    assert (tmp_path / "lib" / "copy.txt").read_bytes() == str(secret).encode()


def test_40_archive_that_says_less_than_it_holds(tmp_path: Path) -> None:
    wheels, place = tmp_path / "wheels", tmp_path / "lib"
    wheels.mkdir()
    place.mkdir()
    size, claimed = 64 * 2**20, 1000
    with zipfile.ZipFile(wheels / "bomb.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("bomb.txt", bytes(size))
    data = (wheels / "bomb.whl").read_bytes()
    lie = data.replace(size.to_bytes(4, "little"), claimed.to_bytes(4, "little"))
    assert lie != data
    (wheels / "bomb.whl").write_bytes(lie)
    done = subprocess.run(
        [sys.executable, unpack.__file__, wheels, place],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "BadZipFile" in done.stderr
    assert sum(path.stat().st_size for path in place.rglob("*")) <= claimed + 2**16


@pytest.mark.gvisor
@pytest.mark.parametrize(
    ("crash", "signal"),
    [("ctypes.string_at(0)", "SIGSEGV"), ("os.abort()", "SIGABRT")],
    ids=["segmentation fault", "abort"],
)
def test_41_crash_of_the_interpreter(rig: Rig, crash: str, signal: str) -> None:
    outcome = rig.run(f"import ctypes, os\ndef custom_code(window):\n    {crash}\n")
    assert ended(outcome) == "module_error"
    assert signal in outcome.reason


@pytest.mark.parametrize(
    "patch",
    [
        "sys.modules['__main__'].__dict__.clear()",
        "sys.modules.clear()",
        "os._exit = os.write = lambda *_: None",
        "json.dumps = lambda *_, **__: 'forged'",
        "values.pack = lambda *_: {'~a': 1}",
        "builtins.isinstance = lambda *_: True",
        "builtins.len = builtins.type = None",
        "sys.stdout = sys.stderr = None",
        "sys.setrecursionlimit(20)",
        "sys.settrace(lambda *_: 1 / 0)",
        "threading.Thread(target=lambda: [time.sleep(0.01), os._exit(0)]).start()",
    ],
)
def test_41_patched_guest_program(rig: Rig, patch: str) -> None:
    outcome = rig.run(
        f"""
        import builtins, json, os, sys, threading, time
        from protocol import values

        def custom_code(window):
            {patch}
            return 1
        """
    )
    # It may still have returned its value, or have spoilt it: in no case is it ours or a limit's.
    assert outcome.kind in {Kind.VALUE, Kind.MODULE_ERROR, Kind.CONTRACT_BROKEN}, outcome
    assert outcome.value in (None, 1)


def test_41_module_named_like_ours(rig: Rig) -> None:
    outcome = rig.run(
        """
        import sys, types

        sys.modules["json"] = sys.modules["protocol.values"] = types.ModuleType("json")

        def custom_code(window):
            return 1
        """
    )
    assert ended(outcome) == "value"
    assert outcome.value == 1
