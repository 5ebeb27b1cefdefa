"""``python -m edge_runtime.policy FILE``: whether a vehicle would take this policy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.policy.file import read
from protocol import limits
from protocol.errors import OodidaError
from protocol.limits import Profiles


def main() -> None:
    """Say whether a file can be taken, before a vehicle reads it."""
    made = argparse.ArgumentParser(
        prog="python -m edge_runtime.policy",
        description="Reads a vehicle's policy, and tells what is wrong with it.",
    )
    made.add_argument("file", type=Path)
    made.add_argument(
        "--profiles", type=Path, default=limits.SHIPPED, metavar="FILE",
        help="the profiles of limits that the vehicle has, instead of those that are shipped",
    )  # fmt: skip
    options = made.parse_args()
    try:
        read(options.file, Profiles.read(options.profiles))
    except OodidaError as problem:
        sys.exit(f"{problem.code}: {problem}")
    print(f"{options.file} is good")


if __name__ == "__main__":
    main()
