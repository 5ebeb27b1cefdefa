"""One target for some seconds, in a process of its own: cases are tried until the time is over.

With atheris, which watches what each case reaches and goes on from those that reach something new;
without it by changing the seeds alone.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

#: A case that takes longer is a failure, in seconds; and one that takes more memory, in bytes.
CASE_S: Final = 30.0
MEMORY: Final = 6 * 2**30
#: Every so many cases, what a case of a parser took is counted too.
COUNTED: Final = 200
MAX_CASE: Final = 65_536
#: What is watched of a target, beside the protocol; to prepare all for it takes long.
WATCHED: Final = {
    "orchestrator": "orchestrator", "vehicle": "edge_runtime", "library": "oodida",
    "keeper": "oodida.pki", "signing request": "oodida.pki", "audit log": "oodida.cli.auditing",
    "authority file": "orchestrator.authority", "vehicle's policy": "edge_runtime.policy",
}  # fmt: skip


class Trial:
    """What has been tried of one target, and what failed: one case of each kind is kept."""

    def __init__(self, target: Any, counted: bool, seconds: float, folder: Path) -> None:
        from tests.fuzz import law

        self._law, self._target, self._counted, self._folder = law, target, counted, folder
        self._ends, self._known = time.monotonic() + seconds, set[str]()
        self.cases, self.failures = 0, list[str]()

    @property
    def over(self) -> bool:
        """True if the time is."""
        return time.monotonic() >= self._ends

    def one(self, case: bytes) -> None:
        """Try a case."""
        self.cases += 1
        count = self._counted and self.cases % COUNTED == 0
        signal.setitimer(signal.ITIMER_REAL, CASE_S)
        try:
            (self._law.held_within_bounds if count else self._law.held)(self._target, case)
        except self._law.LawBroken as broken:
            self._keep(case, broken)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _keep(self, case: bytes, broken: Exception) -> None:
        cause = broken.__cause__
        at, where = (cause or broken).__traceback__, ""
        while at is not None:
            where, at = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}", at.tb_next
        kind = f"{type(cause).__name__} {where}" if cause else str(broken)[:80]
        if kind in self._known or len(self._known) >= 20:
            return
        self._known.add(kind)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / hashlib.sha256(case).hexdigest()[:16]
        path.write_bytes(case)
        self.failures.append(f"{path}: {str(broken)[:300]} ({where})")

    def finish(self, engine: str) -> None:
        """Say what was tried, and end, however deep in another program's loop we are."""
        said = {"cases": self.cases, "failures": self.failures, "engine": engine}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        os._exit(0)


def main() -> None:
    """Try one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _too_long)
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        _alone(options)
    else:
        _guided(atheris, options)


def _too_long(_number: int, _frame: FrameType | None) -> None:
    from tests.fuzz.law import LawBroken

    raise LawBroken(f"a case took more than {CASE_S:.0f} s")


def _trial(options: argparse.Namespace) -> tuple[Any, Trial]:
    import logging

    from tests.fuzz.every import PARSERS, PARTS

    logging.lastResort = None  # what is refused is logged, thousands of times
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    name = options.target
    target = PARSERS.get(name) or PARTS[name]
    kept = options.folder / "failed" / name.replace(" ", "-")
    return target, Trial(target, name in PARSERS, options.seconds, kept)


def _alone(options: argparse.Namespace) -> None:
    target, trial = _trial(options)
    dice = Random(f"{options.seed} {options.target}")
    cases = list(target.seeds)
    while not trial.over:
        case = target.changed(dice.choice(cases), dice)[:MAX_CASE]
        trial.one(case)
        if len(case) < 4096 and dice.random() < 0.02:  # a few are gone on from
            cases.append(case)
            if len(cases) > 500:
                cases.pop(dice.randrange(len(target.seeds), len(cases)))
    trial.finish("changes of the seeds alone")


def _guided(atheris: Any, options: argparse.Namespace) -> None:
    watched = ["protocol", WATCHED.get(options.target, "edge_runtime.sandbox")]
    with atheris.instrument_imports(include=watched):
        target, trial = _trial(options)
    corpus = options.folder / "corpus" / target.name.replace(" ", "-")
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def one(case: bytes) -> None:
        if trial.over:
            trial.finish("atheris")
        trial.one(case)

    def change(case: bytes, most: int, seed: int) -> bytes:
        dice = Random(seed)
        ours = dice.random() < 0.5
        changed: bytes = target.changed(case, dice) if ours else atheris.Mutate(case, most)
        return changed[:most]

    settings = [f"-max_len={MAX_CASE}", "-timeout=0", "-rss_limit_mb=0", "-verbosity=0"]
    settings.append(f"-seed={options.seed + 1}")
    atheris.Setup([sys.argv[0], *settings, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
