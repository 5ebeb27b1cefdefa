"""Warm containers and containers for an assignment, on the real engine."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import docker
import pytest

from edge_runtime.sandbox import Call, Limits, PoolSettings, Sandbox, settings
from edge_runtime.sandbox.container import STARTS
from protocol import values
from protocol.module import Environment
from protocol.outcome import Kind, Limit
from tests.attack import harness
from tests.conftest import until

ECHO = "def custom_code(window): return window"
WHERE = """
import os, socket

def custom_code(window):
    return [os.getpid(), os.stat("/proc/1").st_ctime_ns]
"""
#: What could stay behind in a process, and what is left in the scratch space with `leave`.
LEAVES = """
import builtins, math, os, random, sys, threading, time

def custom_code(leave):
    seen = [
        "decimal" in sys.modules, hasattr(builtins, "left"), hasattr(math, "left"),
        "LEFT" in os.environ, os.getcwd(), sorted(os.listdir("/tmp")), len("four"),
        threading.active_count(), len(os.listdir("/proc/self/fd")),
    ]
    import decimal
    builtins.left = math.left = 1
    os.environ["LEFT"] = "1"
    os.chdir("/")
    os.open("/dev/null", 0)
    builtins.len = lambda _: 5
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    if os.fork() == 0:
        time.sleep(60)
    if leave:
        open("/tmp/left", "w").close()
    return seen
