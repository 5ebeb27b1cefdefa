"""What the profile of system calls has to let through: Python and the libraries, at work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from edge_runtime.sandbox import Limits
from protocol.module import Environment
from tests.attack import harness
from tests.attack.harness import Rig

LIMITS: Final = Limits(time_s=60.0, cpu_s=50, memory_mb=512, processes=48, scratch_mb=16)

#: Bodies of `custom_code`, with what they return.
PYTHON: Final = {
    "threads": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(abs, [-1, -2, -3])) == 6""",
    "subprocess": """
        import subprocess, sys
        command = [sys.executable, "-I", "-S", "-c", "print(6 * 7)"]
        for close in (True, False):
            done = subprocess.run(command, capture_output=True, text=True, close_fds=close)
            assert done.stdout == "42\\n", done
        return True""",
    "posix_spawn": """
        import os, sys
        child = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", ""], {})
        return os.waitpid(child, 0)[1] == 0""",
    "fork": """
        import mmap, os
        shared = mmap.mmap(-1, 4096)
        child = os.fork()
        if child == 0:
            shared[:2] = b"ok"
            os._exit(0)
        os.waitpid(child, 0)
        return shared[:2] == b"ok\"""",
    "multiprocessing": """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        reader, writer = context.Pipe()
        child = context.Process(target=writer.send, args=(3,))
        child.start()
        answer = reader.recv()
        child.join()
        with context.Manager() as manager:
            return answer == 3 and list(manager.list([1])) == [1]""",
    "asyncio": """
        import asyncio, sys
        async def main():
            await asyncio.sleep(0.001)
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", "print(1)", stdout=-1)
            server = await asyncio.start_unix_server(lambda _, w: w.close(), "/tmp/local")
            reader, writer = await asyncio.open_unix_connection("/tmp/local")
            empty = await reader.read()
            writer.close()
            server.close()
            return (await child.communicate())[0], await asyncio.to_thread(abs, -5), empty
        return asyncio.run(main()) == (b"1\\n", 5, b"")""",
    "sqlite3": """
        import sqlite3
        link = sqlite3.connect("/tmp/data.db")
        link.execute("pragma journal_mode = wal")
        link.execute("create table t (a)")
        link.executemany("insert into t values (?)", [(i,) for i in range(10)])
        link.commit()
        return link.execute("select sum(a) from t").fetchone() == (45,)""",
    "files": """
        import os, pathlib, shutil, tempfile
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "a")
            path.write_text("x" * 100)
            shutil.copy2(path, folder + "/b")
            shutil.copytree(folder, folder + "-2")
            shutil.move(folder + "-2", folder + "/c")
            os.mkfifo(folder + "/pipe")
            path.chmod(0o600)
            os.utime(path)
            os.truncate(path, 50)
            os.link(path, folder + "/d")
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, 60)
                os.fsync(file.fileno())
            return path.stat().st_size == 60""",
    "signals": """
        import signal, threading
        rung = threading.Event()
        signal.signal(signal.SIGALRM, lambda *_: rung.set())
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        return rung.wait(20)""",
    "ctypes": """
        import ctypes
        add = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda number: number + 1)
        return add(4) == 5""",
    "own limits": """
        import os, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        os.sched_setaffinity(0, os.sched_getaffinity(0))
        return resource.prlimit(0, resource.RLIMIT_NOFILE) == (64, 64)""",
    "descriptors": """
        import os, select, socket
        one, other = socket.socketpair()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        poll = select.epoll()
        poll.register(other, select.EPOLLIN)
        one.send(b"x")
        os.set_blocking(other.fileno(), False)
        os.set_inheritable(other.fileno(), True)
        return len(poll.poll(20)) == 1 and not os.isatty(0) and other.recv(9) == b"x\"""",
    "standard library": """
        import bz2, lzma, os, platform, ssl, uuid, zoneinfo
        return all([bz2.compress(b"a"), lzma.compress(b"a"), os.urandom(8), platform.platform(),
            ssl.create_default_context(), uuid.uuid1(), zoneinfo.ZoneInfo("Europe/Berlin")])""",
}
LIBRARIES: Final = {
    "numpy": """
        import numpy
        mapped = numpy.memmap("/tmp/array", dtype="f8", mode="w+", shape=(100,))
        mapped[:] = 2
        mapped.flush()
        matrix = numpy.random.default_rng(1).random((200, 200))
        return bool(numpy.linalg.svd(matrix @ matrix)[1][0] > 0)""",
    "scipy": """
        import numpy
        from scipy import fft, optimize
        found = optimize.minimize(lambda x: (x[0] - 1) ** 2, [0.0]).x[0]
        return bool(abs(found - 1) < 0.01 and fft.fft(numpy.ones(64), workers=2)[0] == 64)""",
    "pandas": """
        import pandas
        pandas.DataFrame({"a": [1, 2]}).to_csv("/tmp/table.csv")
        return bool(pandas.read_csv("/tmp/table.csv", memory_map=True).a.sum() == 3)""",
    "scikit-learn": """
        import numpy
        from sklearn.cluster import KMeans
        from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
        points = numpy.random.default_rng(1).random((200, 4))
        classes = points[:, 0] > 0.5
        models = [RandomForestClassifier(5, n_jobs=2), HistGradientBoostingClassifier(max_iter=3)]
        scores = [model.fit(points, classes).score(points, classes) for model in models]
        return bool(KMeans(2, n_init=1).fit(points).n_iter_ > 0 and min(scores) > 0.8)""",
}


@pytest.fixture(scope="module")
def rig(engine: None) -> Iterator[Rig]:  # noqa: ARG001
    """A sandbox of these tests alone."""
    with harness.rig() as rig:
        yield rig


@pytest.mark.parametrize("need", PYTHON)
def test_python(rig: Rig, need: str) -> None:
    source = f"def custom_code(window):{PYTHON[need]}"
    assert rig.value(source, limits=LIMITS) is True


@pytest.mark.parametrize("need", LIBRARIES)
def test_libraries(rig: Rig, need: str) -> None:
    source = f"def custom_code(window):{LIBRARIES[need]}"
    assert rig.value(source, limits=LIMITS, environment=Environment.SCIENCE) is True
