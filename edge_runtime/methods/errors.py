"""Why a built-in method has no value to give."""

from __future__ import annotations

from protocol.errors import OodidaError


class MethodError(OodidaError):
    """The method cannot compute a value from this input.

    ``details["position"]`` is the index of the offending result, where there is one.
    """

    code = "method_error"


def refuse(position: int, path: str, problem: str) -> MethodError:
    """The error for one of the vehicles' results: where it is, and what is wrong with it."""
    return MethodError(f"results[{position}]{path[:200]} {problem}", position=position)
