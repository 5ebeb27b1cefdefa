"""Sources of signals behind one small port. They need only the standard library."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.signals.driver import SimulatedDriver
from edge_runtime.signals.port import Source
from edge_runtime.signals.recording import Recording

__all__ = ["Recording", "SimulatedDriver", "Source", "open_source"]


def open_source(path: str | Path | None, vehicle: str, *, rate_hz: float | None = None) -> Source:
    """Return a vehicle's source of signals: the recording at a path, or its own simulated driver.

    ``rate_hz`` is the pace of the replay in samples per second; None is without waiting.
    Raises BadRecording for a file that is no recording.
    """
    if path is None:
        return SimulatedDriver.named(vehicle, rate_hz=rate_hz)
    return Recording.open(path, rate_hz=rate_hz)
