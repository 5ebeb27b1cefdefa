"""What a seed did, and what did not hold."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    """The outcome of one seed, or of several together."""

    seeds: list[int] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    doubled: int = 0
    delayed: int = 0
    assignments: int = 0
    iterations: int = 0
    results: int = 0
    late: int = 0
    halted: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Report) -> None:
        """Take another one in."""
        self.seeds += other.seeds
        self.faults += other.faults
        self.failed += other.failed
        self.notes += other.notes
        self.violations += [f"seed {s}: {v}" for s in other.seeds for v in other.violations]
        for name in (
            "doubled",
            "delayed",
            "assignments",
            "iterations",
            "results",
            "late",
            "halted",
            "seconds",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items()))
        messages = f"{self.doubled} messages doubled, {self.delayed} delayed"
        work = f"{self.assignments} assignments, {self.iterations} iterations"
        halts = f"{self.halted} halts, {self.seconds:.0f} s"
        lines = [
            f"{self.faults.total()} faults: {faults}; {messages}",
            f"{work} of {self.results} results ({self.late} came late), {halts}",
            *(f"failed with a reason, {n} times: {why}" for why, n in self.failed.items()),
            *(f"note: {note}" for note in self.notes),
            *(f"VIOLATION: {violation}" for violation in self.violations),
            f"{len(self.violations)} violations",
        ]
        return "\n".join(lines)

    def json(self) -> str:
        """The figures on one line."""
        return json.dumps(
            {
                "seeds": len(self.seeds),
                "faults": self.faults.total(),
                "by_kind": dict(sorted(self.faults.items())),
                "messages_doubled": self.doubled,
                "messages_delayed": self.delayed,
                "assignments": self.assignments,
                "iterations": self.iterations,
                "results": self.results,
                "late_results_taken": self.late,
                "halted_and_resumed": self.halted,
                "failed_with_reason": self.failed.total(),
                "violations": len(self.violations),
                "seconds": round(self.seconds),
            }
        )
