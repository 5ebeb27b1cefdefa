"""The version of all parts; also part of a built-in method's identity."""

from typing import Final

VERSION: Final = "0.1.0"
