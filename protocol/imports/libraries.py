"""Which libraries a source imports, as far as its text tells. Pure; nothing is executed."""

from __future__ import annotations

import ast
import sys
from functools import lru_cache
from typing import Final

#: A source that names more is not helped with all of them.
_MOST: Final = 32


@lru_cache(maxsize=256)
def imported(source: str) -> frozenset[str]:
    """The modules beyond the standard library that a source imports anywhere, with dotted names.

    A source that cannot be parsed gives none: verification says what is wrong with it.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    beyond = [n for n in names if n.partition(".")[0] not in sys.stdlib_module_names]
    return frozenset(n for n in beyond[:_MOST] if n.isascii() and len(n) <= 100)