"""


@pytest.fixture(scope="module")
def sandbox(engine: None) -> Iterator[Sandbox]:  # noqa: ARG001
    with harness.rig() as rig:
        yield rig.sandbox


def call(source: str, argument: Any = None) -> Call:
    return Call(source, Environment.MINIMAL, values.pack(argument))


def value(outcome: Any) -> Any:
    assert outcome.ok, outcome
    return values.unpack(outcome.value)


def containers(owner: str) -> list[dict[str, Any]]:
    with closing(docker.from_env()) as client:
        found: list[dict[str, Any]] = client.api.containers(
            filters={"label": f"io.oodida.owner={owner}"}
        )
        return found


# --- the pool ---------------------------------------------------------------------------------


def test_what_others_import_takes_nothing_of_a_calls_memory(engine: None) -> None:  # noqa: ARG001
    theirs = "import numpy, pandas, scipy.stats, sklearn.ensemble\ndef custom_code(w): return w"
    ours = "import numpy\ndef custom_code(w): return float(numpy.ones(7_000_000).sum())"
    small = Limits(memory_mb=128)
    with Sandbox(harness.images(), "test-pool-memory", pool=PoolSettings()) as warm:
        assert warm.run(Call(theirs, Environment.SCIENCE, 1), small).ok
        assert until(lambda: warm.ready)
        assert warm.run(Call(ours, Environment.SCIENCE), small).ok
        assert until(lambda: warm.ready)
        assert warm.run(Call(ours, Environment.SCIENCE), small).ok  # this one finds a warm one


def test_a_warm_container_serves_one_call_and_is_replaced(engine: None) -> None:  # noqa: ARG001
    owner = "test-pool-serves"
    with Sandbox(harness.images(), owner, pool=PoolSettings()) as warm:
        warm.expect(Environment.MINIMAL)
        assert until(lambda: warm.ready and len(containers(owner)) == 1)
        (idle,) = containers(owner)
        assert value(warm.run(call(ECHO, [1]))) == [1]
        assert until(lambda: [c["Id"] for c in containers(owner)] not in ([], [idle["Id"]]))
        assert until(lambda: warm.ready)
        assert value(warm.run(call(ECHO, [2]))) == [2]
    assert harness.containers(owner) == []


def test_libraries_are_imported_before_any_code_comes(engine: None) -> None:  # noqa: ARG001
    source = "import sys\nseen = 'numpy.fft' in sys.modules\nimport numpy.fft\n"
    source += "def custom_code(window): return seen"
    science = Call(source, Environment.SCIENCE)
    with Sandbox(harness.images(), "test-pool-libraries", pool=PoolSettings()) as warm:
        warm.expect(Environment.SCIENCE, libraries={"numpy.fft"})
        assert until(lambda: warm.ready)
        assert value(warm.run(science)) is True
    with Sandbox(harness.images(), "test-pool-libraries") as cold:
        assert value(cold.run(science)) is True, "a fresh container imports them too"


def test_an_idle_container_that_dies_harms_nobody(engine: None) -> None:  # noqa: ARG001
    owner = "test-pool-dies"
    with Sandbox(harness.images(), owner, pool=PoolSettings()) as warm:
        warm.expect(Environment.MINIMAL)
        assert until(lambda: warm.ready and len(containers(owner)) == 1)
        with closing(docker.from_env()) as client:
            client.api.kill(containers(owner)[0]["Id"])
        assert value(warm.run(call(ECHO, 1))) == 1


def test_limits_of_a_call_hold_in_a_warm_container(engine: None) -> None:  # noqa: ARG001
    sleeps = "import time\ndef custom_code(window): time.sleep(60)"
    with Sandbox(harness.images(), "test-pool-limits", pool=PoolSettings()) as warm:
        warm.expect(Environment.MINIMAL)
        assert until(lambda: warm.ready)
        outcome = warm.run(call(sleeps), Limits(time_s=0.2))
        assert outcome.exceeded is not None
        assert (outcome.exceeded.limit, outcome.exceeded.configured) == (Limit.TIME, 0.2)


def test_an_engine_that_is_away_is_no_end_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with Sandbox({"minimal": "oodida/none:such"}, "test-away", pool=PoolSettings()) as sandbox:
        sandbox.expect("minimal")
        assert sandbox.run(call(ECHO)).kind is Kind.ENGINE_FAILURE
        assert not sandbox.ready


# --- one container for an assignment ----------------------------------------------------------


def test_calls_of_a_session_share_a_container_and_no_process(sandbox: Sandbox) -> None:
    with sandbox.session("minimal") as session:
        first, second = (value(session.run(call(WHERE))) for _ in range(2))
    assert first[1] == second[1], "the container"
    assert first[0] != second[0], "the process"
    assert value(sandbox.run(call(WHERE)))[1] != first[1]


def test_blank_slate_between_the_calls_of_a_session(sandbox: Sandbox) -> None:
    blank = [False, False, False, False, "/tmp", [], 4, 1]  # noqa: S108 - in the container
    with sandbox.session("minimal") as session:
        seen = [value(session.run(call(LEAVES, False))) for _ in range(3)]
        assert [s[:8] for s in seen] == [blank] * 3
        assert len({s[8] for s in seen}) == 1
        # What is left in the scratch space cannot be proven to be all: the container is replaced.
        where = value(session.run(call(WHERE)))[1]
        assert value(session.run(call(LEAVES, True)))[:8] == blank
        assert value(session.run(call(LEAVES, True)))[:8] == blank
        assert value(session.run(call(WHERE)))[1] != where


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import time\ndef custom_code(window): time.sleep(60)", Kind.LIMIT_EXCEEDED),
        ("def custom_code(window): return bytearray(10**9)", Kind.LIMIT_EXCEEDED),
        ("import os\ndef custom_code(window): os.kill(os.getpid(), 9)", Kind.MODULE_ERROR),
        ("def custom_code(window): return 1 / 0", Kind.MODULE_ERROR),
        ("def custom_code(window): return {1}", Kind.CONTRACT_BROKEN),
        ("x = 1", Kind.REFUSED),
    ],
)
def test_a_session_goes_on_after_a_call_that_failed(
    sandbox: Sandbox, source: str, kind: Kind
) -> None:
    with sandbox.session("minimal", Limits(time_s=1, memory_mb=96)) as session:
        assert value(session.run(call(ECHO, 1))) == 1
        assert session.run(call(source)).kind is kind
        assert value(session.run(call(ECHO, 2))) == 2


def test_what_was_printed_is_told_with_its_own_call(sandbox: Sandbox) -> None:
    source = "def custom_code(window): print('call', window)"
    with sandbox.session("minimal") as session:
        for number in range(3):
            assert session.run(call(source, number)).printed == f"call {number}\n"


def test_a_cancelled_call_of_a_session_ends_at_once(sandbox: Sandbox) -> None:
    source = "import time\ndef custom_code(window): time.sleep(60)"
    cancelled = threading.Event()
    with sandbox.session("minimal") as session, ThreadPoolExecutor(1) as threads:
        value(session.run(call(ECHO)))
        future = threads.submit(session.run, call(source), cancelled)
        time.sleep(0.2)  # it may also be cancelled before it runs: the outcome is the same
        cancelled.set()
        assert future.result(10).reason == "cancelled"
        assert value(session.run(call(ECHO, 3))) == 3


def test_a_session_ends_with_its_sandbox(engine: None) -> None:  # noqa: ARG001
    owner = "test-session-ends"
    with Sandbox(harness.images(), owner) as sandbox:
        session = sandbox.session("minimal")
        value(session.run(call(ECHO)))
        assert len(containers(owner)) == 1
    assert harness.containers(owner) == []
    session.close()


def test_random_numbers_differ_between_calls_of_a_session(sandbox: Sandbox) -> None:
    source = "import random\nimport numpy.random\n"
    source += "def custom_code(window): return [random.random(), numpy.random.rand()]"
    with sandbox.session("science") as session:
        drawn = [value(session.run(Call(source, "science"))) for _ in range(3)]
    assert len({d[0] for d in drawn}) == len({d[1] for d in drawn}) == 3


# --- libraries that misbehave while they are imported -------------------------------------------


@pytest.fixture(scope="module")
def hostile(engine: None) -> Iterator[str]:  # noqa: ARG001
    """An image with a library that is never imported, and one that ends the process."""
    files = {
        "Dockerfile": f"FROM {harness.images()[Environment.MINIMAL]}\nCOPY lib /oodida/lib\n",
        "lib/spins.py": "while True: pass\n",
        "lib/leaves.py": "import os\nos._exit(3)\n",
    }
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    context.seek(0)
    with closing(docker.from_env()) as client:
        image, _ = client.images.build(fileobj=context, custom_context=True, rm=True)
        yield str(image.id)
        client.images.remove(str(image.id), force=True)


def test_libraries_are_to_blame_for_what_they_do_at_their_import(
    hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "IMPORT_S", 1.0)
    uses = "import {}\ndef custom_code(window): return window"
    with Sandbox({"own": hostile}, "test-hostile-libraries") as sandbox:
        spins = sandbox.run(Call(uses.format("spins"), "own"))
        assert spins.exceeded is not None, spins
        assert spins.exceeded.limit is Limit.TIME
        leaves = sandbox.run(Call(uses.format("leaves"), "own"))
        assert leaves.kind is Kind.MODULE_ERROR
        assert "while it was imported" in leaves.reason
        assert value(sandbox.run(Call(uses.format("json"), "own", argument=[1]))) == [1]


def test_nobody_waits_for_the_libraries_of_others(
    hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "IMPORT_S", 3600.0)
    uses = "import spins\ndef custom_code(window): return window"
    cancelled = threading.Event()
    with Sandbox({"own": hostile}, "test-slow-libraries") as sandbox:
        with ThreadPoolExecutor(STARTS) as threads:
            calls = [
                threads.submit(sandbox.run, Call(uses, "own"), Limits(), cancelled)
                for _ in range(STARTS)
            ]
            assert until(lambda: len(containers("test-slow-libraries")) == STARTS)
            assert value(sandbox.run(Call(ECHO, "own", argument=2))) == 2
            cancelled.set()
        assert {c.result().reason for c in calls} == {"cancelled"}
