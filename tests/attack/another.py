"""A runtime in a process of its own, which a test may kill."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any, Final, Self

from protocol.module import Environment
from protocol.outcome import Outcome
from tests.attack import harness
from tests.attack.harness import Way

#: Reads a line for each call, and writes one for each outcome.
PROGRAM: Final = """
import contextlib, json, sys

from edge_runtime.sandbox import Call, Limits, Sandbox
from protocol.module import Environment

images, owner, runtime, isolation = json.loads(sys.stdin.readline())
limits = Limits(time_s=60)
with contextlib.ExitStack() as stack:
    sandbox = stack.enter_context(Sandbox(images, owner, runtime=runtime))
    run = lambda call: sandbox.run(call, limits)
    if isolation == "assignment":
        run = stack.enter_context(sandbox.session(Environment.MINIMAL, limits, {})).run
    for line in sys.stdin:
        print(run(Call(json.loads(line), Environment.MINIMAL)).model_dump_json(), flush=True)
"""


class Another:
    """Another runtime, with a sandbox that is kept from call to call.

    Args:
        owner: whose containers it makes.
        way: how it makes its calls.
        environ: what it finds in its environment beside what we have.
    """

    def __init__(self, owner: str, way: Way, environ: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environ or {})},
        )
        images = {Environment.MINIMAL.value: harness.images()[Environment.MINIMAL]}
        self._outcomes: queue.Queue[Outcome] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._say([images, owner, way.runtime, way.isolation])

    def call(self, source: str) -> None:
        """Have it run this; `outcome` tells how it ended."""
        self._say(source)

    def outcome(self, seconds: float) -> Outcome:
        """How the next call ended. Raises queue.Empty if it takes longer."""
        return self._outcomes.get(timeout=seconds)

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it in good order, within half a minute."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        finally:
            self.kill()
            self._reader.join()
            self._process.stdout.close()

    def _say(self, thing: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(thing).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._outcomes.put(Outcome.model_validate_json(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
