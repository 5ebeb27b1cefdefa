"""The long run: every target for its part of the time, two at a time, and what failed.

A case that failed is kept, and `--replay TARGET FILE` tries it again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.fuzz.every import PARSERS, PARTS
from tests.fuzz.law import held

FOLDER: Final = Path(".cache/fuzz")
TARGETS: Final = {**PARSERS, **PARTS}
AT_A_TIME: Final = 2
#: How much longer than it was given a target may take, to begin and to end, in seconds.
PATIENCE_S: Final = 120.0


def tried(name: str, seconds: float, folder: Path, seed: int) -> dict[str, Any]:
    """Try one target in a process of its own; what it said, or how it ended."""
    with tempfile.TemporaryDirectory(prefix="oodida-fuzz-") as scratch:
        command = [
            sys.executable, "-m", "tests.fuzz.one", name, f"--seconds={seconds}",
            f"--folder={folder}", f"--seed={seed}",
        ]  # fmt: skip
        environment = {**os.environ, "TMPDIR": scratch}
        try:
            done = subprocess.run(
                command, capture_output=True, env=environment, timeout=seconds + PATIENCE_S,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"cases": 0, "failures": ["it did not end"], "engine": "?"}
    try:
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        ended = f"the process ended by itself ({done.returncode}): {' | '.join(last)}"
        return {"cases": 0, "failures": [ended], "engine": "?"}
    return said


def results(names: list[str], seconds: float, folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """What came of each target, in their order, as it comes."""
    each = seconds * AT_A_TIME / len(names)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield from pool.map(lambda name: tried(name, each, folder, seed), names)


def main() -> int:
    """Run; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--targets", nargs="*", choices=sorted(TARGETS), default=list(TARGETS))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"))
    options = parser.parse_args()
    if options.replay:
        held(TARGETS[options.replay[0]], Path(options.replay[1]).read_bytes())
        return 0
    names, cases, failures, engines = options.targets, 0, 0, set()
    every = results(names, options.seconds, options.folder, options.seed)
    for name, said in zip(names, every, strict=True):
        print(f"{name:24} {said['cases']:>9} cases {len(said['failures']):>3} failures", flush=True)
        for failure in said["failures"]:
            print(f"    {failure}", flush=True)
        cases, failures = cases + said["cases"], failures + len(said["failures"])
        engines.add(said["engine"])
    print(f"by {', '.join(sorted(engines))}; what failed is kept in {options.folder}/failed")
    print(json.dumps({"targets": len(names), "cases": cases, "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
