"""The catalogue, the implementation and the reference say the same of the built-in methods."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.methods import offboard, onboard
from edge_runtime.methods.reference import reference
from protocol.methods import METHODS, REQUIRED

ROOT = Path(__file__).parents[2]
IMPLEMENTATIONS = {"onboard": onboard.METHODS, "offboard": offboard.METHODS}
ALL = [(side, name) for side, methods in METHODS.items() for name in methods]


def test_there_are_two_sides_with_the_same_methods_in_the_same_order() -> None:
    assert {side: list(methods) for side, methods in METHODS.items()} == {
        side: list(methods) for side, methods in IMPLEMENTATIONS.items()
    }


@pytest.mark.parametrize(("side", "name"), ALL)
def test_a_method_is_listed_under_its_own_name_and_side(side: str, name: str) -> None:
    assert (METHODS[side][name].side, METHODS[side][name].name) == (side, name)


@pytest.mark.parametrize(("side", "name"), ALL)
def test_parameters_have_the_same_names_and_defaults(side: str, name: str) -> None:
    first, *rest = inspect.signature(IMPLEMENTATIONS[side][name]).parameters.values()
    implemented: dict[str, Any] = {
        p.name: REQUIRED if p.default is inspect.Parameter.empty else p.default for p in rest
    }
    assert first.name == {"onboard": "window", "offboard": "results"}[side]
    assert implemented == {p.name: p.default for p in METHODS[side][name].parameters}


@pytest.mark.parametrize(("side", "name"), ALL)
def test_the_summary_is_the_first_line_of_the_docstring(side: str, name: str) -> None:
    docstring = inspect.getdoc(IMPLEMENTATIONS[side][name]) or ""
    assert docstring.splitlines()[0] == METHODS[side][name].summary


@pytest.mark.parametrize(("side", "name"), ALL)
def test_defaults_are_in_the_domain(side: str, name: str) -> None:
    for parameter in METHODS[side][name].parameters:
        if parameter.default is not REQUIRED:
            value = parameter.default
            parameter.read(list(value) if isinstance(value, tuple) else value)


def test_the_reference_is_up_to_date() -> None:
    page = (ROOT / "docs" / "reference" / "methods.md").read_text(encoding="utf-8")
    update = "python -m edge_runtime.methods.reference > docs/reference/methods.md"
    assert page == reference(), f"to update it: {update}"


@pytest.mark.parametrize(
    "module", ["protocol.methods", "edge_runtime.methods", "edge_runtime.signals"]
)
def test_a_waiting_vehicle_does_not_load_numpy(module: str) -> None:
    code = f"import sys, {module}; sys.exit('numpy' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert loaded.returncode == 0


def test_the_catalogue_needs_only_the_standard_library() -> None:
    code = (
        "import sys, protocol.methods\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(bool(tops & {'numpy', 'pydantic', 'cbor2', 'paho'}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert loaded.returncode == 0
