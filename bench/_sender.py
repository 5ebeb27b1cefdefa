"""Sends a file of messages as fast as the broker takes them: a topic and a payload a line.

python bench/_sender.py URL FILE
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from protocol.link import WIDE, Link, Outgoing
from protocol.messages import new_id


async def main(url: str, lines: list[str]) -> None:
    """Send them all, and print the seconds that it took."""
    pairs = (line.split(" ", 1) for line in lines)
    messages = [Outgoing(topic, payload.encode()) for topic, payload in pairs]
    async with Link(url, f"sender-{new_id()}", publish_window=WIDE) as link:
        began = time.perf_counter()
        for problem in await link.publish_many(messages):
            if problem is not None:
                raise problem
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_text().splitlines()))
