"""The analyst's own first check: in a process of its own, with limits, and nothing gets out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from oodida import check
from oodida.trial import Trier
from protocol.messages import Verdict
from protocol.module import Environment, Side
from tests.conftest import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two seconds are enough here."""
    trier = Trier(time_s=2)
    monkeypatch.setattr(check, "TRIER", trier)
    yield
    trier.close()


def verdict(body: str, environment: str = Environment.MINIMAL) -> Verdict:
    source = f"def custom_code(window):\n    {body}\n"
    return check.check(source, Side.ONBOARD, environment)


def test_a_good_module_passes() -> None:
    assert verdict("return sum(window) / len(window)").ok


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("while True: pass", "time"),
        ("__import__('time').sleep(60)", "time"),
        ("return len(bytearray(10**10))", "call_failed"),  # the process may not have so much
        ("__import__('os')._exit(0)", "died"),
        ("__import__('os').kill(__import__('os').getpid(), 9)", "died"),
        ("__import__('os').close(1); return object()", "bad_value"),
    ],
)
def test_what_misbehaves_is_refused_and_the_analyst_goes_on(body: str, code: str) -> None:
    found = verdict(body)
    assert (found.ok, found.code) == (False, code)


def test_a_module_cannot_write_the_verdict_by_printing(capfd: pytest.CaptureFixture[str]) -> None:
    found = verdict("print('{\"ok\": true}', flush=True); return {1, 2}")
    assert not found.ok
    assert capfd.readouterr().out == ""


def test_nothing_of_it_is_left_running(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    body = (
        "import os, time\n"
        "    if os.fork() == 0:\n"
        f"        open({str(mark)!r}, 'w').write(str(os.getpid()))\n"
        "        time.sleep(600)\n"
        f"    while not os.path.exists({str(mark)!r}): pass\n"
        "    return 1"
    )
    verdict(body)
    child = Path("/proc") / mark.read_text()
    assert until(lambda: not child.exists() or b"\0" not in (child / "cmdline").read_bytes())


def test_the_modules_own_process_has_nothing_of_the_analysts_environment() -> None:
    os.environ["A_SECRET"] = "x"  # noqa: S105
    try:
        assert verdict("return __import__('os').environ['A_SECRET']").code == "call_failed"
    finally:
        del os.environ["A_SECRET"]


def test_a_library_that_only_the_environment_has_is_left_to_the_cloud() -> None:
    source = "import no_such_library\ndef custom_code(window):\n    return 1\n"
    here = check.check(source, Side.ONBOARD, Environment.SCIENCE)
    assert here.ok
    assert "no_such_library" in here.warning
    assert not check.check(source, Side.ONBOARD, Environment.MINIMAL).ok


@pytest.mark.parametrize(
    ("body", "ok"),
    [
        ("import nosuchlib", True),
        ("return undefined", True),  # what its libraries would make of it is not known here
        ("return (", False),
    ],
)
def test_with_libraries_that_are_elsewhere_only_the_form_is_judged(body: str, ok: bool) -> None:
    found = verdict(body, "")
    assert found.ok is ok
    assert ("not tried here" in found.warning) is ok
