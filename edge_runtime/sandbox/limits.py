"""What one call may use."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from protocol.outcome import Frozen
from protocol.values import BOUNDS, Bounds


class Limits(Frozen):
    """The limits of one call. A call that hits one ends, and its outcome names the limit."""

    #: Seconds of wall time, from the moment that the container is up and has the call.
    time_s: float = Field(default=10.0, gt=0, le=3600)
    #: Seconds of processor time. Half of `time_s`, so that a busy loop is told from a sleep also
    #: where two calls share a processor.
    cpu_s: int = Field(default=5, ge=1, le=3600)
    #: Megabytes of memory, swap and scratch space included. The interpreter alone takes 10.
    memory_mb: int = Field(default=512, ge=32, le=65_536)
    #: Processors that may be busy at once, in all its processes together.
    cpus: float = Field(default=1.0, ge=0.05, le=64)
    #: Processes and threads, the supervisor included. Being refused one more is hitting it.
    processes: int = Field(default=64, ge=4, le=4096)
    #: Open descriptors of a process.
    descriptors: int = Field(default=256, ge=32, le=4096)
    #: Kilobytes that it may print, on both streams together.
    output_kb: int = Field(default=64, ge=1, le=4096)
    #: Megabytes of scratch space in /tmp. It is memory, so it counts as such too.
    scratch_mb: int = Field(default=16, ge=1, le=4096)
    #: Files in the scratch space.
    scratch_files: int = Field(default=1024, ge=16, le=1_000_000)
    #: Bytes, levels and items of the value that it returns.
    value: Bounds = BOUNDS


DEFAULT_LIMITS: Final = Limits()
