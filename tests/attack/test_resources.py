"""Processor, memory, processes, descriptors: cases 1 to 12 of the catalogue."""

from __future__ import annotations

import pytest

from edge_runtime.sandbox import Limits
from protocol.outcome import Limit
from tests.attack.harness import SMALL, Rig, ended, seen

BRIEF = SMALL.model_copy(update={"time_s": 0.6})
LITTLE_CPU = SMALL.model_copy(update={"cpu_s": 1})


@pytest.mark.gvisor
def test_01_busy_loop(rig: Rig) -> None:
    outcome = rig.run(
        """
        def custom_code(window):
            while True:
                pass
        """,
        limits=LITTLE_CPU,
    )
    assert ended(outcome) == "limit_exceeded cpu 1"
    assert seen(outcome, Limit.CPU) == pytest.approx(1, abs=0.3)
    # The signal comes at either line of the loop.
    assert outcome.reason in {f"stopped in line {n}, in custom_code" for n in (3, 4)}


@pytest.mark.gvisor
def test_02_sleep_for_ever(rig: Rig) -> None:
    outcome = rig.run(
        """
        import time

        def custom_code(window):
            print("good night")
            time.sleep(3600)
        """,
        limits=BRIEF,
    )
    assert ended(outcome) == "limit_exceeded time 0.6"
    assert seen(outcome, Limit.TIME) == pytest.approx(0.8, abs=0.25)
    assert outcome.reason == "stopped in line 6, in custom_code"
    assert outcome.describe().startswith("time limit of 0.6 s exceeded")
    assert outcome.describe().endswith("(stopped in line 6, in custom_code)")
    assert outcome.printed == "good night\n"


@pytest.mark.parametrize(
    ("numbers", "limits", "end"),
    [
        ("range(1, 65)", BRIEF, "limit_exceeded time 0.6"),
        ("[signal.SIGXCPU]", LITTLE_CPU, "limit_exceeded cpu 1"),
    ],
    ids=["all", "of processor time"],
)
def test_03_signals_ignored(rig: Rig, numbers: str, limits: Limits, end: str) -> None:
    outcome = rig.run(
        f"""
        import signal

        for number in {numbers}:
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass

        def custom_code(window):
            while True:
                pass
        """,
        limits=limits,
    )
    assert ended(outcome) == end


@pytest.mark.parametrize(
    "hang",
    [
        "__import__('ctypes').PyDLL(None).sleep(3600)",
        "__import__('re').match('(a+)+$', 'a' * 64 + 'b')",
    ],
    ids=["asleep", "busy"],
)
def test_04_hang_that_holds_the_interpreter(rig: Rig, hang: str) -> None:
    outcome = rig.run(f"def custom_code(window):\n    {hang}\n", limits=BRIEF)
    assert ended(outcome) == "limit_exceeded time 0.6"
    assert outcome.reason == "stopped in line 2, in custom_code"


@pytest.mark.gvisor
def test_05_memory_bomb(rig: Rig) -> None:
    outcome = rig.run(
        """
        def custom_code(window):
            hoard = []
            while True:
                hoard.append(bytes(1_000_000) + b"x")
        """
    )
    assert ended(outcome) == "limit_exceeded memory 96"
    assert seen(outcome, Limit.MEMORY) == pytest.approx(96, abs=2)


def test_06_memory_bomb_in_a_child_while_the_parent_reports_success(rig: Rig) -> None:
    outcome = rig.run(
        """
        import os

        def custom_code(window):
            if os.fork() == 0:
                hoard = []
                while True:
                    hoard.append(b"x" * 1_000_000)
            os.wait()
            return "all is well"
        """
    )
    assert ended(outcome) == "limit_exceeded memory 96"


TOUCH = """
import mmap

def custom_code(window):
    sparse = mmap.mmap(-1, 1 << 30)
    for page in range(0, {touched}, mmap.PAGESIZE):
        sparse[page] = 1
    return len(sparse)
"""
FILL = """
def custom_code(window):
    for number in range(100):
        with open(f"{folder}/{{number}}", "wb") as file:
            file.write(b"x" * 3_000_000)
"""


@pytest.mark.parametrize(
    ("source", "end"),
    [
        (TOUCH.format(touched=0), "value"),  # free until it is touched
        (TOUCH.format(touched="1 << 30"), "limit_exceeded memory 64"),
        (FILL.format(folder="/tmp"), "limit_exceeded memory 64"),  # noqa: S108 - scratch is memory
        (FILL.format(folder="/dev/shm"), "module_error FileNotFoundError"),  # noqa: S108 - none
    ],
    ids=["mapped", "touched", "scratch", "shared memory"],
)
def test_07_sparse_map_and_shared_memory(rig: Rig, source: str, end: str) -> None:
    limits = SMALL.model_copy(update={"scratch_mb": 512, "memory_mb": 64})
    if rig.gvisor and "/dev/shm" in source:  # noqa: S108
        end = "module_error PermissionError"  # its kernel has that folder always, for root
    assert ended(rig.run(source, limits=limits)) == end


