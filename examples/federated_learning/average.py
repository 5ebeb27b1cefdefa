"""Off board: federated averaging (McMahan et al. 2017): the vehicles' weights, by their samples.

The value is the fleet's model, which every vehicle starts from in the next iteration, and its loss
over the fleet, as the vehicles measured it before they trained on.
"""

from typing import Any


def custom_code(results: list[dict[str, Any]], previous: Any = None) -> dict[str, Any]:
    total = sum(r["samples"] for r in results)
    width = len(results[0]["weights"])
    return {
        "weights": [
            sum(r["weights"][i] * r["samples"] for r in results) / total for i in range(width)
        ],
        "loss": sum(r["loss"] * r["samples"] for r in results) / total,
        "round": previous["round"] + 1 if previous else 1,
    }
