"""Iterations: the off-board value of one is `previous` in the next, on both sides.

The example that is shipped is run as it is; its model is compared with FedAvg in one process.
"""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import oodida
from edge_runtime.signals import SimulatedDriver
from tests.conftest import ROOT
from tests.end_to_end.conftest import VEHICLES

EXAMPLE = ROOT / "examples" / "federated_learning"
ROUNDS, SAMPLES = 6, 400


def fedavg_in_one_process(signals: list[str], rounds: int) -> tuple[list[float], list[float]]:
    """(weights, loss by round), written anew with NumPy, without any part of the system."""
    scale = np.array([3000.0, 50.0, 50.0])
    weights = np.zeros(4)
    losses = []
    for number in range(rounds):
        models, sizes, measured = [], [], []
        for vehicle in VEHICLES:
            window = window_of(vehicle, signals, number * SAMPLES)
            features = np.stack([window[s] for s in signals[1:]], axis=1) / scale
            x = np.hstack([np.ones((SAMPLES, 1)), features])
            y = (window["VEHICLE_SPEED"] > 50.0).astype(float)
            z = x @ weights
            measured.append(np.mean(np.logaddexp(0, z) - y * z))
            own = weights.copy()
            for _ in range(40):
                own -= 2.0 * x.T @ (1 / (1 + np.exp(-(x @ own))) - y) / SAMPLES
            models.append(own)
            sizes.append(SAMPLES)
        weights = np.average(models, axis=0, weights=sizes)
        losses.append(float(np.average(measured, weights=sizes)))
    return weights.tolist(), losses


def window_of(vehicle: str, signals: list[str], first: int) -> Mapping[str, Any]:
    source = SimulatedDriver.named(vehicle)
    window = asyncio.run(source.collect(signals, first=first, count=SAMPLES))
    return {name: np.array(samples) for name, samples in window.items()}


def test_the_loss_falls_and_the_model_is_the_one_of_fedavg(ada: oodida.Fleet) -> None:
    example = runpy.run_path(str(Path(EXAMPLE / "run.py")))
    run = example["learn"](ada, rounds=ROUNDS, samples=SAMPLES)
    model = run.result()
    losses = [iteration.value["loss"] for iteration in run]
    weights, expected = fedavg_in_one_process(example["SIGNALS"], ROUNDS)
    np.testing.assert_allclose(model["weights"], weights, rtol=1e-9)
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    assert losses[-1] < 0.8 * losses[0]
    assert model["round"] == ROUNDS


def test_previous_is_none_first_and_then_the_value_before_on_both_sides(ada: oodida.Fleet) -> None:
    ada.deploy("def custom_code(window, previous):\n    return previous\n", name="echo")
    ada.deploy(
        "def custom_code(results, previous=None):\n"
        '    return {"seen": results, "depth": previous["depth"] + 1 if previous else 1}\n',
        name="deepen",
        to="cloud",
    )
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1"),
            onboard=oodida.Onboard("custom", module="echo", signals="VEHICLE_SPEED", samples=2),
            offboard=oodida.Offboard("custom", module="deepen"),
            iterations=3,
        )
    )
    first, second, third = run
    assert first.value == {"seen": [None], "depth": 1}
    assert second.value == {"seen": [first.value], "depth": 2}
    assert third.value == {"seen": [second.value], "depth": 3}
