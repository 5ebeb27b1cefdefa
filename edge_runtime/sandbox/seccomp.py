"""The profile of system calls: `seccomp.toml`, as the engine wants to read it."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

#: The table, written by hand.
TABLE: Final = Path(__file__).with_name("seccomp.toml")
#: Processors that the project runs on. Named without their 32-bit and x32 entries, so that those
#: are refused: their calls have other numbers, and a filter has to be right for each.
PROCESSORS: Final = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
_EPERM: Final = 1
#: Of an argument that is an int the kernel takes the lower half of the register, so a filter must
#: look at the same: the upper half is whatever was left there.
_INT: Final = 0xFFFF_FFFF


@cache
def profile() -> str:
    """Return the profile as JSON on one line, as it stands after `seccomp=` in SecurityOpt.

    What the table does not allow is refused with EPERM. Needs an engine that knows `errnoRet`,
    which is Docker from 20.10.10 on: threads cannot start without.
    """
    return json.dumps(render(tomllib.loads(TABLE.read_text())), separators=(",", ":"))


def render(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the profile of a table with `allow`, `narrowed` and `answered`."""
    allowed = sorted(call for group in table["allow"] for call in group["calls"])
    rules: list[dict[str, Any]] = [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]
    for call, how in table["narrowed"].items():
        only = {"includes": {"arches": [how["processor"]]}} if "processor" in how else {}
        # Conditions of one rule hold together, rules of one call stand for each other.
        for arguments in itertools.product(*map(_conditions, how["where"])):
            rule = {"names": [call], "action": "SCMP_ACT_ALLOW", "args": list(arguments)}
            rules.append(rule | only)
    rules.extend(
        {"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": how["errno"]}
        for call, how in table["answered"].items()
    )
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "archMap": [{"architecture": name, "subArchitectures": []} for name in PROCESSORS],
        "syscalls": rules,
    }


def _conditions(where: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ways in which one argument may be right."""
    return [
        {
            "index": where["argument"],
            "op": "SCMP_CMP_MASKED_EQ",
            "value": where.get("mask", _INT),
            "valueTwo": value,
        }
        for value in where["is"]
    ]
