"""Running an analyst's module in a fresh container: one public verb, `Sandbox.run`."""

from edge_runtime.sandbox.call import Call
from edge_runtime.sandbox.limits import DEFAULT_LIMITS, Limits
from edge_runtime.sandbox.sandbox import Sandbox

__all__ = ["DEFAULT_LIMITS", "Call", "Limits", "Sandbox"]
