"""The sandbox on the real engine: values in and out, a blank slate, and what it leaves behind."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
import threading
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import docker
import numpy as np
import pytest

from edge_runtime.sandbox import Call, Limits, Sandbox
from edge_runtime.sandbox.reaper import process_mark
from protocol import values
from protocol.messages import Verdict
from protocol.module import Environment, Side
from protocol.outcome import Kind, Limit, Outcome
from tests.attack import harness
from tests.attack.harness import Rig

ECHO = "def custom_code(window): return window"
SLEEP = "import time\ndef custom_code(window): time.sleep(3600)"


@pytest.fixture(scope="module")
def rig(engine: None) -> Iterator[Rig]:  # noqa: ARG001
    with harness.rig() as rig:
        yield rig


def wait_for(condition: Any, what: str, patience_s: float = 20.0) -> None:
    pause, deadline = threading.Event(), time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        pause.wait(0.02)


def verdict_of(outcome: Outcome) -> Verdict:
    return Verdict.model_validate(values.unpack(outcome.value)[0])


# --- values -----------------------------------------------------------------------------------

KINDS: list[Any] = [
    None, True, False, 0, -1, 2**63, -(2**63), 1.5, -0.0, 1e300, "", "text ä € 🚗 \0", b"",
    b"\x00\xff", [], [1, [2, [3]]], (), (1, (2,)), {}, {"a": {"b": [None]}}, {"~t": 1},
    {"~b": "x"}, math.inf, [1, "two", 3.0, b"four", (5,), {"six": 7}],
]  # fmt: skip


def test_values_of_every_kind_survive_the_way_in_and_out(rig: Rig) -> None:
    back = rig.value(ECHO, KINDS)
    assert back == KINDS
    assert [type(item) for item in back] == [type(item) for item in KINDS]
    assert math.copysign(1, back[8]) == -1


def test_arrays_are_lists_where_there_is_no_numpy(rig: Rig) -> None:
    source = "def custom_code(window): return [type(window).__name__, sum(window), window]"
    for window in (np.array([1.0, 2.5]), array("d", [1.0, 2.5])):
        assert rig.value(source, window) == ["list", 3.5, [1.0, 2.5]]
    assert rig.value(ECHO, np.arange(6).reshape(2, 3)) == [[0, 1, 2], [3, 4, 5]]


def test_arrays_are_arrays_where_there_is_numpy(rig: Rig) -> None:
    source = """
    import numpy as np

    def custom_code(window, previous):
        assert isinstance(window["a"], np.ndarray)
        window["a"] *= 2
        return window, window["a"].mean(), np.float32(0.5), previous.dtype.str
    """
    argument = {"a": np.array([[1.0, 2.0], [3.0, 4.0]])}
    back = rig.value(source, argument, np.array([1], "<i2"), environment=Environment.SCIENCE)
    np.testing.assert_array_equal(back[0]["a"], argument["a"] * 2)
    assert back[1:] == (5.0, 0.5, "<i2")


def test_science_has_its_libraries(rig: Rig) -> None:
    source = """
    import joblib, numpy, pandas, scipy.stats, sklearn.linear_model

    def custom_code(window):
        x = numpy.arange(10.0).reshape(-1, 1)
        model = sklearn.linear_model.LinearRegression(n_jobs=2).fit(x, 3 * x.ravel() + 1)
        return [model.coef_[0], pandas.Series(window).mean(), scipy.stats.zscore(window)[0]]
    """
    limits = Limits(time_s=60, cpu_s=60)
    outcome = rig.run(source, [1.0, 3.0], limits=limits, environment=Environment.SCIENCE)
    assert outcome.ok, outcome
    assert outcome.value == pytest.approx([3.0, 2.0, -1.0])
    assert outcome.printed == ""


def test_a_window_of_a_million_samples(rig: Rig) -> None:
    window = np.linspace(0, 1, 1_000_000)
    call = Call(
        source="def custom_code(window): return [len(window), float(window[-1])]",
        environment=Environment.SCIENCE,
        argument=values.pack(window, values.Bounds(size=16_000_000)),
    )
    assert rig.sandbox.run(call).value == [1_000_000, 1.0]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("window", [[1], None]),
        ("window, previous", [[1], 7]),
        ("window, previous=None", [[1], 7]),
        ("*everything", [[1], 7]),
        ("window, *, strict=True", [[1], None]),
    ],
)
def test_previous_is_passed_to_those_that_ask(rig: Rig, signature: str, expected: Any) -> None:
    source = f"""
    def custom_code({signature}):
        given = dict(locals())
        window, previous = (*given.get("everything", ()), None, None)[:2]
        return [given.get("window", window), given.get("previous", previous)]
    """
    assert rig.value(source, [1], 7) == expected


# --- how calls end ----------------------------------------------------------------------------


def test_what_is_raised_is_told_with_its_line_and_nothing_of_ours(rig: Rig) -> None:
    outcome = rig.run(
        """
        def ratio(a, b):
            return a / b

        def custom_code(window):
            print("so far")
            return ratio(*window)
        """,
        [1, 0],
    )
    assert outcome.kind is Kind.MODULE_ERROR
    assert outcome.fault is not None
    assert (outcome.fault.type, outcome.fault.message) == ("ZeroDivisionError", "division by zero")
    lines = [(line.number, line.function, line.text) for line in outcome.fault.lines]
    assert lines == [
        (7, "custom_code", "return ratio(*window)"),
        (3, "ratio", "return a / b"),
    ]
    assert outcome.printed == "so far\n"
    assert outcome.describe() == "ZeroDivisionError: division by zero (line 3, in ratio)"


@pytest.mark.parametrize(
    ("source", "code", "line"),
    [
        ("def custom_code(window)\n    return 1\n", "syntax_error", 1),
        ("x = 1\n", "no_custom_code", 1),
        ("\ndef custom_code(): return 1\n", "wrong_arguments", 2),
    ],
)
def test_what_is_no_module_is_refused(rig: Rig, source: str, code: str, line: int) -> None:
    outcome = rig.run(source)
    assert outcome.kind is Kind.REFUSED
    assert outcome.fault is not None
    assert (outcome.fault.type, outcome.fault.lines[0].number) == (code, line)


def test_a_module_is_tried(rig: Rig) -> None:
    good = rig.run(ECHO, verify=Side.ONBOARD)
    assert verdict_of(good) == Verdict(ok=True)
    bad = rig.run("def custom_code(window):\n    return set()\n", verify=Side.OFFBOARD)
    verdict = verdict_of(bad)
    assert (verdict.ok, verdict.code, verdict.line) == (False, "bad_value", 1)
    pick = "def custom_code(window): return window['SPEED'][0]"
    found = rig.run(pick, {"SPEED": [1]}, verify=Side.ONBOARD)
    assert verdict_of(found).ok
    assert values.unpack(found.value)[1] == 1, "what it returned comes along"


def test_a_missing_library_is_named(rig: Rig) -> None:
    source = "import numpy\n" + ECHO
    verdict = verdict_of(rig.run(source, verify=Side.ONBOARD))
    assert (verdict.code, verdict.line) == ("missing_library", 1)
    assert "numpy" in verdict.reason


def test_a_complex_array_where_there_is_no_numpy(rig: Rig) -> None:
    outcome = rig.run(ECHO, np.array([1j]))
    assert outcome.kind is Kind.REFUSED
    assert "NumPy" in outcome.describe()


def test_cancelled(rig: Rig) -> None:
    cancelled = threading.Event()
    call = Call(source=SLEEP, environment=Environment.MINIMAL, labels={"task": "t-1"})
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(rig.sandbox.run, call, Limits(), cancelled)
        wait_for(lambda: running(rig.owner, "t-1"), "the container runs")
        cancelled.set()
        outcome = future.result(timeout=5)
    assert (outcome.kind, outcome.reason) == (Kind.REFUSED, "cancelled")
    wait_for(lambda: not running(rig.owner, "t-1"), "the container is gone")


def test_many_at_once(rig: Rig) -> None:
    source = "def custom_code(window): return window * 2"

    def one(number: int) -> int:
        return int(rig.value(source, number))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(16))) == [2 * n for n in range(16)]


# --- blank slate ------------------------------------------------------------------------------


def test_blank_slate(rig: Rig) -> None:
    source = """
    import builtins, math, os, sys

    def custom_code(window):
        seen = [
            "decimal" in sys.modules, hasattr(builtins, "left"), hasattr(math, "left"),
            os.path.exists("/tmp/left"), "LEFT" in os.environ, len("four"), "left" in globals(),
            sorted(os.listdir("/tmp")), os.getcwd(),
        ]
        import decimal
        builtins.left = math.left = globals()["left"] = 1
        os.environ["LEFT"] = "1"
        open("/tmp/left", "w").close()
        os.chdir("/")
        builtins.len = lambda _: 5
        return seen
    """
    first = rig.value(source)
    assert first == [False, False, False, False, False, 4, False, [], "/tmp"]  # noqa: S108
    assert rig.value(source) == first


# --- the wall ---------------------------------------------------------------------------------


def running(owner: str, task: str) -> list[dict[str, Any]]:
    with closing(docker.from_env()) as client:
        labels = [f"io.oodida.owner={owner}", f"io.oodida.task={task}"]
        found = client.api.containers(filters={"label": labels})
        return [client.api.inspect_container(c["Id"]) for c in found]


def test_the_engine_was_told_every_setting(rig: Rig) -> None:
    cancelled = threading.Event()
    call = Call(source=SLEEP, environment=Environment.MINIMAL, labels={"task": "t-2"})
    limits = Limits(memory_mb=100, processes=20, cpus=0.5, scratch_mb=5)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(rig.sandbox.run, call, limits, cancelled)
        wait_for(lambda: running(rig.owner, "t-2"), "the container runs")
        (container,) = running(rig.owner, "t-2")
        cancelled.set()
        future.result()
    host, config = container["HostConfig"], container["Config"]
    assert config["User"] == "65534:65534"
    assert config["NetworkDisabled"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["Memory"] == host["MemorySwap"] == 100 * 2**20
    assert host["PidsLimit"] == 20
    assert host["NanoCpus"] == 500_000_000
    assert host["OomScoreAdj"] == 1000
    assert host["LogConfig"]["Type"] == "none"
    assert host["IpcMode"] == "none"
    assert host["PidMode"] == ""
    assert not host["Binds"]
    assert not container["Mounts"]
    assert set(host["Tmpfs"]["/tmp"].split(",")) >= {"size=5m", "noexec", "nosuid", "nodev"}  # noqa: S108
    assert {u["Name"]: u["Hard"] for u in host["Ulimits"]}["core"] == 0
    assert config["Labels"]["io.oodida.process"] == process_mark()


# --- nothing is left --------------------------------------------------------------------------


def test_closing_ends_what_runs(engine: None) -> None:  # noqa: ARG001
    with harness.rig() as rig, ThreadPoolExecutor(1) as pool:
        call = Call(source=SLEEP, environment=Environment.MINIMAL, labels={"task": "t-3"})
        future = pool.submit(rig.sandbox.run, call)
        wait_for(lambda: running(rig.owner, "t-3"), "the container runs")
        rig.sandbox.close()
        assert harness.containers(rig.owner) == []
        assert future.result().reason == "cancelled"
        assert rig.sandbox.run(call).kind is Kind.ENGINE_FAILURE


def test_what_a_crash_left_is_reaped_and_what_lives_is_not(rig: Rig) -> None:
    """A runtime is killed in the middle of a call; its successor cleans up after it."""
    owner = f"{rig.owner}-crash"
    program = f"""
    from edge_runtime.sandbox import Call, Limits, Sandbox
    from protocol.module import Environment

    sandbox = Sandbox({harness.images()!r}, {owner!r})
    sandbox.run(Call({SLEEP!r}, Environment.MINIMAL, labels={{"task": "t-4"}}), Limits(time_s=60))
    """.replace("<Environment.MINIMAL: 'minimal'>", "Environment.MINIMAL").replace(
        "<Environment.SCIENCE: 'science'>", "Environment.SCIENCE"
    )
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)]) as process:
        wait_for(lambda: running(owner, "t-4"), "the container runs")
        with Sandbox(harness.images(), owner) as another:
            assert another.run(Call(ECHO, Environment.MINIMAL)).ok
        assert running(owner, "t-4"), "a live runtime's container was removed"
        process.kill()
    assert running(owner, "t-4"), "nobody was there to remove it"
    with Sandbox(harness.images(), owner):
        wait_for(lambda: not harness.containers(owner), "the leftover is gone")
    assert harness.containers(owner) == []


# --- when there is no engine, or no image -----------------------------------------------------


def test_no_image(rig: Rig) -> None:
    with Sandbox({Environment.MINIMAL: "oodida/none:such"}, rig.owner) as sandbox:
        missing = sandbox.run(Call(ECHO, Environment.MINIMAL))
        assert missing.kind is Kind.REFUSED
        assert "build or pull it" in missing.reason
        unknown = sandbox.run(Call(ECHO, Environment.SCIENCE))
        assert unknown.kind is Kind.REFUSED
        with sandbox.session(Environment.SCIENCE) as session:
            shared = session.run(Call(ECHO, Environment.SCIENCE))
        assert (shared.kind, shared.reason) == (unknown.kind, unknown.reason)
        assert unknown.reason.endswith("start it with --image science=IMAGE")


def test_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with Sandbox({Environment.MINIMAL: "oodida/none:such"}, "nobody") as sandbox:
        outcome = sandbox.run(Call(ECHO, Environment.MINIMAL))
    assert outcome.kind is Kind.ENGINE_FAILURE
    assert "Does the engine run?" in outcome.reason


def test_an_argument_beyond_what_a_guest_reads(rig: Rig) -> None:
    outcome = rig.sandbox.run(Call(ECHO, Environment.MINIMAL, argument="x" * (65 * 2**20)))
    assert outcome.kind is Kind.REFUSED


def test_memory_that_is_out_before_the_guest_is_up(rig: Rig) -> None:
    limits = Limits(memory_mb=32, scratch_mb=1)
    call = Call(
        ECHO, Environment.MINIMAL, argument=values.pack(b"x" * 40_000_000, values.Bounds(10**8))
    )
    outcome = rig.sandbox.run(call, limits)
    assert outcome.exceeded is not None, outcome
    assert outcome.exceeded.limit is Limit.MEMORY
