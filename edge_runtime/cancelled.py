"""What ends work that nobody waits for any more."""

from __future__ import annotations

import threading
from typing import Final


class Cancelled(Exception):
    """Somebody asked for this work to stop. It left nothing behind."""


#: For who never cancels.
NEVER: Final = threading.Event()


def check(cancelled: threading.Event) -> None:
    """Raise Cancelled once the event is set."""
    if cancelled.is_set():
        raise Cancelled
