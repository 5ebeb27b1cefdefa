"""On real recordings the fleet's answers equal those computed with pandas from the same files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import oodida

FILES = {"car-1": "drive1.csv", "car-2": "live1.csv", "car-3": "ufpe1.csv"}
SAMPLES = 500
Frames = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def frames(recordings: Path) -> Frames:
    """The recordings, read by pandas."""
    found = {}
    for vehicle, name in FILES.items():
        frame = pd.read_csv(recordings / name, index_col=False, skipinitialspace=True)
        found[vehicle] = frame.rename(columns=lambda c: c.replace("()", "").strip())
    return found


@pytest.fixture(scope="module")
def fleet(recordings: Path, engine: None) -> Iterator[oodida.Fleet]:  # noqa: ARG001
    """A fleet that replays them."""
    with oodida.local({v: recordings / name for v, name in FILES.items()}) as fleet:
        yield fleet


def windows(frames: Frames, signal: str, number: int) -> list[pd.Series[Any]]:
    """Window `number` (from 0) of every vehicle; a recording begins again at its end."""
    found = []
    for vehicle in sorted(frames):
        column = frames[vehicle][signal]
        at = np.arange(number * SAMPLES, (number + 1) * SAMPLES) % len(column)
        found.append(column.iloc[at])
    return found


METHODS: dict[str, tuple[str, dict[str, Any], Callable[[pd.Series[Any]], Any]]] = {
    "mean": ("VEHICLE_SPEED", {}, lambda s: s.mean()),
    "median": ("ENGINE_RPM", {}, lambda s: s.median()),
    "stdev": ("VEHICLE_SPEED", {}, lambda s: s.std()),
    "variance": ("ENGINE_LOAD", {}, lambda s: s.var()),
    "max": ("COOLANT_TEMPERATURE", {}, lambda s: s.max()),
    "quantiles": ("VEHICLE_SPEED", {"q": [0.1, 0.9]}, lambda s: s.quantile([0.1, 0.9]).to_numpy()),
    "sum": ("THROTTLE", {}, lambda s: s.sum()),
}


@pytest.mark.parametrize("method", METHODS)
def test_built_in_methods(fleet: oodida.Fleet, frames: Frames, method: str) -> None:
    signal, params, of_pandas = METHODS[method]
    run = fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard(method, signals=signal, samples=SAMPLES, params=params),
            offboard=oodida.Offboard("mean"),
            iterations=8,  # beyond the end of the shorter recordings
        )
    )
    for iteration in run:
        expected = [of_pandas(w) for w in windows(frames, signal, iteration.number - 1)]
        for result, one in zip(iteration.results, expected, strict=True):
            np.testing.assert_allclose(result.value, one, rtol=1e-9)
        np.testing.assert_allclose(iteration.value, np.mean(expected, axis=0), rtol=1e-9)
    run.result()
    assert len(run.iterations) == 8


@pytest.mark.parametrize("environment", ["minimal", "science"])
def test_a_custom_module(fleet: oodida.Fleet, frames: Frames, environment: str) -> None:
    """Distance driven, in km, by the trapezoidal rule over 1 Hz samples in km/h."""
    sources = {
        "minimal": "def custom_code(window):\n"
        "    return sum((a + b) / 2 for a, b in zip(window, window[1:])) / 3600\n",
        "science": "import numpy as np\ndef custom_code(window):\n"
        "    return float(np.trapezoid(window) / 3600)\n",
    }
    fleet.deploy(sources[environment], name="distance")
    run = fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard(
                "custom", module="distance", signals="VEHICLE_SPEED", samples=SAMPLES
            ),
            offboard=oodida.Offboard("sum"),
            iterations=2,
        )
    )
    for iteration in run:
        speeds = windows(frames, "VEHICLE_SPEED", iteration.number - 1)
        expected = [((s.iloc[:-1].sum() + s.iloc[1:].sum()) / 2) / 3600 for s in speeds]
        found = [r.value for r in iteration.results]
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        np.testing.assert_allclose(iteration.value, sum(expected), rtol=1e-9)
    run.result()


def test_several_signals_are_a_dict_of_arrays(fleet: oodida.Fleet, frames: Frames) -> None:
    fleet.deploy(
        "import numpy as np\ndef custom_code(window):\n"
        '    return np.corrcoef(window["VEHICLE_SPEED"], window["ENGINE_RPM"])\n',
        name="together",
    )
    run = fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard(
                "custom",
                module="together",
                signals=["VEHICLE_SPEED", "ENGINE_RPM"],
                samples=SAMPLES,
            ),
            offboard=oodida.Offboard("collect"),
        )
    )
    for vehicle, matrix in zip(sorted(frames), run.result(), strict=True):
        frame = frames[vehicle].iloc[:SAMPLES]
        expected = frame["VEHICLE_SPEED"].corr(frame["ENGINE_RPM"])
        assert matrix.shape == (2, 2)
        np.testing.assert_allclose(matrix[0, 1], expected, rtol=1e-9)


def test_which_vehicles_exceed_a_speed(fleet: oodida.Fleet, frames: Frames) -> None:
    """The paper's example."""
    run = fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard(
                "threshold_exceedance", signals="VEHICLE_SPEED", samples=SAMPLES, threshold=60
            ),
            offboard=oodida.Offboard("collect"),
        )
    )
    run.result()
    speeds = windows(frames, "VEHICLE_SPEED", 0)
    found = {r.vehicle: r.value["count"] for r in run.iterations[0].results}
    assert found == {v: int((s > 60).sum()) for v, s in zip(sorted(frames), speeds, strict=True)}
