"""Compiling libraries for the image's interpreter, inside a sandbox: sources are hostile too."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from edge_runtime.sandbox.engine import EngineFailure
from protocol import values
from protocol.environment import Reason, refused
from protocol.limits import Limits
from protocol.outcome import Kind, Outcome
from protocol.values import Bounds, Tree

#: Runs a source with an argument in a sandbox of the base image, within limits; blocks.
Run = Callable[[str, Tree, Limits], Outcome]

#: Larger files, in bytes, are left as they are, and compiled at each import.
MAX_SOURCE: Final = 2**20
#: What is compiled in one call, in bytes and in files. The answer has to fit into a value, which it
#: does when it is packed; of a file that is unlike all code, the compiled form is left out.
_BATCH: Final = 2**20
_BATCH_FILES: Final = 500
_ROOM: Final = 700_000
LIMITS: Final = Limits(time_s=120.0, cpu_s=100, memory_mb=1024)
_ARGUMENT: Final = Bounds(size=16 * 2**20)
#: How much longer than its source a compiled file may be, and any may be.
_FACTOR: Final = 16
_LEAST: Final = 65_536
#: A compiled file starts with the interpreter's mark, and "valid without a look at its source".
_HEAD: Final = 16
_UNCHECKED: Final = (1).to_bytes(4, "little")

SOURCE: Final = f"""
import importlib.util
import marshal
import warnings
import zlib


def custom_code(files):
    warnings.simplefilter("ignore")
    head = importlib.util.MAGIC_NUMBER + {_UNCHECKED!r}
    room, compiled = {_ROOM}, []
    for place, source in files:
        try:
            code = compile(source, "/oodida/lib/" + place, "exec", dont_inherit=True, optimize=0)
        except (SyntaxError, ValueError, RecursionError):
            compiled.append(None)  # for another Python, or a template: not to be imported
            continue
        packed = zlib.compress(head + importlib.util.source_hash(source) + marshal.dumps(code))
        room -= len(packed)
        compiled.append(packed if room >= 0 else None)
    return compiled
"""


def cache_place(place: str, python: str) -> str:
    """Return where the interpreter looks for the compiled form of a source file."""
    folder, _, name = place.rpartition("/")
    tag = f"cpython-{python.replace('.', '')}"
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc".lstrip("/")


def compile_all(sources: Iterable[tuple[str, bytes]], run: Run) -> Iterator[tuple[str, bytes]]:
    """Compile source files, place and bytes; yield those that can be, in the same order.

    The same files in the same order give the same bytes.

    Raises:
        EnvironmentRefused: compiling them goes beyond the limits of a call.
        EngineFailure: the container engine failed; it can be tried again.
    """
    for batch in _batches(sources):
        argument = values.pack([list(file) for file in batch], _ARGUMENT)
        outcome = run(SOURCE, argument, LIMITS)
        if outcome.kind is Kind.ENGINE_FAILURE:
            raise EngineFailure(f"libraries could not be compiled: {outcome.reason}")
        answer: Any = values.unpack(outcome.value) if outcome.ok else None
        compiled = _unpacked(answer, batch)
        if compiled is None:
            message = (
                f"The libraries cannot be compiled, somewhere from {batch[0][0][:100]} to "
                f"{batch[-1][0][:100]}: {outcome.describe()[:300]}. Ask for others."
            )
            raise refused(Reason.BUILD_FAILED, message)
        yield from compiled


def _batches(sources: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for place, source in sources:
        if batch and (size + len(source) > _BATCH or len(batch) == _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append((place, source))
        size += len(source)
    if batch:
        yield batch


def _unpacked(answer: Any, batch: list[tuple[str, bytes]]) -> list[tuple[str, bytes]] | None:
    """Return the compiled files of an answer, which came out of a container; None if it is none."""
    if not isinstance(answer, list) or len(answer) != len(batch):
        return None
    made = []
    for (place, source), packed in zip(batch, answer, strict=True):
        if packed is None:
            continue
        data = _inflated(packed, _FACTOR * len(source) + _LEAST)
        if data is None or len(data) <= _HEAD or data[4:8] != _UNCHECKED:
            return None
        made.append((place, data))
    return made if len({data[:4] for _, data in made}) <= 1 else None


def _inflated(packed: Any, most: int) -> bytes | None:
    """Unpack at most so many bytes; None if there are more, or it is not packed."""
    if not isinstance(packed, bytes):
        return None
    inflating = zlib.decompressobj()
    try:
        data = inflating.decompress(packed, most)
    except zlib.error:
        return None
    return data if inflating.eof else None
