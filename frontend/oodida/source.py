"""A module's source, from whatever the analyst has: a path, a text or a function."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from protocol.errors import BadRequest, SourceTooLarge
from protocol.module import MAX_SOURCE, SCIENCE_LIBRARIES, Environment
from protocol.topics import is_name
from protocol.verification import FUNCTION

Given = str | Path | Callable[..., Any]


def read(given: Given) -> tuple[str, str]:
    """The source, and a name for it if none is given.

    A function object is sent alone: what it uses from outside itself has to be imported in it.
    Raises BadRequest if there is nothing to read, SourceTooLarge if it is too much.
    """
    if callable(given):
        source, name = _of_function(given), getattr(given, "__name__", FUNCTION)
    elif not isinstance(given, str | Path):
        raise BadRequest(f"a module is a path, a text or a function, not {type(given).__name__}")
    elif isinstance(given, Path) or _is_path(given):
        source, name = _of_file(Path(given)), Path(given).stem
    else:
        source, name = given, "module"
    size = len(source.encode(errors="replace"))
    if size > MAX_SOURCE:
        raise SourceTooLarge(f"the source has {size} bytes; at most {MAX_SOURCE} may be deployed")
    if not source.strip():
        raise BadRequest("the source is empty")
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("_.-")[:64]
    return source, safe if is_name(safe) else "module"


def _is_path(text: str) -> bool:
    """A text of one line that ends like a file is a path, even if there is no such file."""
    return "\n" not in text and text.strip().endswith(".py")


def _of_file(path: Path) -> str:
    try:
        if path.stat().st_size > 4 * MAX_SOURCE:
            raise SourceTooLarge(f"{path} has more than {MAX_SOURCE} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise BadRequest(f"{path} cannot be read: {e.strerror}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"{path} is not UTF-8 text") from None


def _of_function(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    if not inspect.isfunction(function) or name == "<lambda>":
        raise BadRequest("deploy a function made by def, a path, or the source as text")
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise BadRequest(f"the source of {name} cannot be found; deploy it as text") from None
    outside = inspect.getclosurevars(function)
    if function.__closure__:
        used = ", ".join(sorted(outside.nonlocals))
        raise BadRequest(f"{name} uses {used} from around it; define them inside the function")
    imports = _imports_for(outside.globals)
    body = f"{imports}{source}"
    return body if name == FUNCTION else f"{body}\n\n{FUNCTION} = {name}\n"


def _imports_for(used: Mapping[str, Any]) -> str:
    """Imports of the modules that a function uses from its own: `np` needs `import numpy as np`."""
    lines = [
        f"import {value.__name__} as {name}\n"
        for name, value in sorted(used.items())
        if inspect.ismodule(value)
    ]
    return "".join(lines) + ("\n\n" if lines else "")


def environment_for(source: str) -> Environment:
    """`science` if the source imports one of its libraries anywhere, else `minimal`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Environment.MINIMAL  # verification says what is wrong with it
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        if any(name.partition(".")[0] in SCIENCE_LIBRARIES for name in names):
            return Environment.SCIENCE
    return Environment.MINIMAL
