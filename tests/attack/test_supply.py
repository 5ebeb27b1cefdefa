"""Modules that turn against the guest program: case 41 of the catalogue."""

from __future__ import annotations

import pytest

from protocol.outcome import Kind
from tests.attack.harness import Rig


def test_segmentation_fault(rig: Rig) -> None:
    outcome = rig.run("import ctypes\ndef custom_code(window):\n    ctypes.string_at(0)\n")
    assert outcome.kind is Kind.MODULE_ERROR
    assert "SIGSEGV" in outcome.reason


def test_abort(rig: Rig) -> None:
    outcome = rig.run("import os\ndef custom_code(window):\n    os.abort()\n")
    assert outcome.kind is Kind.MODULE_ERROR
    assert "SIGABRT" in outcome.reason


@pytest.mark.parametrize(
    "patch",
    [
        "sys.modules['__main__'].__dict__.clear()",
        "sys.modules.clear()",
        "os._exit = os.write = lambda *_: None",
        "json.dumps = lambda *_, **__: 'forged'",
        "values.pack = lambda *_: {'~a': 1}",
        "builtins.isinstance = lambda *_: True",
        "builtins.len = builtins.type = None",
        "sys.stdout = sys.stderr = None",
        "sys.setrecursionlimit(20)",
        "sys.settrace(lambda *_: 1 / 0)",
        "threading.Thread(target=lambda: [time.sleep(0.01), os._exit(0)]).start()",
    ],
)
def test_patched_guest_program(rig: Rig, patch: str) -> None:
    outcome = rig.run(
        f"""
        import builtins, json, os, sys, threading, time
        from protocol import values

        def custom_code(window):
            {patch}
            return 1
        """
    )
    # It may still have returned its value, or have spoilt it: in no case is it ours or a limit's.
    assert outcome.kind in {Kind.VALUE, Kind.MODULE_ERROR, Kind.CONTRACT_BROKEN}, outcome
    assert outcome.value in (None, 1)


def test_a_module_named_like_ours(rig: Rig) -> None:
    outcome = rig.run(
        """
        import sys, types

        sys.modules["json"] = sys.modules["protocol.values"] = types.ModuleType("json")

        def custom_code(window):
            return 1
        """
    )
    assert outcome.ok
