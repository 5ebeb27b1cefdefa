"""The signals by which a command is asked to end."""

from __future__ import annotations

import signal


def take_all() -> None:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, and Ctrl-C too.

    It need not: a shell starts what is to run in the background with interrupts ignored.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
