"""How much a deployment asks for, as a number: from 1, the least, to 8.

Home Assistant rates add-ons in the same spirit; here more is more, and what it is made of is told
with it. It is a help for whoever reviews and for whoever deploys, and no boundary: what a module
can do at most is decided by the sandbox, the rules of imports, the limits and vehicles' policies.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Final, NamedTuple

from protocol.assignment import Select
from protocol.limits import DEFAULT, LimitsAsked, Profiles
from protocol.module import Environment, Side

HIGHEST: Final = 8
#: Modules of the standard library that reach beyond computing: to processes, files, the machine,
#: other languages, or the running interpreter itself.
REACHING: Final = frozenset({
    "os", "sys", "subprocess", "socket", "ssl", "ctypes", "_ctypes", "mmap", "signal", "resource",
    "multiprocessing", "threading", "_thread", "concurrent", "asyncio", "shutil", "tempfile",
    "pathlib", "io", "fcntl", "pty", "gc", "inspect", "importlib", "runpy", "code", "builtins",
    "marshal", "pickle", "http", "urllib", "ftplib", "smtplib", "select", "selectors", "platform",
    "pwd", "grp", "syslog",
})  # fmt: skip
#: What makes code of text, or looks behind what is written.
DYNAMIC: Final = frozenset({
    "eval", "exec", "compile", "__import__", "globals", "locals", "vars", "getattr", "setattr",
    "delattr", "breakpoint", "open", "memoryview",
})  # fmt: skip


class Privilege(NamedTuple):
    """The score, and what it is made of: a word on each step above 1."""

    score: int
    reasons: tuple[str, ...]


def privilege(
    side: Side, environment: str, limits: LimitsAsked, source: str, vehicles: Select | None
) -> Privilege:
    """How much a deployment asks for. ``environment`` is a name, or anything else for libraries.

    One step for each: it runs on vehicles; on all of them; with libraries beyond the standard one,
    and a second if they are not ours; with more than the profile "default" grants; imports that
    reach beyond computing; code that is made of text.
    """
    steps: list[str] = []
    if side is Side.ONBOARD:
        steps.append("it runs on vehicles, over their signals")
        if vehicles is None or vehicles == Select.all():
            steps.append("it goes to every vehicle")
    if environment != Environment.MINIMAL:
        steps.append("it has libraries beyond the interpreter's own")
    if environment not in list(Environment):
        steps.append("they are chosen by its analyst")
    if above := _above_default(limits):
        steps.append(f"it asks for more than usual: {', '.join(above)}")
    reaching, dynamic = _names(source)
    if reaching:
        steps.append(f"it imports what reaches beyond computing: {', '.join(reaching[:5])}")
    if dynamic:
        steps.append(f"it makes code of text, or looks behind it: {', '.join(dynamic[:5])}")
    return Privilege(min(HIGHEST, 1 + len(steps)), tuple(steps))


@cache
def _profiles() -> Profiles:
    return Profiles.read()


def _above_default(limits: LimitsAsked) -> list[str]:
    """The limits that are higher than those of the profile "default"."""
    profiles = _profiles().profiles
    usual, asked = profiles[DEFAULT], profiles.get(limits.profile)
    if asked is None:  # a vehicle may have it; what it grants is not known here
        return [f"the profile {limits.profile}"]
    found = []
    for name, most in usual:
        granted = limits.lower.get(name, getattr(asked, name))
        if granted > most:
            found.append(f"{name}={granted:g}")
    return found


@lru_cache(maxsize=256)
def _names(source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a source imports that reaches, and what it uses that is dynamic; read, never run."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return (), ()  # it will not be shipped
    imported = {name for node in ast.walk(tree) for name in _imported(node)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _behind(n.attr)}
    return tuple(sorted(imported & REACHING)), tuple(
        sorted(name for name in used if name in DYNAMIC or _behind(name))
    )


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module.partition(".")[0]


def _behind(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and name not in {"__name__", "__doc__"}
