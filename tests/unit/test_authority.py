"""The file that says who may do what: read strictly, and again when it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.authority import EVERYBODY, Authority, main
from protocol.errors import BadAuthorityFile, Forbidden
from protocol.roles import Action, Role

WHOLE = """
[default]
role = "viewer"

[users.ada]
role = "analyst"
vehicles = { region = "eu", year = 2020 }
signals = ["VEHICLE_SPEED", "ENGINE_*"]
profiles = ["small", "default"]
environments = ["minimal", "own"]
daily_tasks = 100

[users.grace]
role = "administrator"
"""


def test_users_have_what_stands_there_and_others_the_default() -> None:
    authority = Authority.parse(WHOLE)
    ada = authority.grant("ada")
    assert (ada.role, ada.daily_tasks) == (Role.ANALYST, 100)
    assert authority.grant("grace").daily_tasks is None
    assert authority.grant("somebody").role is Role.VIEWER
    assert ada.sees({"region": "eu", "year": 2020, "model": "etios"})
    assert not ada.sees({"region": "eu"})
    assert [ada.reads(s) for s in ("VEHICLE_SPEED", "ENGINE_RPM", "GPS_LAT", "vehicle_speed")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert [ada.has_profile(p) for p in ("small", "large")] == [True, False]
    environments = ("minimal", "science", "own", "a" * 64)
    assert [ada.has_environment(e) for e in environments] == [True, False, True, True]


def test_who_is_not_named_may_do_nothing_where_there_is_no_default() -> None:
    authority = Authority.parse('[users.ada]\nrole = "analyst"\n')
    with pytest.raises(Forbidden, match="eve has no role here"):
        authority.grant("eve")
    assert not authority.may("eve", Action.VEHICLES)


def test_a_refusal_names_the_role_the_action_and_who_can_change_it() -> None:
    with pytest.raises(Forbidden) as caught:
        Authority.parse(WHOLE).require("somebody", Action.SUBMIT)
    assert str(caught.value) == (
        "somebody has the role viewer and may not submit assignments; an administrator can change "
        "that in the cloud's authority file"
    )
    assert caught.value.details == {"user": "somebody", "role": "viewer", "action": "submit"}


def test_without_a_file_everybody_is_an_analyst_without_limits() -> None:
    grant = EVERYBODY.grant("anybody")
    assert grant.role is Role.ANALYST
    assert grant.sees({})
    assert grant.reads("S")
    assert grant.has_profile("large")
    assert grant.has_environment("own")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it gives nobody a role"),
        ("[users.ada\nrole = 1", "line 1"),
        ('[users.ada]\nrole = "king"', "users.ada.role"),
        ('[users.ada]\nroll = "viewer"', "users.ada.ro"),
        ('[users."a/b"]\nrole = "viewer"', "a/b"),
        ('[users.ada]\nrole = "analyst"\ndaily_tasks = -1', "users.ada.daily_tasks"),
        ('[users.ada]\nrole = "analyst"\ndaily_tasks = "5"', "users.ada.daily_tasks"),
        ('[users.ada]\nrole = "analyst"\nenvironments = ["numpy"]', "users.ada.environments.0"),
        ('[users.ada]\nrole = "analyst"\nsignals = "SPEED"', "users.ada.signals"),
        ('[users.ada]\nrole = "analyst"\n[users.ada]\nrole = "viewer"', "line 3"),
        ('[user.ada]\nrole = "analyst"', "user"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(BadAuthorityFile, match=told):
        Authority.parse(text)


def test_an_orchestrator_does_not_begin_with_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadAuthorityFile, match="cannot be read"):
        Authority.read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadAuthorityFile, match="UTF-8"):
        Authority.read(tmp_path / "bad.toml")


def test_a_file_is_looked_at_before_an_orchestrator_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "roles.toml"
    monkeypatch.setattr("sys.argv", ["authority", str(file)])
    file.write_text('[users.ada]\nrole = "analist"')
    with pytest.raises(SystemExit, match=f"bad_authority_file: {file}: users.ada.role"):
        main()
    file.write_text('[users.ada]\nrole = "analyst"')
    main()
    assert capsys.readouterr().out == f"{file} is good: 1 named, and nobody else\n"
