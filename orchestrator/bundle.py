"""One order to many vehicles: written once, stored once, and told apart when it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from protocol import topics
from protocol.link import Outgoing


class Bundle(NamedTuple):
    """A message to many that is the same for each but for one id.

    ``pattern`` is the filter of all their topics. ``mark`` stands in the payload once, in the place
    of an id of its length. ``to`` is whom it goes to, each with the id in it.
    """

    pattern: str
    payload: bytes
    content_type: str
    mark: str
    to: Sequence[tuple[str, str]]
    expiry_s: int

    @property
    def fits(self) -> bool:
        """True if the mark tells where an id belongs: what somebody wrote may look like it."""
        return self.payload.count(self.mark.encode()) == 1

    def messages(self) -> Iterator[Outgoing]:
        """Each one's own."""
        head, tail = self.payload.split(self.mark.encode())
        for name, id_ in self.to:
            payload = b"".join((head, id_.encode(), tail))
            topic = topics.one_of(self.pattern, name)
            yield Outgoing(topic, payload, self.content_type, expiry_s=self.expiry_s)

    def only(self, which: Sequence[int]) -> Self:
        """The same to some of them, by their places."""
        return self._replace(to=[self.to[i] for i in which])

    def parts(self, most: int) -> Iterator[Self]:
        """The same in parts, each to so many at most."""
        for start in range(0, len(self.to), most):
            yield self._replace(to=self.to[start : start + most])


def written(item: Outgoing | Bundle) -> Iterator[Outgoing]:
    """Each message of what is sent."""
    return item.messages() if isinstance(item, Bundle) else iter((item,))
