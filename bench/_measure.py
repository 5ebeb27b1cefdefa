"""What the benches share: the machine, medians, and the one JSON object on the last line."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: The module whose deployment and calls are measured: 20 lines, 0.45 KB, as in the paper.
MODULE = Path(__file__).parent / "module_of_20_lines.txt"


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """Median and 95th percentile of times in seconds, and every one of them, in milliseconds."""
    ordered = sorted(seconds)
    at = min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))
    return {
        "median_ms": round(statistics.median(ordered) * 1000, 1),
        "p95_ms": round(ordered[at] * 1000, 1),
        "runs_ms": [round(s * 1000, 1) for s in seconds],
    }


def print_figures(name: str, **figures: Any) -> None:
    """Print one JSON object on one line."""
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps({"bench": name, "machine": machine, **figures}))
