"""Federated learning with two small modules: three drivers, one model, no sample leaves a vehicle.

.venv/bin/python examples/federated_learning/run.py
"""

from pathlib import Path

import oodida

HERE = Path(__file__).parent
SIGNALS = ["VEHICLE_SPEED", "ENGINE_RPM", "THROTTLE", "ENGINE_LOAD"]


def learn(fleet: oodida.Fleet, rounds: int, samples: int = 400) -> oodida.Run:
    """Deploy both modules and start the rounds."""
    fleet.deploy(HERE / "train.py", name="train")
    fleet.deploy(HERE / "average.py", name="average", to="cloud")
    return fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("custom", module="train", signals=SIGNALS, samples=samples),
            offboard=oodida.Offboard("custom", module="average"),
            iterations=rounds,
        )
    )


def main() -> None:
    """Learn for some rounds, and show how the loss falls."""
    drivers = {"calm": None, "hasty": None, "steady": None}
    with oodida.local(vehicles=drivers, progress=print) as fleet:
        run = learn(fleet, rounds=10)
        for iteration in run:
            print(f"round {iteration.number}: loss {iteration.value['loss']:.4f}")
        print("weights", [round(w, 3) for w in run.result()["weights"]])


if __name__ == "__main__":
    main()
