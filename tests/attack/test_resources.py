"""Processor, memory, processes, descriptors: cases 1 to 12 of the catalogue."""

from __future__ import annotations

import pytest

from protocol.outcome import Kind, Limit, Outcome
from tests.attack.harness import SMALL, Rig

BRIEF = SMALL.model_copy(update={"time_s": 0.6})
LITTLE_CPU = SMALL.model_copy(update={"cpu_s": 1})


def assert_hit(outcome: Outcome, limit: Limit) -> None:
    assert outcome.kind is Kind.LIMIT_EXCEEDED, outcome
    assert outcome.exceeded is not None
    assert outcome.exceeded.limit is limit, outcome


def test_busy_loop(rig: Rig) -> None:
    outcome = rig.run(
        """
        def custom_code(window):
            while True:
                pass
        """,
        limits=LITTLE_CPU,
    )
    assert_hit(outcome, Limit.CPU)
    assert outcome.exceeded is not None
    assert outcome.exceeded.configured == 1
    assert outcome.exceeded.seen == pytest.approx(1, abs=0.3)
    # The signal comes at either line of the loop.
    assert outcome.reason in {f"stopped in line {n}, in custom_code" for n in (3, 4)}


def test_sleep_for_ever(rig: Rig) -> None:
    outcome = rig.run(
        """
        import time

        def custom_code(window):
            print("good night")
            time.sleep(3600)
        """,
        limits=BRIEF,
    )
    assert_hit(outcome, Limit.TIME)
    assert outcome.reason == "stopped in line 6, in custom_code"
    assert outcome.describe().startswith("time limit of 0.6 s exceeded")
    assert outcome.describe().endswith("(stopped in line 6, in custom_code)")
    assert outcome.printed == "good night\n"


def test_signals_ignored(rig: Rig) -> None:
    outcome = rig.run(
        """
        import signal

        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass

        def custom_code(window):
            while True:
                pass
        """,
        limits=BRIEF,
    )
    assert_hit(outcome, Limit.TIME)


def test_processor_time_with_signals_ignored(rig: Rig) -> None:
    outcome = rig.run(
        """
        import signal

        signal.signal(signal.SIGXCPU, signal.SIG_IGN)

        def custom_code(window):
            while True:
                pass
        """,
        limits=LITTLE_CPU,
    )
    assert_hit(outcome, Limit.CPU)


@pytest.mark.parametrize(
    "hang",
    [
        "__import__('ctypes').PyDLL(None).sleep(3600)",
        "__import__('re').match('(a+)+$', 'a' * 64 + 'b')",
    ],
    ids=["asleep", "busy"],
)
def test_hang_that_holds_the_interpreter(rig: Rig, hang: str) -> None:
    outcome = rig.run(f"def custom_code(window):\n    {hang}\n", limits=BRIEF)
    assert_hit(outcome, Limit.TIME)
    assert outcome.reason == "stopped in line 2, in custom_code"


def test_memory_bomb(rig: Rig) -> None:
    outcome = rig.run(
        """
        def custom_code(window):
            hoard = []
            while True:
                hoard.append(bytes(1_000_000) + b"x")
        """
    )
    assert_hit(outcome, Limit.MEMORY)
    assert outcome.exceeded is not None
    assert outcome.exceeded.configured == 96
    assert outcome.exceeded.seen == pytest.approx(96, abs=2)


def test_memory_bomb_in_a_child_while_the_parent_reports_success(rig: Rig) -> None:
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
    assert_hit(outcome, Limit.MEMORY)


def test_sparse_map_is_free_until_it_is_touched(rig: Rig) -> None:
    touch = """
    import mmap

    def custom_code(window):
        sparse = mmap.mmap(-1, 1 << 30)
        if window:
            for page in range(0, 1 << 30, mmap.PAGESIZE):
                sparse[page] = 1
        return len(sparse)
    """
    assert rig.value(touch, False) == 1 << 30
    assert_hit(rig.run(touch, True), Limit.MEMORY)


def test_scratch_space_is_memory(rig: Rig) -> None:
    outcome = rig.run(
        """
        import os

        def custom_code(window):
            for number in range(100):
                with open(f"/tmp/{number}", "wb") as file:
                    file.write(b"x" * 3_000_000)
        """,
        limits=SMALL.model_copy(update={"scratch_mb": 512, "memory_mb": 64}),
    )
    assert_hit(outcome, Limit.MEMORY)


def test_no_shared_memory(rig: Rig) -> None:
    outcome = rig.run("def custom_code(window):\n    open('/dev/shm/x', 'w')\n")
    assert outcome.kind is Kind.MODULE_ERROR


def test_fork_bomb(rig: Rig) -> None:
    outcome = rig.run(
        """
        import os

        def custom_code(window):
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
        """
    )
    assert_hit(outcome, Limit.PROCESSES)
    assert outcome.exceeded is not None
    assert outcome.exceeded.configured == SMALL.processes


def test_thread_bomb_that_is_swallowed(rig: Rig) -> None:
    outcome = rig.run(
        """
        import threading, time

        def custom_code(window):
            for _ in range(100):
                try:
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                except RuntimeError:
                    pass
            return "all is well"
        """
    )
    assert_hit(outcome, Limit.PROCESSES)


def test_threads_left_running(rig: Rig) -> None:
    assert (
        rig.value(
            """
            import threading, time

            def custom_code(window):
                threading.Thread(target=time.sleep, args=(3600,)).start()
                return 1
            """
        )
        == 1
    )


def test_orphan_that_keeps_the_pipes_open(rig: Rig) -> None:
    outcome = rig.run(
        """
        import os, time

        def custom_code(window):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(3600)
                os._exit(0)
            return 1
        """
    )
    assert outcome.ok, outcome
    assert outcome.seconds < SMALL.time_s


def test_descriptors_exhausted(rig: Rig) -> None:
    outcome = rig.run(
        """
        def custom_code(window):
            hoard = []
            while True:
                hoard.append(open("/dev/null"))
        """
    )
    assert outcome.kind is Kind.MODULE_ERROR
    assert outcome.fault is not None
    assert outcome.fault.type == "OSError"
    assert outcome.fault.lines[-1].number == 5


def test_recursion(rig: Rig) -> None:
    outcome = rig.run("def custom_code(window):\n    return custom_code(window)\n")
    assert outcome.fault is not None
    assert outcome.fault.type == "RecursionError"


def test_c_stack_overflow(rig: Rig) -> None:
    outcome = rig.run(
        """
        import sys, threading

        def custom_code(window):
            sys.setrecursionlimit(10**9)
            threading.stack_size(65_536)
            nested = []
            for _ in range(1_000_000):
                nested = [nested]
            deep = threading.Thread(target=lambda: hash(repr(nested)))
            deep.start()
            deep.join()
            def down(n):
                return max([n], key=lambda _: down(n + 1))
            return down(0)
        """
    )
    assert outcome.kind is Kind.MODULE_ERROR, outcome
    assert "SIGSEGV" in outcome.reason or outcome.fault is not None
