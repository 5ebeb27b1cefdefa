"""How a program of ours starts and stops, the same in every part."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

#: How long a program may take to tidy up before it is told again to stop, in seconds.
CANCEL_AGAIN_S: Final = 5.0
#: When garbage is looked for, by a program that holds much for long.
RARELY: Final = (100_000, 50, 100)


def hold_for_long() -> None:
    """What there is by now stays: do not look through it for garbage again and again.

    Rows and messages by the thousand come and go without being garbage that has to be looked for;
    looking for it took a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARELY)


async def run_until_told(
    serve: Callable[[asyncio.Event], Awaitable[None]], *, stop_on_eof: bool
) -> None:
    """Run ``serve`` until SIGTERM, SIGINT, or its own end.

    ``serve`` is given an event that it sets when it is ready, which is then said on standard
    output as one line, ``ready``. With ``stop_on_eof`` the end of standard input stops it too: so
    a program started by another never outlives it, however that one ended.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if stop_on_eof:
        loop.add_reader(sys.stdin.fileno(), _at_eof, stop)
    ready = asyncio.Event()
    work = asyncio.ensure_future(serve(ready))
    teller = asyncio.create_task(_tell(ready))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if stop_on_eof:
        loop.remove_reader(sys.stdin.fileno())
    for task in (teller, stopped):
        task.cancel()
    # Again and again: what it waits for may end at the very moment and take the cancellation along.
    while not work.done():
        work.cancel()
        await asyncio.wait({work}, timeout=CANCEL_AGAIN_S)
    if not work.cancelled() and (problem := work.exception()) is not None:
        raise problem


def _at_eof(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        stop.set()


async def _tell(ready: asyncio.Event) -> None:
    await ready.wait()
    print("ready", flush=True)
