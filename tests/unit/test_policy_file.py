"""The file of a policy: read strictly, followed, and never taken half written."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.policy import Names, Policy, parse, read
from edge_runtime.policy.__main__ import main
from protocol.account import Budget
from protocol.errors import BadPolicy
from protocol.limits import Profiles
from tests.conftest import ROOT

PROFILES = Profiles.read()
EXAMPLE = ROOT / "examples/policy.toml"


def test_the_example_says_all_that_can_be_said() -> None:
    policy = read(EXAMPLE, PROFILES)
    assert policy.analysts == Names(frozenset({"ada", "grace"}))
    assert policy.signals.denied == {"PEDAL_D", "PEDAL_E"}
    assert policy.location == frozenset({"GPS_SPEED"})
    assert policy.most == PROFILES.profiles["default"]
    assert policy.environments == frozenset({"minimal", "science"})
    assert policy.budget == Budget(container_starts=5000, cpu_s=600.0, bytes_sent=20_000_000)
    assert [str(span) for span in policy.quiet.spans] == ["22:00-06:00"]
    assert policy.custom_code


def test_the_least_file_is_the_policy_of_a_vehicle_without_one() -> None:
    assert parse("policy = 1", PROFILES) == Policy()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "policy = 1"),
        ("custom_code = false", "policy = 1"),
        ("policy = 2", "policy = 1"),
        ("policy = true", "policy = 1"),
        ("policy = 1\ncustom_code = yes", "line 2, column 15"),
        ("policy = 1\ncustom_code = 'yes'", "custom_code"),
        ("policy = 1\ncustom_code = 1", "custom_code"),
        ("policy = 1\ncustom_kode = true", "custom_kode: there is no such setting"),
        ("policy = 1\n[signals]\ncustom_code = true", "signals.custom_code: there is no"),
        ("policy = 1\n[signals]\nlocation = 'yes'", "signals.location"),
        ("policy = 1\n[signals]\ndenied = 'SPEED'", "signals.denied"),
        ("policy = 1\n[signals]\ndenied = ['']", "signals.denied"),
        ("policy = 1\n[analysts]\nallowed = ['a*']", "analysts.allowed"),
        ("policy = 1\n[analysts]\nallowed = ['a']\ndenied = ['b']", "either allowed or denied"),
        ("policy = 1\nhighest_profile = 'huge'", "there is no profile huge here"),
        ("policy = 1\nenvironments = ['big']", "environments"),
        ("policy = 1\n[budget_a_day]\ncpu_s = -1", "budget_a_day.cpu_s"),
        ("policy = 1\n[budget_a_day]\ncpu_s = '600'", "budget_a_day.cpu_s"),
        ("policy = 1\n[budget_a_day]\ncontainer_starts = true", "budget_a_day.container_starts"),
        ("policy = 1\n[budget_a_day]\nbytes_sent = nan", "budget_a_day.bytes_sent"),
        ("policy = 1\n[quiet_hours]\nhours = ['2:00-3:00']", "quiet_hours.hours"),
        ("policy = 1\n[quiet_hours]\nzone = 'UTC'", "quiet_hours.hours"),
        ("policy = 1\n[quiet_hours]\nhours = ['02:00-03:00']\nzone = 'Mars'", "no zone 'Mars'"),
        ("policy = 1\n[quiet_hours]\nhours = ['02:00-03:00']\nzone = '../x'", "no zone"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_or_field(text: str, told: str) -> None:
    with pytest.raises(BadPolicy) as problem:
        parse(text, PROFILES)
    assert told in problem.value.message
    assert "\n" not in problem.value.message


@given(st.integers(0, len(EXAMPLE.read_text())))
def test_an_example_that_is_cut_off_before_its_first_line_is_no_policy(length: int) -> None:
    text = EXAMPLE.read_text()
    before = text.index("policy = 1")
    if length <= before:
        with pytest.raises(BadPolicy):
            parse(text[:length], PROFILES)


@given(st.text())
def test_whatever_the_file_holds_it_is_a_policy_or_told(text: str) -> None:
    with contextlib.suppress(BadPolicy):
        parse(text, PROFILES)


def test_a_file_that_others_can_write_or_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    with pytest.raises(BadPolicy, match="cannot be read"):
        read(file, PROFILES)
    with pytest.raises(BadPolicy, match="is no file"):
        read(tmp_path, PROFILES)
    file.write_text("policy = 1")
    file.chmod(0o666)
    with pytest.raises(BadPolicy, match="chmod o-w"):
        read(file, PROFILES)
    file.chmod(0o644)
    file.write_bytes(b"policy = 1 # \xff")
    with pytest.raises(BadPolicy, match="cannot be read"):
        read(file, PROFILES)
    file.write_bytes(b"policy = 1\n" + b"#" * 300_000)
    with pytest.raises(BadPolicy, match="bytes"):
        read(file, PROFILES)


def test_the_page_that_tells_of_it_shows_the_example() -> None:
    page = (ROOT / "docs/how-to/set-a-vehicles-policy.md").read_text()
    shown = page.split("```toml\n")[1].split("```")[0]
    assert EXAMPLE.read_text().endswith(shown)


def test_a_file_is_looked_at_before_a_vehicle_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.toml"
    monkeypatch.setattr("sys.argv", ["policy", str(file)])
    file.write_text("policy = 1\ncustom_kode = false")
    with pytest.raises(SystemExit, match=f"bad_policy: {file}: custom_kode: there is no such"):
        main()
    file.write_text("policy = 1")
    main()
    assert capsys.readouterr().out == f"{file} is good\n"
