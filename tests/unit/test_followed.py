"""A file that is followed: read again when it changes, and never taken half written."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path

import pytest

from edge_runtime.policy import Policy, read
from orchestrator.authority import EVERYBODY, Authority
from protocol.errors import BadAuthorityFile, BadPolicy
from protocol.followed import Followed
from protocol.limits import Profiles
from protocol.roles import Role

_read = partial(read, profiles=Profiles.read())


def follow(path: Path) -> Followed[Policy]:
    return Followed(path, _read, Policy())


class Written:
    """A policy's file, each time written as another file than before."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "policy.toml"
        self._time = 10**18
        self.write(text)

    def write(self, text: str) -> None:
        self._time += 10**9
        self.path.write_text(text)
        os.utime(self.path, ns=(self._time, self._time))


def allows(followed: Followed[Policy]) -> bool:
    return followed.now.custom_code


def test_a_change_is_taken_once_it_was_the_same_at_two_looks(tmp_path: Path) -> None:
    file = Written(tmp_path, "policy = 1")
    followed = follow(file.path)
    assert not followed.look()
    file.write("policy = 1\n")
    file.write("policy = 1\ncustom_code = fal")
    assert not followed.look()
    file.write("policy = 1\ncustom_code = false")
    assert not followed.look()
    assert allows(followed)
    assert followed.look()
    assert not allows(followed)
    assert not followed.look()


@pytest.mark.parametrize("broken", ["", "policy = 1\ncustom_code = maybe", None])
def test_a_broken_or_missing_file_leaves_the_policy_as_it_was_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    file = Written(tmp_path, "policy = 1\ncustom_code = false")
    followed = follow(file.path)
    if broken is None:
        file.path.unlink()
    else:
        file.write(broken)
    with caplog.at_level(logging.ERROR):
        assert not any(followed.look() for _ in range(5))
    assert not followed.now.custom_code
    assert len(caplog.records) == 1
    assert "goes on to hold" in caplog.text
    file.write("policy = 1")
    assert not followed.look()
    assert followed.look()
    assert followed.now == Policy()


def test_at_the_start_a_broken_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadPolicy):
        follow(tmp_path / "none.toml")


def test_roles_are_followed_like_that_too(tmp_path: Path) -> None:
    """A file whose end is missing for a moment has no review; it must not hold for that moment."""
    whole = '[users.ada]\nrole = "analyst"\n\n[review]\nmin_score = 3\n'
    path = tmp_path / "authority.toml"
    path.write_text(whole)
    roles = Followed(path, Authority.read, EVERYBODY)
    path.write_text(whole[: whole.index("[review]")])
    assert not roles.look()
    path.write_text(whole.replace("analyst", "operator"))
    assert not roles.look()
    assert (roles.now.grant("ada").role, roles.now.review is None) == (Role.ANALYST, False)
    assert roles.look()
    assert (roles.now.grant("ada").role, roles.now.review is None) == (Role.OPERATOR, False)
    with pytest.raises(BadAuthorityFile):
        Followed(tmp_path / "none.toml", Authority.read, EVERYBODY)


def test_without_a_file_what_is_given_holds() -> None:
    roles = Followed(None, Authority.read, EVERYBODY)
    assert not roles.look()
    assert roles.now is EVERYBODY
