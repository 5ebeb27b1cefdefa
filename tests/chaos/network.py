"""The network between the parts and the broker: a lane for each part, each with its own weather."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from tests.chaos.packets import Cutter, acknowledged, is_publish, renumbered

T = TypeVar("T")
_CHUNK: Final = 65_536
#: Closing resets the connection: the other side learns at once, and of no goodbye.
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Weather:
    """What a lane does to what travels on it.

    ``up``: False resets every connection, and each new one. ``silent``: nothing arrives until it
    is over, and no connection ends. ``latency_s`` and ``bytes_s`` slow everything. Of the messages
    a share ``doubled`` comes a second time, and a share ``delayed`` later than those sent after
    it, both up to ``spread_s`` seconds later.
    """

    up: bool = True
    silent: bool = False
    latency_s: float = 0.0
    bytes_s: float | None = None
    doubled: float = 0.0
    delayed: float = 0.0
    spread_s: float = 0.0


FAIR: Final = Weather()


class Ends(NamedTuple):
    """TLS at both ends of a lane, which sees packets: it is the broker to a part, and the part to
    the broker. What it does to messages, a hostile broker could do.
    """

    to_part: ssl.SSLContext
    to_broker: ssl.SSLContext


class Network:
    """Lanes from ports on loopback to the broker, served by a thread of its own.

    ``ends`` makes the ends of a part's lane; without it nothing is encrypted.
    """

    def __init__(
        self, broker: tuple[str, int], seed: int, ends: Callable[[str], Ends] | None = None
    ) -> None:
        self._broker, self._seed, self._ends = broker, seed, ends
        self._lanes: dict[str, Lane] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def open(self, names: Iterable[str]) -> None:
        """Open a lane for each of these parts."""
        for name in names:
            ends = None if self._ends is None else self._ends(name)
            lane = Lane(self._broker, random.Random(f"{self._seed} {name}"), ends)  # noqa: S311
            self._do(lane.open())
            self._lanes[name] = lane

    def url(self, name: str) -> str:
        """The broker's address as this part knows it."""
        scheme = "mqtt" if self._ends is None else "mqtts"
        return f"{scheme}://127.0.0.1:{self._lanes[name].port}"

    def set(self, name: str, weather: Weather) -> None:
        """Change a part's weather."""
        lane = self._lanes[name]
        self._loop.call_soon_threadsafe(lane.set, weather)

    def half_cut(self, name: str) -> None:
        """Reset a part's connections on its side only: the broker still takes it for connected."""
        lane = self._lanes[name]
        self._loop.call_soon_threadsafe(lane.half_cut)

    def doubled(self) -> int:
        """How many messages came twice up to now."""
        return sum(lane.doubled for lane in self._lanes.values())

    def delayed(self) -> int:
        """How many messages were held back up to now."""
        return sum(lane.delayed for lane in self._lanes.values())

    def close(self) -> None:
        """End every lane and the thread."""
        for lane in self._lanes.values():
            self._do(lane.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


class Lane:
    """One part's way to the broker."""

    def __init__(
        self, broker: tuple[str, int], draw: random.Random, ends: Ends | None = None
    ) -> None:
        self.draw, self.weather, self._ends = draw, FAIR, ends
        self.doubled = self.delayed = 0
        self.port = 0
        self._broker = broker
        self._server: asyncio.Server | None = None
        self._open: set[Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen on a free port."""
        tls = None if self._ends is None else self._ends.to_part
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End it, with every connection on it."""
        if self._server is not None:
            self._server.close()
        self.set(Weather(up=False))
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0)  # for the transports to see their end

    def set(self, weather: Weather) -> None:
        """Change the weather."""
        self.weather = weather
        for connection in list(self._open):
            if weather.up:
                connection.flush()
            else:
                connection.reset()

    def half_cut(self) -> None:
        """Reset the part's side only."""
        for connection in list(self._open):
            connection.reset(broker_too=False)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        if not self.weather.up:
            _reset(writer)
            return
        try:
            tls = None if self._ends is None else self._ends.to_broker
            to_broker = await asyncio.open_connection(*self._broker, ssl=tls)
        except OSError:
            _reset(writer)
            return
        connection = Connection(self, (reader, writer), to_broker)
        self._open.add(connection)
        self.set(self.weather)  # it may have changed meanwhile
        try:
            await connection.run()
        finally:
            self._open.discard(connection)


class Connection:
    """A part's connection, and the one to the broker that stands for it."""

    def __init__(
        self,
        lane: Lane,
        part: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._part, self._broker = part[1], broker[1]
        self._up = Direction(lane, part[0], broker[1])
        self._down = Direction(lane, broker[0], part[1])
        self._up.back, self._down.back = self._down, self._up
        self._half = False

    async def run(self) -> None:
        """Carry both ways until either side ends."""
        both = [asyncio.create_task(d.run()) for d in (self._up, self._down)]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._half:  # the broker is not told: it finds out by itself
                await asyncio.wait(both)
        finally:
            for task in both:
                task.cancel()
            self.reset()

    def flush(self) -> None:
        """Send what was held back, as far as the weather allows."""
        self._up.flush()
        self._down.flush()

    def reset(self, *, broker_too: bool = True) -> None:
        """Reset it."""
        self._half = not broker_too
        _reset(self._part)
        if broker_too:
            _reset(self._broker)


class Direction:
    """One direction of a connection."""

    def __init__(
        self, lane: Lane, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._lane, self._reader, self._writer = lane, reader, writer
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._due, self._waiting = 0.0, 0
        self._copies: set[int] = set()
        self._next_copy = 0xFFFF
        self.back: Direction | None = None

    async def run(self) -> None:
        """Carry packets until the end of the stream."""
        cutter = Cutter()
        with contextlib.suppress(OSError, ValueError):
            while data := await self._reader.read(_CHUNK):
                for packet in cutter.feed(data):
                    self._carry(packet)

    def flush(self) -> None:
        """Send what was held back, in its order."""
        if not self._lane.weather.silent:
            held, self._held = self._held, []
            for packet in held:
                self._write(packet)

    def _carry(self, packet: bytes) -> None:
        number = acknowledged(packet)
        if number is not None and self.back is not None and number in self.back._copies:
            self.back._copies.discard(number)  # nobody waits for the answer to our own copy
            return
        weather, draw = self._lane.weather, self._lane.draw
        if is_publish(packet):
            if draw.random() < weather.doubled:
                self._lane.doubled += 1
                self._later(draw.uniform(0, weather.spread_s), self._copy(packet))
            if draw.random() < weather.delayed:
                self._lane.delayed += 1
                self._later(draw.uniform(0, weather.spread_s), packet)
                return
        self._in_turn(packet)

    def _copy(self, packet: bytes) -> bytes:
        # Counted down from the last number, which a sender that counts up never reaches here.
        number, self._next_copy = self._next_copy, self._next_copy - 1
        self._copies.add(number)
        return renumbered(packet, number)

    def _in_turn(self, packet: bytes) -> None:
        weather, now = self._lane.weather, self._loop.time()
        due = max(now + weather.latency_s, self._due)
        if weather.bytes_s is not None:
            due += len(packet) / weather.bytes_s
        if due <= now and not self._waiting:
            self._write(packet)
        else:
            self._due = due + 1e-6  # two timers of one time would have no order
            self._waiting += 1
            self._loop.call_at(due, self._arrive, packet)

    def _arrive(self, packet: bytes) -> None:
        self._waiting -= 1
        self._write(packet)

    def _later(self, seconds: float, packet: bytes) -> None:
        self._loop.call_later(seconds, self._write, packet)

    def _write(self, packet: bytes) -> None:
        if self._lane.weather.silent:
            self._held.append(packet)
        elif not self._writer.is_closing():
            self._writer.write(packet)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
