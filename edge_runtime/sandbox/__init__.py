"""Running analysts' modules in containers: `Sandbox.run`, and `Sandbox.session` for many calls."""

from edge_runtime.sandbox.call import Call
from edge_runtime.sandbox.in_process import InProcess
from edge_runtime.sandbox.pool import PoolSettings
from edge_runtime.sandbox.port import AnySandbox, AnySession
from edge_runtime.sandbox.sandbox import DEFAULT_LIMITS, Sandbox
from edge_runtime.sandbox.session import Session
from protocol.limits import Limits

__all__ = [
    "DEFAULT_LIMITS",
    "AnySandbox",
    "AnySession",
    "Call",
    "InProcess",
    "Limits",
    "PoolSettings",
    "Sandbox",
    "Session",
]
