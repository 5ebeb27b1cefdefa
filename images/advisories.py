"""Whether a package that we lock has a known weakness, by a list that is kept here: no network.

The list, `advisories.json`, holds advisories as OSV publishes them, of locked packages alone, and
the day that they are of. `python -m images.advisories --take FOLDER --date YYYY-MM-DD` makes it
again from a folder of OSV's files for PyPI.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

HERE: Final = Path(__file__).parent
LIST: Final = HERE / "advisories.json"
_LOCKED: Final = re.compile(
    r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE
)
_KEPT: Final = ("id", "summary", "withdrawn", "affected")
Advisory = Mapping[str, Any]


def locked(folder: Path = HERE / "locks") -> set[tuple[str, str]]:
    """Name and version of every package in every lock."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt")))
    return {(canonicalize_name(n), v) for text in texts for n, v in _LOCKED.findall(text)}


def found(advisories: Iterable[Advisory], packages: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each locked package that an advisory is of."""
    versions: dict[str, list[str]] = {}
    for name, version in packages:
        versions.setdefault(name, []).append(version)
    return sorted(
        f"{name} {version}: {advisory['id']}: {advisory.get('summary', 'no summary')}"
        for advisory in advisories
        if not advisory.get("withdrawn")
        for name, affected in _affected(advisory)
        for version in versions.get(name, ())
        if _is_affected(version, affected)
    )


def _affected(advisory: Advisory) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for affected in advisory.get("affected", ()):
        package = affected.get("package", {})
        if package.get("ecosystem") == "PyPI":
            yield canonicalize_name(package["name"]), affected


def _is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    if version in affected.get("versions", ()):
        return True
    ranges = (r["events"] for r in affected.get("ranges", ()) if r.get("type") == "ECOSYSTEM")
    return any(_in_range(Version(version), events) for events in ranges)


def _in_range(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    """By the events in the order of versions: introduced, fixed or last affected, and so on."""
    inside = False
    for event in sorted(events, key=_when):
        kind, when = next(iter(event)), _when(event)
        if kind == "introduced" and version >= when:
            inside = True
        elif (kind == "fixed" and version >= when) or (kind == "last_affected" and version > when):
            inside = False
    return inside


def _when(event: Mapping[str, str]) -> Version:
    try:
        return Version(next(iter(event.values())))
    except InvalidVersion:
        return Version("0")  # rather one too many


def take(folder: Path, date: dt.date) -> None:
    """Make the list again, of what is in a folder and of locked packages."""
    names, kept = {name for name, _ in locked()}, []
    for path in sorted(folder.glob("*.json")):
        advisory = json.loads(path.read_text(encoding="utf-8"))
        if names & {name for name, _ in _affected(advisory)}:
            kept.append({key: advisory[key] for key in _KEPT if key in advisory})
    LIST.write_text(json.dumps({"date": date.isoformat(), "advisories": kept}, indent=1) + "\n")


def main() -> int:
    """Check the locks; 1 if one has a package with a known weakness."""
    parser = argparse.ArgumentParser(prog="python -m images.advisories", description=__doc__)
    parser.add_argument("--take", type=Path, metavar="FOLDER")
    today = dt.datetime.now(dt.UTC).date()
    parser.add_argument("--date", type=dt.date.fromisoformat, default=today)
    options = parser.parse_args()
    if options.take is not None:
        take(options.take, options.date)
    known = json.loads(LIST.read_text(encoding="utf-8"))
    packages, lines = locked(), found(known["advisories"], locked())
    for line in lines:
        sys.stdout.write(f"{line}\n")
    if known["date"] is None:
        sys.stdout.write("advisories: NOT CHECKED: the list is empty; see --take\n")
    else:
        about = f"{len(packages)} locked packages, {len(known['advisories'])} advisories"
        sys.stdout.write(f"advisories: {len(lines)} found ({about} of {known['date']})\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