@pytest.mark.gvisor
@pytest.mark.parametrize(
    ("more", "times"),
    [
        ("os.fork()", "iter(int, 1)"),
        ("threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "range(100)"),
    ],
    ids=["processes", "threads"],
)
def test_08_fork_bomb_that_swallows_exceptions(rig: Rig, more: str, times: str) -> None:
    outcome = rig.run(
        f"""
        import os, threading, time

        def custom_code(window):
            for _ in {times}:
                try:
                    {more}
                except (OSError, RuntimeError):
                    pass
            return "all is well"
        """
    )
    if rig.gvisor:
        # What the host counts are threads of gVisor's own kernel, which ends when it gets no more,
        # and takes everything with it. The guest's threads are not among them.
        assert ended(outcome) in {"engine_failure", "limit_exceeded memory 96", "value"}
    else:
        assert ended(outcome) == "limit_exceeded processes 24"


@pytest.mark.parametrize(
    "left",
    [
        "threading.Thread(target=time.sleep, args=(3600,)).start()",
        "threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()",
        "threading.Thread(target=lambda: [print(n) for n in range(10**9)], daemon=True)",
        "atexit.register(time.sleep, 3600)",
        "threading._register_atexit(time.sleep, 3600)",
    ],
    ids=["thread", "daemon", "not started", "at exit", "at exit of threads"],
)
def test_09_threads_left_running_at_exit(rig: Rig, left: str) -> None:
    outcome = rig.run(
        f"""
        import atexit, threading, time

        def custom_code(window):
            {left}
            return 1
        """
    )
    assert ended(outcome) == "value", outcome
    assert outcome.value == 1
    assert outcome.seconds < SMALL.time_s / 2


@pytest.mark.parametrize(
    "orphan",
    ["time.sleep(3600)", "[time.sleep(0.001) for _ in iter(lambda: os.write(4, b''), 1)]"],
    ids=["asleep", "writing"],
)
def test_10_orphan_that_keeps_the_pipes_open(rig: Rig, orphan: str) -> None:
    outcome = rig.run(
        f"""
        import os, time

        def custom_code(window):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    {orphan}
                os._exit(0)
            return 1
        """
    )
    assert ended(outcome) == "value", outcome
    assert outcome.value == 1
    assert outcome.seconds < SMALL.time_s / 2


@pytest.mark.parametrize(
    "take",
    ["open('/dev/null')", "os.pipe()", "os.dup(0)", "socket.socketpair()"],
    ids=["files", "pipes", "copies", "sockets"],
)
def test_11_descriptors_exhausted(rig: Rig, take: str) -> None:
    source = """
    import os, socket

    hoard = []

    def custom_code(window):
        while True:
            hoard.append({take})
    """
    outcome = rig.run(source.format(take=take))
    assert ended(outcome) == "module_error OSError"
    assert outcome.fault is not None
    assert outcome.fault.message.startswith("[Errno 24]")
    assert (8, "custom_code") in {(line.number, line.function) for line in outcome.fault.lines}


IN_A_SMALL_STACK = """threading.stack_size(65_536)
    nested = functools.reduce(lambda deep, _: (deep,), range(100_000))
    deep = threading.Thread(target=hash, args=[nested])
    deep.start()
    deep.join()
"""


@pytest.mark.parametrize(
    ("down", "end"),
    [
        ("return custom_code(window)", "module_error RecursionError"),
        ("sys.setrecursionlimit(10**9)\n    custom_code(window)", "limit_exceeded memory 96"),
        ("return max([window], key=custom_code)", "module_error RecursionError"),
        ("return hash(functools.reduce(lambda deep, _: (deep,), range(300_000)))", "module_error"),
        (IN_A_SMALL_STACK, "module_error"),
    ],
    ids=["in Python", "in Python without a limit", "in and out of C", "in C", "in a small stack"],
)
def test_12_recursion_until_the_stack_overflows(rig: Rig, down: str, end: str) -> None:
    outcome = rig.run(f"import functools, sys, threading\ndef custom_code(window):\n    {down}\n")
    if rig.gvisor and "memory" in end:
        # The host's kernel ends gVisor's, of which the engine does not always hear in time.
        assert ended(outcome) in {end, "engine_failure"}, outcome
    else:
        assert ended(outcome) == end, outcome
    if end == "module_error":
        assert "SIGSEGV" in outcome.reason
