"""On board: some steps of logistic regression on the vehicle's own window, from the fleet's model.

What is learned: from engine speed, throttle and engine load, is the car faster than 50 km/h? No
sample leaves the vehicle; only the four weights, the loss before training, and how many samples.
"""

import math
from typing import Any

STEPS = 40
RATE = 2.0
SCALE = {"ENGINE_RPM": 3000.0, "THROTTLE": 50.0, "ENGINE_LOAD": 50.0}
FAST_KMH = 50.0


def custom_code(window: dict[str, list[float]], previous: Any = None) -> dict[str, Any]:
    columns = ([v / SCALE[name] for v in window[name]] for name in SCALE)
    rows = [[1.0, *values] for values in zip(*columns, strict=True)]
    labels = [1.0 if v > FAST_KMH else 0.0 for v in window["VEHICLE_SPEED"]]
    weights = list(previous["weights"]) if previous else [0.0] * 4
    before = loss(weights, rows, labels)
    for _ in range(STEPS):
        errors = [sigmoid(dot(weights, x)) - y for x, y in zip(rows, labels, strict=True)]
        for i in range(4):
            slope = sum(e * x[i] for e, x in zip(errors, rows, strict=True)) / len(rows)
            weights[i] -= RATE * slope
    return {"weights": weights, "samples": len(rows), "loss": before}


def loss(weights: list[float], rows: list[list[float]], labels: list[float]) -> float:
    total = 0.0
    for x, y in zip(rows, labels, strict=True):
        z = dot(weights, x)
        total += math.log1p(math.exp(-abs(z))) + max(z, 0.0) - y * z  # stable cross-entropy
    return total / len(rows)


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))
