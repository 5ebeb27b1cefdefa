"""The command `oodida`, for people; with ``--json``, for programs."""

from oodida.cli.app import main

__all__ = ["main"]
