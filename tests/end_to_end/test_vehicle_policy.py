"""A vehicle's own policy, with vehicles as processes: its file changes while assignments run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import oodida
from images.recipe import reference
from tests.conftest import until
from tests.end_to_end.conftest import StartVehicle, System

WORKS = "def custom_code(window):\n    return len(window)\n"
OTHER = "car-1"


class Keeper:
    """Who keeps a vehicle: writes its policy, and starts it."""

    def __init__(self, name: str, folder: Path, start: StartVehicle) -> None:
        self.name, self.file, self._start = name, folder / "policy.toml", start
        self.recording = folder / "drive.csv"
        self.recording.write_text("SPEED,GPS_LAT,GPS_SPEED\n1,57.7,2\n2,57.8,3\n")

    def write(self, *lines: str) -> None:
        """As the documentation tells: written beside it, and renamed."""
        new = self.file.with_suffix(".new")
        new.write_text("\n".join(["policy = 1", *lines]))
        new.rename(self.file)

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        return self._start(
            self.name, f"--policy={self.file}", f"--image=minimal={reference('sandbox-minimal')}",
            *options,
        )  # fmt: skip


@pytest.fixture
def keeper(ada: oodida.Fleet, start_vehicle: StartVehicle, tmp_path: Path) -> Keeper:
    return Keeper(f"own-{ada.user}", tmp_path, start_vehicle)


def asked(
    *vehicles: str, method: str = "count", signals: str = "VEHICLE_SPEED", iterations: int = 1,
    module: str | None = None, rate_hz: float | None = None,
) -> oodida.Assignment:  # fmt: skip
    return oodida.Assignment(
        vehicles=oodida.Select.ids(*vehicles),
        onboard=oodida.Onboard(method, module=module, signals=signals, samples=4, rate_hz=rate_hz),
        offboard=oodida.Offboard("collect"),
        iterations=iterations,
        deadline_s=20,
    )


def refusal(run: oodida.Run, vehicle: str) -> tuple[str, str, str]:
    """How a vehicle stands in an assignment that none of its vehicles gave a result for."""
    with pytest.raises(oodida.AssignmentFailed) as failed:
        run.result(timeout_s=60)
    told = failed.value.participation[vehicle]
    assert run.participation()[vehicle].code == told.code
    return told.status, told.code, told.reason


def test_a_policy_that_changes_while_an_assignment_runs_is_followed_both_ways(
    ada: oodida.Fleet, keeper: Keeper
) -> None:
    keeper.write()
    process = keeper.start()
    vehicles = oodida.Select.ids(OTHER, keeper.name)
    ada.deploy(WORKS, name="m", vehicles=vehicles)
    run = ada.submit(
        asked(OTHER, keeper.name, method="custom", module="m", iterations=2000, rate_hz=20)
    )
    iterations = iter(run)
    assert next(iterations).participation[keeper.name].status == "included"

    keeper.write("custom_code = false")
    out = next(i for i in iterations if i.participation[keeper.name].status != "included")
    why = out.participation[keeper.name]
    assert (why.status, why.code) == ("refused", "policy_custom_code")
    assert why.reason == "The vehicle's policy allows no custom code, only built-in methods."
    assert out.participation[OTHER].status == "included"
    (stored,) = [m for m in ada.modules() if m.name == "m"]
    assert stored.states[keeper.name] == "refused"

    keeper.write("custom_code = maybe")  # broken: what held still holds
    for _ in range(20):
        assert next(iterations).participation[keeper.name].status == "refused"
    keeper.write("custom_code = true")
    back = next(i for i in iterations if i.participation[keeper.name].status == "included")
    assert back.value == [4, 4]
    run.cancel()
    assert process.poll() is None
    assert until(lambda: ada.modules()[0].states[keeper.name] == "ready")


def test_a_module_that_was_refused_comes_once_the_policy_allows_it(
    ada: oodida.Fleet, keeper: Keeper, system: System
) -> None:
    keeper.write(f'analysts = {{denied = ["{ada.user}"]}}')
    keeper.start()
    with pytest.raises(oodida.ModuleRefused) as refused:
        ada.deploy(WORKS, name="m", vehicles=oodida.Select.ids(keeper.name))
    assert f"policy does not let {ada.user} compute on it" in str(refused.value)
    stored = system.folder / keeper.name / f"modules/onboard/{ada.user}@m.py"
    assert not stored.exists()
    run = ada.submit(asked(keeper.name, method="custom", module="m"))
    assert refusal(run, keeper.name)[:2] == ("refused", "policy_analyst")
    run = ada.submit(asked(keeper.name))
    assert refusal(run, keeper.name)[:2] == ("refused", "policy_analyst")

    keeper.write()
    assert until(lambda: ada.modules()[0].states[keeper.name] == "ready")
    assert stored.exists()
    run = ada.submit(asked(keeper.name, method="custom", module="m"))
    assert run.result(timeout_s=60) == [4]


def test_a_policy_that_was_changed_while_the_vehicle_was_off_holds_at_its_start(
    ada: oodida.Fleet, keeper: Keeper
) -> None:
    keeper.write("custom_code = false")
    process = keeper.start()
    for name in ("first", "second"):
        with pytest.raises(oodida.ModuleRefused, match="no custom code"):
            ada.deploy(WORKS, name=name, vehicles=oodida.Select.ids(keeper.name))
    process.kill()
    process.wait(20)
    keeper.write()
    process = keeper.start()
    run = ada.submit(asked(keeper.name, method="custom", module="first"))
    assert run.result(timeout_s=60) == [4]
    process.kill()
    process.wait(20)
    keeper.write("custom_code = false")  # what is stored is not run under it
    keeper.start()
    run = ada.submit(asked(keeper.name, method="custom", module="first"))
    assert refusal(run, keeper.name)[:2] == ("refused", "policy_custom_code")


def test_the_location_is_off_unless_it_is_named(ada: oodida.Fleet, keeper: Keeper) -> None:
    keeper.write()
    keeper.start(f"--recording={keeper.recording}")
    assert ada.submit(asked(keeper.name, signals="SPEED")).result(timeout_s=60) == [4]
    for signal in ("GPS_LAT", "GPS_SPEED"):
        status, code, reason = refusal(ada.submit(asked(keeper.name, signals=signal)), keeper.name)
        assert (status, code) == ("refused", "policy_signal")
        assert f"the signal {signal} be computed over: it tells where the vehicle is" in reason

    keeper.write("[signals]", 'location = ["GPS_SPEED"]', 'denied = ["speed"]')
    assert until(lambda: _value(ada, keeper, "GPS_SPEED") == [4])
    assert refusal(ada.submit(asked(keeper.name, signals="GPS_LAT")), keeper.name)[1] == (
        "policy_signal"
    )
    assert refusal(ada.submit(asked(keeper.name, signals="SPEED")), keeper.name)[2] == (
        "the vehicle's policy does not let the signal SPEED be computed over"
    )


def _value(ada: oodida.Fleet, keeper: Keeper, signal: str) -> object:
    try:
        return ada.submit(asked(keeper.name, signals=signal)).result(timeout_s=60)
    except oodida.AssignmentFailed:
        return None


def test_a_vehicle_without_a_policy_keeps_its_location_too(
    ada: oodida.Fleet, keeper: Keeper, start_vehicle: StartVehicle
) -> None:
    name = f"plain-{ada.user}"
    start_vehicle(name, f"--recording={keeper.recording}")
    assert refusal(ada.submit(asked(name, signals="GPS_LAT")), name)[1] == "policy_signal"
    assert ada.submit(asked(name, signals="SPEED")).result(timeout_s=60) == [4]


def test_in_quiet_hours_nothing_is_begun(ada: oodida.Fleet, keeper: Keeper) -> None:
    keeper.write("[quiet_hours]", 'hours = ["00:00-24:00"]', 'zone = "UTC"')
    keeper.start()
    status, code, reason = refusal(ada.submit(asked(keeper.name)), keeper.name)
    assert (status, code) == ("refused", "policy_quiet_hours")
    assert "00:00-24:00 by UTC" in reason


def test_a_days_budget_holds_over_a_restart(ada: oodida.Fleet, keeper: Keeper) -> None:
    keeper.write("[budget_a_day]", "container_starts = 2")
    process = keeper.start()
    ada.deploy(WORKS, name="m", vehicles=oodida.Select.ids(keeper.name))
    for _ in range(2):
        run = ada.submit(asked(keeper.name, method="custom", module="m"))
        assert run.result(timeout_s=60) == [4]
    process.kill()
    process.wait(20)
    keeper.start()
    run = ada.submit(asked(keeper.name, method="custom", module="m"))
    status, code, reason = refusal(run, keeper.name)
    assert (status, code) == ("refused", "policy_budget")
    assert "lets 2 container starts be used a day, and 2 are" in reason


def test_what_does_not_fit_a_days_bytes_stays_in_the_vehicle(
    ada: oodida.Fleet, keeper: Keeper
) -> None:
    keeper.write("[budget_a_day]", "bytes_sent = 100_000")
    keeper.start()
    big = "def custom_code(window):\n    return [0.1] * 50_000\n"
    ada.deploy(big, name="big", vehicles=oodida.Select.ids(keeper.name))
    run = ada.submit(asked(keeper.name, method="custom", module="big"))
    assert refusal(run, keeper.name)[:2] == ("refused", "policy_budget")
    assert ada.submit(asked(keeper.name)).result(timeout_s=60) == [4]


@pytest.mark.parametrize("told", ["option", "environment"])
def test_at_the_start_a_broken_policy_is_an_error(tmp_path: Path, told: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("policy = 1\ncustom_kode = false")
    options = [f"--policy={file}"] if told == "option" else []
    ended = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "--name=car-1", f"--state={tmp_path}", *options],
        env=os.environ if options else {**os.environ, "OODIDA_POLICY": str(file)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert f"bad_policy: {file}: custom_kode: there is no such setting" in ended.stderr


def test_with_certificates_a_refusal_needs_no_receipt_and_a_value_has_one(
    engine: None,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(
        'policy = 1\nanalysts = {allowed = ["ada"]}\nbudget_a_day = {bytes_sent = 9000}'
    )
    monkeypatch.setenv("OODIDA_POLICY", str(file))
    with oodida.local({"car-1": None}, user="ada") as ada:
        window = oodida.Onboard("sample", signals="VEHICLE_SPEED", samples=5000)
        big = oodida.Assignment(onboard=window, offboard=oodida.Offboard("collect"))
        assert refusal(ada.submit(big), "car-1")[:2] == ("refused", "policy_budget")
        run = ada.submit(asked("car-1"))
        assert run.result(timeout_s=60) == [4]
        run.proof()  # raises where there is no receipt
