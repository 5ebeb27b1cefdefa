"""Which vehicles are simulated, and what each is like. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from protocol.assignment import Attribute

#: Descriptors beside one for each vehicle's connection: files, pipes, the event loop's own.
SPARE_DESCRIPTORS: Final = 200
#: How many vehicles a process is given before there is another, where nothing is said.
COMFORTABLE: Final = 2500


@dataclass(frozen=True)
class Plan:
    """So many vehicles, numbered from ``first``, that connect to one broker.

    ``attributes`` gives for a name the values that are dealt out in turn, by a vehicle's number.
    ``rate_hz`` is the pace of the drivers in samples a second; None is without waiting.
    ``identities`` is the folder with each vehicle's certificate, in a folder of its name; None for
    a broker that asks for none.
    """

    url: str
    folder: Path
    count: int
    first: int = 1
    prefix: str = "sim-"
    attributes: Mapping[str, tuple[Attribute, ...]] = field(default_factory=dict)
    rate_hz: float | None = None
    identities: Path | None = None

    @property
    def numbers(self) -> range:
        """The vehicles' numbers."""
        return range(self.first, self.first + self.count)

    def name(self, number: int) -> str:
        """A vehicle's name, the same in every fleet that it is part of."""
        return f"{self.prefix}{number:05d}"

    def identity(self, number: int) -> Path | None:
        """What proves who a vehicle is."""
        return None if self.identities is None else self.identities / self.name(number)

    def attributes_of(self, number: int) -> dict[str, Attribute]:
        """What analysts may select a vehicle by."""
        return {
            name: values[(number - 1) % len(values)] for name, values in self.attributes.items()
        }

    def shared_among(self, processes: int) -> Iterator[Plan]:
        """The same vehicles in as many parts, none empty, none larger by more than one."""
        size, more = divmod(self.count, processes)
        first = self.first
        for part in range(processes):
            count = size + (part < more)
            if count:
                yield replace(self, first=first, count=count)
                first += count


def processes_for(vehicles: int, cores: int) -> int:
    """How many processes share so many vehicles, where nothing is said."""
    return max(1, min(cores, -(-vehicles // COMFORTABLE)))
