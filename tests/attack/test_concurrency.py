"""Many calls at once, and the death of whoever holds them: case 42 of the catalogue."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import docker

from edge_runtime.sandbox import Sandbox
from protocol.module import Environment
from protocol.outcome import Kind
from tests.attack import harness
from tests.attack.another import Another
from tests.attack.engine import own_engine
from tests.attack.harness import Rig, ended
from tests.conftest import until

SLEEP = "import time\ndef custom_code(window): time.sleep(3600)"
ONE = "def custom_code(window): return 1"
AT_ONCE = 200
#: Where every thread keeps a container until the end: not as many as there are calls.
SESSIONS = 16
MIXED = """
import os, time

def custom_code(window):
    if window % 4 == 1:
        raise ValueError(window)
    if window % 4 == 2:
        os._exit(window)
    return window
"""


def running(owner: str) -> list[dict[str, Any]]:
    """An owner's containers that run now."""
    with closing(docker.from_env()) as client:
        return list(client.api.containers(filters={"label": f"io.oodida.owner={owner}"}))


def test_42a_two_hundred_calls_at_once(rig: Rig) -> None:
    def one(number: int) -> str:
        outcome = rig.run(MIXED, number)
        if outcome.ok:
            return f"{ended(outcome)} {outcome.value == number}"
        if outcome.fault is not None:
            return f"{ended(outcome)} {outcome.fault.message == str(number)}"
        return f"{ended(outcome)} {f'exit status {number % 256}' in outcome.reason}"

    threads = AT_ONCE if rig.way.isolation == "call" else SESSIONS
    with ThreadPoolExecutor(threads) as pool:
        ends = Counter(pool.map(one, range(AT_ONCE)))
    assert ends == {"value True": 100, "module_error ValueError True": 50, "module_error True": 50}
    rig.close()


def test_42b_the_runtime_killed_in_the_middle(rig: Rig) -> None:
    owner = f"{rig.owner}-killed"
    with Another(owner, rig.way) as doomed, Another(owner, rig.way) as living:
        for runtime in (doomed, living):
            runtime.call(SLEEP)
        assert until(lambda: len(running(owner)) == 2)
        doomed.kill()
        assert len(running(owner)) == 2, "nobody was there to remove it"
        with Another(owner, rig.way) as successor:
            successor.call(ONE)
            assert ended(successor.outcome(60)) == "value"
            assert until(lambda: len(running(owner)) == 1 + (rig.way.isolation == "assignment"))
        assert len(running(owner)) == 1, "a live runtime's container was removed"
        living.kill()
    with Sandbox(harness.images(), owner):
        assert until(lambda: not harness.containers(owner))


def test_42c_the_engine_killed_in_the_middle(rig: Rig) -> None:
    way = rig.way._replace(runtime=None)  # it is the engine that ends, not what it runs guests in
    with own_engine() as engine:
        engine.load(harness.images()[Environment.MINIMAL])
        with Another(f"{rig.owner}-engine", way, {"DOCKER_HOST": engine.url}) as runtime:
            runtime.call(ONE)
            outcome = runtime.outcome(60)
            assert ended(outcome) == "value", outcome
            runtime.call(SLEEP)
            assert until(engine.is_busy)
            engine.kill()
            started = time.monotonic()
            for call in (None, ONE):  # the one that runs, and one that comes now
                if call is not None:
                    runtime.call(call)
                outcome = runtime.outcome(20)
                assert outcome.kind is Kind.ENGINE_FAILURE, outcome
                assert "Does the engine run?" in outcome.reason
            assert time.monotonic() - started < 10
            engine.start()
            runtime.call(ONE)
            outcome = runtime.outcome(60)
            assert ended(outcome) == "value", outcome
        assert engine.containers() == []
