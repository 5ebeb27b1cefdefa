"""What an analyst asks for as an environment of her own: read from files, refused early."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

import oodida
from protocol.environment import MAX_REQUIREMENTS, MAX_WHEEL_BYTES, Lock, Locked
from tests import wheels


def test_a_folder_gives_all_its_wheels_and_nothing_else(tmp_path: Path) -> None:
    one, two = wheels.make(tmp_path, "one"), wheels.make(tmp_path, "two", "2.1")
    (tmp_path / "notes.txt").write_text("x")
    spec = oodida.Environment(["Six >= 1"], wheels=tmp_path).spec
    assert spec.requirements == ("six>=1",)
    assert [(w.name, w.sha256, w.size) for w in spec.wheels] == [
        (path.name, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        for path in (one, two)
    ]
    assert oodida.Environment("six>=1", [str(two), one]).spec.key == spec.key
    assert oodida.Environment("six>=1", one).spec.key != spec.key


def test_one_text_is_one_requirement() -> None:
    assert oodida.Environment("six").spec.requirements == ("six",)


def test_what_cannot_be_an_environment_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    empty, bad, big = tmp_path / "empty", tmp_path / "bad.whl", tmp_path / "b-1-py3-none-any.whl"
    empty.mkdir()
    bad.write_bytes(b"x")
    with big.open("wb") as file:
        file.truncate(MAX_WHEEL_BYTES + 1)
    hollow = tmp_path / "h-1-py3-none-any.whl"
    hollow.touch()
    cases: list[tuple[str, object, object]] = [
        ("bad_requirement", (), ()),
        ("bad_requirement", ["https://example.org/x.whl"], ()),
        ("bad_requirement", ["--index-url=x"], ()),
        ("bad_requirement", [f"p{i}" for i in range(MAX_REQUIREMENTS + 1)], ()),
        ("bad_requirement", (), bad),
        ("bad_wheel", (), empty),
        ("bad_wheel", (), tmp_path / "missing-1-py3-none-any.whl"),
        ("bad_wheel", (), hollow),
        ("too_large", (), big),
    ]
    for reason, requirements, paths in cases:
        with pytest.raises(oodida.EnvironmentRefused) as caught:
            oodida.Environment(requirements, paths)  # type: ignore[arg-type]
        assert caught.value.details["reason_code"] == reason, (requirements, paths)


def test_a_lock_stands_in_place_of_requirements(tmp_path: Path) -> None:
    locked = Locked.of("six-1.17.0-py2.py3-none-any.whl", "0" * 64, 11_050)
    base = "oodida/sandbox-minimal:0123456789abcdef"
    lock = Lock(base=base, python="3.13", platform="linux_x86_64", packages=(locked,))
    file = tmp_path / "six.lock"
    file.write_text(f"# environment: {lock.digest}\n{lock.text()}")
    for given in (file, str(file), lock.text()):
        assert oodida.Environment(lock=given).spec.lock == lock.text()
    assert lock.digest in repr(oodida.Environment(lock=file))
    for wrong in (tmp_path / "none", "\n", lock.text() + "x"):
        with pytest.raises(oodida.EnvironmentRefused):
            oodida.Environment(lock=wrong)
    with pytest.raises(oodida.EnvironmentRefused, match="leave the requirements out"):
        oodida.Environment(["six"], lock=file)


@pytest.mark.parametrize("wrong", [{"requirements": None}, {"requirements": 3}, {"wheels": 3}])
def test_what_is_no_list_is_said_to_be_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(oodida.EnvironmentRefused, match="list of texts"):
        oodida.Environment(**wrong)
