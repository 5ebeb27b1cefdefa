"""What is asked of every sandbox, held to both: containers without images, and the double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_runtime.sandbox import AnySandbox, Call, InProcess, Sandbox
from protocol.messages import new_id
from protocol.module import Environment, Side
from protocol.outcome import Kind

CALL = Call(source="def custom_code(window): return 1", environment=Environment.MINIMAL)


@pytest.fixture(params=["containers", "in process"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[AnySandbox]:
    """One that has no environment."""
    if request.param == "in process":
        yield InProcess()
        return
    request.getfixturevalue("engine")
    with Sandbox({}, owner=f"test-{new_id()}") as containers:
        yield containers


@pytest.mark.parametrize("verify", [None, Side.ONBOARD])
def test_a_call_in_an_environment_that_is_not_here_is_refused(
    sandbox: AnySandbox, verify: Side | None
) -> None:
    call = Call(source=CALL.source, environment=CALL.environment, verify=verify)
    for outcome in (sandbox.run(call), sandbox.session(call.environment).run(call)):
        assert outcome.kind is Kind.REFUSED
        assert outcome.value is None
        assert "here" in outcome.reason


def test_it_says_that_it_has_none(sandbox: AnySandbox) -> None:
    assert sandbox.environments == ()
    assert not sandbox.has(Environment.MINIMAL)
    sandbox.expect(Environment.MINIMAL, libraries=["math"], resident=True)
    sandbox.remove(Environment.MINIMAL)
    assert not sandbox.has(Environment.MINIMAL)


def test_closing_is_for_ever_and_harmless_twice(sandbox: AnySandbox) -> None:
    session = sandbox.session(Environment.MINIMAL)
    session.close()
    session.close()
    sandbox.close()
    sandbox.close()
    assert session.run(CALL).kind is Kind.REFUSED
    assert sandbox.run(CALL).kind is Kind.REFUSED


def test_the_double_says_why_it_runs_no_module() -> None:
    assert "custom modules are not run here" in InProcess().run(CALL).reason
