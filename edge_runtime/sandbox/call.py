"""One call of a module, as the sandbox is asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol import values
from protocol.module import Side
from protocol.values import Bounds, Tree


@dataclass(frozen=True)
class Call:
    """A source, what it is called with, and where.

    Attributes:
        source: the analyst's Python source.
        environment: the libraries it may import.
        argument: a checked tree; with `verify` the example to try, None for the forms we know.
        previous: the value of the iteration before, for a function that asks for it.
        verify: try the source as a module of this side; the value is then a tuple of a verdict
            (`protocol.messages.Verdict`) as a dict, and what the module returned.
        labels: what the container is labelled with beside its owner, such as the task.
    """

    source: str
    environment: str
    argument: Tree = None
    previous: Tree = None
    verify: Side | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def request(self, bounds: Bounds) -> bytes:
        """Return what the guest program reads."""
        return values.to_text(
            {
                "source": self.source,
                "argument": self.argument,
                "previous": self.previous,
                "verify": self.verify,
                "bounds": bounds._asdict(),
            }
        )
