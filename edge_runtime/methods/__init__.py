"""Built-in methods, on-board and off-board, as `protocol.methods` lists them.

NumPy is imported with the first call, not with this package: a vehicle that is waiting for work
has no need of the memory that it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from edge_runtime.methods.errors import MethodError
from protocol.methods import check
from protocol.values import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["MethodError", "Samples", "Window", "run_offboard", "run_onboard"]

#: The samples of one signal: one dimension, float64, NaN where one is missing.
Samples: TypeAlias = "Sequence[float] | npt.NDArray[np.float64]"
#: What an on-board method computes over: one signal, or several by name.
Window: TypeAlias = "Samples | Mapping[str, Samples]"


def run_onboard(name: str, window: Window, params: Mapping[str, object]) -> Value:
    """Run the on-board method of this name over a window.

    A window of several signals gives a dict with the method's value for each.
    Raises UnknownMethod or BadParameter where the catalogue does not allow the call, and
    MethodError where the method cannot compute a value from this window.
    """
    checked = check("onboard", name, params)
    from edge_runtime.methods import onboard

    return onboard.run(name, window, checked)


def run_offboard(
    name: str,
    results: Sequence[Value],
    previous: Value | None,
    params: Mapping[str, object],
) -> Value:
    """Run the off-board method of this name over the vehicles' results.

    ``previous`` is the value of the iteration before, None in the first. It is here because every
    off-board task has it; no built-in method looks back.
    Raises UnknownMethod or BadParameter where the catalogue does not allow the call, and
    MethodError where these results cannot be combined.
    """
    del previous
    checked = check("offboard", name, params)
    from edge_runtime.methods import offboard

    return offboard.run(name, results, checked)
