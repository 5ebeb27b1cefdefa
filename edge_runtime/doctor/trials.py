"""Do the limits hold? Calls that go beyond each of them, a little: they give up by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from edge_runtime.sandbox import Call, Limits, Sandbox
from protocol import values
from protocol.finding import Finding, ok, problem
from protocol.outcome import Kind, Limit, Outcome

#: Small, so that going beyond them does no harm where they do not hold.
SMALL: Final = Limits(
    time_s=10, cpu_s=5, memory_mb=64, processes=16, output_kb=4, scratch_mb=2, scratch_files=32
)
_BOOT: Final = "start the kernel with cgroup_enable=memory swapaccount=1, or use control groups 2"
_REPORT: Final = "do not run modules here: this is a hole in the wall; update engine and kernel"


class Trial(NamedTuple):
    """A module, and what is wrong with how its call ended; "" if nothing is."""

    name: str
    source: str
    wrong: Callable[[Outcome], str]
    todo: str
    limits: Limits = SMALL


def _stopped_by(*limits: Limit) -> Callable[[Outcome], str]:
    def wrong(outcome: Outcome) -> str:
        exceeded = outcome.exceeded
        if exceeded is not None and exceeded.limit in limits:
            return ""
        return f"a call went beyond it and was not stopped by it ({said(outcome)})"

    return wrong


def _returned(wrong: Callable[[Any], str]) -> Callable[[Outcome], str]:
    def judged(outcome: Outcome) -> str:
        if not outcome.ok:
            return f"it could not be tried ({said(outcome)})"
        return wrong(values.unpack(outcome.value))

    return judged


def said(outcome: Outcome) -> str:
    """How a call ended, with its value."""
    return f"it returned {outcome.value!r:.100}" if outcome.ok else outcome.describe()[:300]


def _disk(value: dict[str, Any]) -> str:
    wrote = ", ".join(value["wrote"])
    if wrote:
        return f"a call could write to {wrote}"
    if value["mb"] > SMALL.scratch_mb or value["files"] > SMALL.scratch_files:
        return f"a call could write {value['mb']} MB and {value['files']} files"
    return ""


def _network(value: dict[str, Any]) -> str:
    if value["cards"]:
        return f"a call sees {', '.join(value['cards'])}"
    return "a call could reach an address" if value["reached"] else ""


def _rights(value: dict[str, str]) -> str:
    # Another kernel than Linux's own, as gVisor is, does not say all of it.
    wanted = {"Uid": "65534", "CapEff": "0" * 16, "NoNewPrivs": "1"}
    other = {k: value[k] for k, v in wanted.items() if value.get(k, v) != v}
    return f"a call has {other}" if other else ""


TRIALS: Final = (
    Trial(
        "a call",
        "def custom_code(window): return window",
        _returned(lambda value: "" if value == [1.0, 2.0] else f"it returned {value!r:.100}"),
        "see what the sentence says; the engine's own log may say more",
    ),
    Trial(
        "limit of memory",
        """
def custom_code(window):
    held = []
    for _ in range(24):
        held.append(bytearray(b"x") * (8 << 20))
    return len(held)
""",
        _stopped_by(Limit.MEMORY),
        _BOOT,
    ),
    Trial(
        "limit of processes",
        """
import os, signal, time


def custom_code(window):
    made = []
    try:
        for _ in range(40):
            made.append(os.fork())
            if made[-1] == 0:
                time.sleep(8)
                os._exit(0)
    except OSError:
        time.sleep(5)  # the supervisor sees it, and ends this
    for child in made:
        os.kill(child, signal.SIGKILL)
    return len(made)
""",
        _stopped_by(Limit.PROCESSES),
        "use a kernel with the control group of processes (CONFIG_CGROUP_PIDS)",
    ),
    Trial(
        "limit of time",
        "import time\ndef custom_code(window): time.sleep(8)",
        _stopped_by(Limit.TIME),
        _REPORT,
        SMALL.model_copy(update={"time_s": 1.0}),
    ),
    Trial(
        "limit of processor time",
        """
import time


def custom_code(window):
    until = time.monotonic() + 25
    while time.monotonic() < until:
        pass
""",
        _stopped_by(Limit.CPU),
        _REPORT,
        SMALL.model_copy(update={"cpu_s": 1, "time_s": 30.0}),
    ),
    Trial(
        "limit of output",
        "def custom_code(window):\n    for _ in range(64): print('x' * 1024, flush=True)",
        _stopped_by(Limit.OUTPUT),
        _REPORT,
    ),
    Trial(
        "disk",
        """
import os

PLACES = ("/", "/etc", "/usr", "/var", "/dev", "/dev/shm", "/dev/mqueue", "/proc/sys/kernel")


def custom_code(window):
    wrote, mb, files = [], 0, 0
    for place in PLACES:
        try:
            open(place + "/doctor", "w").close()
            wrote.append(place)
        except OSError:
            pass
    try:
        for number in range(8):
            with open(f"/tmp/{number}", "wb") as file:
                file.write(b"x" * (1 << 20))
            mb += 1
    except OSError:
        pass
    for name in os.listdir("/tmp"):
        os.remove("/tmp/" + name)
    try:
        for number in range(100):
            open(f"/tmp/{number}", "w").close()
            files += 1
    except OSError:
        pass
    return {"wrote": wrote, "mb": mb, "files": files}
""",
        _returned(_disk),
        _REPORT,
    ),
    Trial(
        "network",
        """
import socket


def custom_code(window):
    with open("/proc/net/dev") as table:
        names = [line.partition(":")[0].strip() for line in table if ":" in line]
    cards = [name for name in names if name != "lo"]
    try:
        with socket.socket() as tried:
            tried.settimeout(2)
            tried.connect(("192.0.2.1", 9))
        reached = True
    except OSError as problem:
        reached = isinstance(problem, (TimeoutError, ConnectionError))
    return {"cards": cards, "reached": reached}
""",
        _returned(_network),
        _REPORT,
    ),
    Trial(
        "rights",
        """
def custom_code(window):
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    wanted = ("Uid", "CapEff", "NoNewPrivs")
    return {name: lines[name].split()[0] for name in wanted if name in lines}
""",
        _returned(_rights),
        _REPORT,
    ),
    Trial(
        "io_uring",
        """
import ctypes


def custom_code(window):
    library = ctypes.CDLL(None)
    return library.syscall(425, 1, ctypes.create_string_buffer(256))
""",
        _returned(lambda value: "" if value < 0 else "a call can use io_uring"),
        "update the engine to 25 or newer, and the edge runtime to one with its own profile",
    ),
)


def run(sandbox: Sandbox, environment: str) -> Iterator[Finding]:
    """Try one after the other; nothing else if not even a plain call works."""
    for number, trial in enumerate(TRIALS):
        call = Call(trial.source, environment, argument=[1.0, 2.0], labels={"task": "doctor"})
        outcome = sandbox.run(call, trial.limits)
        if outcome.kind in (Kind.ENGINE_FAILURE, Kind.REFUSED):
            wrong = f"it could not be tried ({said(outcome)})"
        else:
            wrong = trial.wrong(outcome)
        name = f"tried: {trial.name}"
        yield problem(name, wrong, trial.todo) if wrong else ok(name, _fine(trial, outcome))
        if wrong and number == 0:
            return


def _fine(trial: Trial, outcome: Outcome) -> str:
    if outcome.exceeded is not None:
        return outcome.describe()
    if trial is TRIALS[0]:
        return f"took {1000 * outcome.seconds:.0f} ms"
    return "closed"
