"""What an entry of the catalogue of built-in methods is: a method and its parameters, as data."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from enum import Enum
from numbers import Integral, Real
from typing import Final, Literal

from protocol.errors import BadParameter

Side = Literal["onboard", "offboard"]
ParameterType = Literal["number", "integer", "numbers"]
#: What a checked parameter is. None only where None is the default.
ParameterValue = float | int | list[float] | None

#: How many numbers a parameter of type "numbers" may hold.
MAX_NUMBERS: Final = 1000


class Required(Enum):
    """The type of REQUIRED, the default of a parameter that has none."""

    REQUIRED = "required"


REQUIRED: Final = Required.REQUIRED


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method, and which values it takes.

    ``minimum`` and ``maximum`` belong to the allowed range, ``above`` does not; for "numbers" they
    hold for every item. A default of None means that None is allowed too.
    """

    name: str
    type: ParameterType
    meaning: str
    default: float | int | tuple[float, ...] | Required | None = REQUIRED
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None

    @property
    def domain(self) -> str:
        """The allowed values in words, such as "an integer from 1 to 1000"."""
        kind = {
            "number": "a finite number",
            "integer": "an integer",
            "numbers": f"a list of 1 to {MAX_NUMBERS} finite numbers",
        }[self.type]
        words = [kind + (", each" if self.type == "numbers" and self._bounded else "")]
        if self.minimum is not None and self.maximum is not None:
            words.append(f"from {self.minimum:g} to {self.maximum:g}")
        elif self.minimum is not None:
            words.append(f"of at least {self.minimum:g}")
        elif self.maximum is not None:
            words.append(f"of at most {self.maximum:g}")
        if self.above is not None:
            words.append(f"above {self.above:g}")
        return " ".join(words) + (" or None" if self.default is None else "")

    @property
    def _bounded(self) -> bool:
        return not (self.minimum is self.maximum is self.above is None)

    def read(self, value: object) -> ParameterValue:
        """Return the value in its plain form: float, int or list of float.

        Raises BadParameter where the value is not in the domain.
        """
        if value is None and self.default is None:
            return None
        try:
            if self.type == "numbers":
                return [self._number(item) for item in _items(value)]
            return self._number(value)
        except (TypeError, ValueError, OverflowError):
            message = f"{self.name} must be {self.domain}, not {_shown(value)}"
            raise BadParameter(message) from None

    def _number(self, value: object) -> float | int:
        number: float | int
        if isinstance(value, bool):  # an int to Python, but never what was meant
            raise TypeError
        if self.type == "integer" and isinstance(value, Integral):  # NumPy's too
            number = int(value)
        elif self.type != "integer" and isinstance(value, Real):
            number = float(value)
        else:
            raise TypeError
        if (
            not math.isfinite(number)
            or (self.minimum is not None and number < self.minimum)
            or (self.maximum is not None and number > self.maximum)
            or (self.above is not None and number <= self.above)
        ):
            raise ValueError
        return number


def _items(value: object) -> list[object] | tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    if not 1 <= len(value) <= MAX_NUMBERS:
        raise ValueError
    return value


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python declines to write an integer of thousands of digits
        return type(value).__name__


@dataclass(frozen=True, slots=True)
class Method:
    """One built-in method.

    ``ranges`` names pairs of parameters that are given both or not at all, the first less than
    the second.
    """

    side: Side
    name: str
    summary: str
    returns: str
    parameters: tuple[Parameter, ...] = ()
    ranges: tuple[tuple[str, str], ...] = ()
