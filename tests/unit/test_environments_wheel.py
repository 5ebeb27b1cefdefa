"""Wheels that lie, reach out, or swell are refused before anything of them is used."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.environments.bounds import Bounds
from edge_runtime.environments.layer import LIBRARIES, write
from edge_runtime.environments.wheel import locked, opened
from protocol.environment import Reason
from protocol.errors import EnvironmentRefused
from tests import wheels


def add(name: str, mode: int = 0, data: bytes = b"x") -> Callable[[zipfile.ZipFile], None]:
    """One more member, of this name and kind."""

    def change(archive: zipfile.ZipFile) -> None:
        member = zipfile.ZipInfo(name)
        member.filename = name  # as it is, with what the constructor would cut off
        member.external_attr = mode << 16
        archive.writestr(member, data)

    return change


def spoilt(folder: Path, change: Callable[[zipfile.ZipFile], None]) -> Path:
    path = wheels.make(folder, "bad")
    with zipfile.ZipFile(path, "a") as archive:
        change(archive)
    return path


ATTACKS = {
    "traversal": add("../../etc/cron.d/x"),
    "traversal inside": add("bad/../../../x"),
    "traversal behind .data": add("bad-1.0.data/purelib/../../x"),
    "absolute": add("/etc/passwd"),
    "absolute behind .data": add("bad-1.0.data/purelib//etc/passwd"),
    "dot": add("bad/./x"),
    "backslash": add("bad\\..\\..\\x"),
    "line break": add("bad/a\nb"),
    "link": add("bad/link", stat.S_IFLNK | 0o777, b"/etc/passwd"),
    "device": add("bad/null", stat.S_IFCHR | 0o666),
    "pipe": add("bad/pipe", stat.S_IFIFO | 0o666),
    "whiteout": add("bad/.wh.guest.py"),
    "opaque whiteout": add(".wh..wh..opq"),
    "long name": add("bad/" + "x" * 256),
    "deep name": add("/".join(["d"] * 600)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_member_out_of_place_is_refused(attack: str, tmp_path: Path) -> None:
    path = spoilt(tmp_path, ATTACKS[attack])
    with pytest.raises(EnvironmentRefused) as refusal, opened(path):
        pass
    assert refusal.value.details["reason_code"] == Reason.BAD_WHEEL
    assert path.name in refusal.value.message
    assert refusal.value.message.isprintable()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["bad.py", "bad-1.0.data/purelib/bad.py"])
def test_two_files_for_one_place_are_refused(name: str, tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentRefused, match=r"twice|two files"),
        opened(spoilt(tmp_path, add(name))),
    ):
        pass


def test_bombs_are_refused_by_what_they_declare(tmp_path: Path) -> None:
    path = wheels.make(tmp_path, "bomb", files={"bomb.py": b"\0" * (8 * 2**20)})
    assert path.stat().st_size < 2**20
    with pytest.raises(EnvironmentRefused) as refusal, opened(path, Bounds(unpacked=2**20)):
        pass
    assert refusal.value.details["reason_code"] == Reason.TOO_LARGE
    many = wheels.make(tmp_path, "many", files={f"many/{n}": b"" for n in range(100)})
    with pytest.raises(EnvironmentRefused) as refusal, opened(many, Bounds(members=50)):
        pass
    assert refusal.value.details["reason_code"] == Reason.TOO_LARGE


def test_a_bomb_that_lies_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    path = wheels.make(tmp_path, "liar", files={"liar.py": b"A" * 2**22})
    size, lie = (2**22).to_bytes(4, "little"), (100).to_bytes(4, "little")
    data = path.read_bytes()
    assert data.count(size) == 2, "in the list of contents and before the file"
    path.write_bytes(data.replace(size, lie))
    with opened(path) as wheel:
        assert wheel.size < 2**16
        with pytest.raises(EnvironmentRefused) as refusal:
            wheel.read("liar.py")
    assert refusal.value.details["reason_code"] == Reason.BAD_WHEEL


def test_a_list_of_contents_beyond_measure_is_not_read(tmp_path: Path) -> None:
    path = wheels.make(tmp_path, "list")
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x05\x06")
    data[at + 12 : at + 16] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(EnvironmentRefused, match="beyond all measure"), opened(path):
        pass


@pytest.mark.parametrize(
    "data", [b"", b"x", b"PK\x05\x06", b"\0" * 10_000, b"PK\x05\x06" + b"\xff" * 18]
)
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "none-1.0-py3-none-any.whl"
    path.write_bytes(data)
    with pytest.raises(EnvironmentRefused), opened(path):
        pass


def test_every_flipped_byte_is_harmless(tmp_path: Path) -> None:
    path = wheels.make(tmp_path, "flip", requires=["six>=1"])
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            with opened(path) as wheel:
                for place in wheel.places:
                    wheel.read(place)
                wheel.requires()
        except EnvironmentRefused:
            continue


def test_metadata_is_needed_and_read(tmp_path: Path) -> None:
    with opened(wheels.make(tmp_path, "good", requires=["six>=1", 'x; extra == "y"'])) as wheel:
        assert [r.name for r in wheel.requires()] == ["six", "x"]
    for bad in (
        wheels.make(tmp_path, "none", metadata=False),
        wheels.make(tmp_path, "wrong", requires=["not a requirement !"]),
    ):
        with opened(bad) as wheel, pytest.raises(EnvironmentRefused):
            wheel.requires()


# --- the layer --------------------------------------------------------------------------------


def layer(folder: Path, *paths: Path, name: str = "layer") -> tuple[bytes, list[tarfile.TarInfo]]:
    written = write(wheels.lock(*paths), folder, folder / name, run=None)
    data = (folder / name).read_bytes()
    assert written.size == len(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return data, tar.getmembers()


def test_the_same_wheels_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = wheels.make(tmp_path, "one"), wheels.make(tmp_path, "two", files={"two/a/b.py": "x"})
    first, members = layer(tmp_path, one, two)
    (tmp_path / "elsewhere").mkdir()
    for path in (two, one):
        path.rename(tmp_path / "elsewhere" / path.name)
    moved = [tmp_path / "elsewhere" / path.name for path in (two, one)]
    second, _ = layer(tmp_path / "elsewhere", *moved)
    assert first == second
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.uid, m.gid, m.mtime, m.uname) for m in members} == {(0, 0, 0, "")}
    assert {(m.isdir(), m.mode) for m in members} == {(True, 0o755), (False, 0o644)}
    assert {"oodida/lock.txt", f"{LIBRARIES}/two/a/b.py"} <= {m.name for m in members}


def test_all_lies_under_the_libraries_and_what_nobody_needs_is_left_out(tmp_path: Path) -> None:
    files = {
        "lib/__init__.py": "", "lib/tests/test_x.py": "", "lib/x.pyi": "", "lib/x.c": "",
        "lib-1.0.data/purelib/lib/p.py": "", "lib-1.0.data/platlib/lib/q.py": "",
        "lib-1.0.data/scripts/run": "", "lib-1.0.data/headers/x.h": "",
        "lib-1.0.data/data/etc/x": "", "lib/x.h": "",
        "lib/__pycache__/x.cpython-313.pyc": "forged",
    }  # fmt: skip
    _, members = layer(tmp_path, wheels.make(tmp_path, "lib", files=files))
    found = {m.name.removeprefix(f"{LIBRARIES}/") for m in members if m.isfile()}
    info = {f"lib-1.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD")}
    assert found - info == {"lib/__init__.py", "lib/p.py", "lib/q.py", "oodida/lock.txt"}


def test_two_wheels_may_share_a_file_only_if_it_is_the_same(tmp_path: Path) -> None:
    one = wheels.make(tmp_path, "one", files={"shared/__init__.py": "", "shared/one.py": ""})
    two = wheels.make(tmp_path, "two", files={"shared/__init__.py": "", "shared/two.py": ""})
    layer(tmp_path, one, two)
    other = wheels.make(tmp_path, "other", files={"shared/__init__.py": "evil = 1"})
    with pytest.raises(EnvironmentRefused, match=r"shared/__init__\.py"):
        layer(tmp_path, one, other, name="second")
    assert not (tmp_path / "second").exists()
    clash = wheels.make(tmp_path, "clash", files={"shared": "a file"})
    with pytest.raises(EnvironmentRefused, match="folder"):
        layer(tmp_path, one, clash, name="third")


def test_the_hash_of_a_wheel_is_of_its_bytes(tmp_path: Path) -> None:
    path = wheels.make(tmp_path, "one")
    before = locked(path)
    path.write_bytes(path.read_bytes() + b"\0")
    assert locked(path).sha256 != before.sha256
    assert locked(path).size == before.size + 1
