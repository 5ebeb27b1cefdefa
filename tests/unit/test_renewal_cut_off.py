"""A power cut at any moment of a renewal leaves an identity that can be used, and be renewed."""

from __future__ import annotations

import datetime as dt
import os
import sys
from pathlib import Path
from shutil import copytree
from typing import Final

import pytest

from oodida.pki import Pki
from protocol import identity
from protocol.link import credentials, private
from protocol.signing import Signer

CAR: Final = identity.of("vehicle", "car-1")
#: What changes a folder: each is a moment before which the power may go.
EVENTS: Final = ("open", "os.rename", "os.remove")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, bytes, bytes]]:
    """A folder with a pair, and what two renewals bring."""
    pki, now = Pki.init(tmp_path_factory.mktemp("pki"), ["localhost"], _now()), _now()
    made = []
    for _ in range(3):
        folder = pki.enroll(CAR, now, to=tmp_path_factory.mktemp("own") / "car-1")[0]
        made.append((folder, (folder / "cert.pem").read_bytes(), (folder / "key.pem").read_bytes()))
    return made


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def cut_off(folder: Path, certificate: bytes, key: bytes, moment: int) -> bool:
    """Write a pair in a process that ends before its change number ``moment``; False if it got by.

    What is on its way to the disk is lost with a real cut, and `write` waits until it is there.
    """
    child = os.fork()
    if child == 0:
        changes = 0

        def before(event: str, about: tuple[object, ...]) -> None:
            nonlocal changes
            if event in EVENTS and str(folder) in f"{about[0]}":
                changes += 1
                if changes > moment:
                    os._exit(1)

        sys.addaudithook(before)
        try:
            private.write_pair(folder, certificate, key)
        except BaseException:  # noqa: BLE001 - the child is not to go on with the tests
            os._exit(2)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in {0, 1}
    return ended == 1


def usable(folder: Path) -> bytes:
    """The certificate of an identity that proves itself in TLS and signs."""
    assert credentials.load(folder).who == CAR
    assert Signer(folder).sign("a", {}, 1.0).certificate
    return (folder / "cert.pem").read_bytes()


def state(folder: Path) -> tuple[bytes, ...]:
    """What is in a folder, but for what was on its way."""
    return tuple(p.read_bytes() for p in sorted(folder.iterdir()) if not p.name.startswith("."))


def test_an_identity_is_usable_wherever_its_renewals_were_cut_off(
    pairs: list[tuple[Path, bytes, bytes]], tmp_path: Path
) -> None:
    (before, *_), second, third = pairs[0], pairs[1][1:], pairs[2][1:]
    seen, states, moment, going = set[bytes](), set[tuple[bytes, ...]](), 0, True
    while going:
        once = copytree(before, tmp_path / f"once-{moment}")
        going = cut_off(once, *second, moment)
        seen.add(usable(once))
        moment += 1
        files = state(once)
        later, still = 0, files not in states
        states.add(files)
        while still:  # and the next one is cut off as well
            twice = copytree(once, tmp_path / f"twice-{moment}-{later}")
            still = cut_off(twice, *third, later)
            usable(twice)
            later += 1
        private.write_pair(once, *third)
        assert usable(once) == third[0]
        assert not (once / "key.next.pem").exists()
    assert moment > 5
    assert len(states) >= 4
    assert seen == {pairs[0][1], second[0]}  # the one before up to some moment, then the new one
