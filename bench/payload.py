"""Bytes on the wire for the deployment of a module of 20 lines.

    .venv/bin/python bench/payload.py

A proxy between the parts and the broker counts whole MQTT PUBLISH packets, as they pass: header,
topic, properties and payload. The paper needs 0.52 KB for the payload of a module of 0.45 KB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import oodida
from bench._measure import MODULE, print_figures
from protocol.link import Link, parse_url
from protocol.topics import own_modules, parse

PUBLISH = 3


class Counter:
    """Cuts a stream of MQTT packets and remembers the size of each PUBLISH, by topic."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self._sizes, self._left = sizes, b""

    def feed(self, data: bytes) -> None:
        """Take some bytes of the stream."""
        self._left += data
        for packet in self._packets():
            if packet[0] >> 4 == PUBLISH:
                body = packet[1 + self._length_of_length(packet) :]
                size = int.from_bytes(body[:2])
                self._sizes[body[2 : 2 + size].decode()] = len(packet)

    def _packets(self) -> Iterator[bytes]:
        while len(self._left) >= 5:
            digits = self._length_of_length(self._left)
            length = sum((self._left[1 + i] & 127) << (7 * i) for i in range(digits))
            whole = 1 + digits + length
            if len(self._left) < whole:
                return
            packet, self._left = self._left[:whole], self._left[whole:]
            yield packet

    @staticmethod
    def _length_of_length(packet: bytes) -> int:
        return next(i for i in range(1, 5) if packet[i] < 128)


class Proxy:
    """Stands before a broker and counts."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.sizes: dict[str, int] = {}

    async def start(self) -> asyncio.Server:
        """Listen on a free port of loopback."""
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection(*self._target)
        with suppress(asyncio.CancelledError):  # that is how a server ends its connections
            await asyncio.gather(self._pump(reader, to_broker), self._pump(from_broker, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counter = Counter(self.sizes)
        while data := await reader.read(65_536):
            counter.feed(data)
            writer.write(data)
        writer.close()

    def size(self, channel: str) -> int:
        """Bytes of the PUBLISH that went by on a channel of the topic tree."""
        for topic, size in self.sizes.items():
            address = parse(topic)
            if address is not None and address.channel == channel:
                return size
        raise LookupError(f"nothing was published on a topic of {channel}")


async def measure(url: str, source: str) -> Proxy:
    """Deploy through a proxy, and listen through it as the vehicle does."""
    target = parse_url(url)
    proxy = Proxy(target.host, target.port)
    async with await proxy.start() as server:
        through = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Link(through, "listener", subscriptions=[own_modules("car-1")]) as link:
            await asyncio.to_thread(_deploy, through, source)
            await link.receive()
        return proxy


def _deploy(url: str, source: str) -> None:
    with oodida.connect(url, "ada") as fleet:
        fleet.deploy(source, name="harsh_braking")


def main() -> None:
    """Measure one deployment: sizes do not vary."""
    source = MODULE.read_text()
    with oodida.local({"car-1": None}) as fleet:
        proxy = asyncio.run(measure(fleet.url, source))
    print_figures(
        "payload",
        module_lines=len(source.splitlines()),
        module_bytes=len(source.encode()),
        analyst_to_cloud_bytes=proxy.size("requests"),
        cloud_to_vehicle_bytes=proxy.size("modules"),
    )


if __name__ == "__main__":
    main()
