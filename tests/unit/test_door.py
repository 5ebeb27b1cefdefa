"""The keeper's door: who is let in, who makes way, and who is ended."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from oodida.pki.door import HANDSHAKE_S, Door

Guest = Callable[[], tuple[socket.socket, socket.socket]]


@pytest.fixture
def guest() -> Iterator[Guest]:
    made: list[socket.socket] = []

    def new() -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        made.extend(pair)
        return pair

    yield new
    for one in made:
        one.close()


def ended(far: socket.socket) -> bool:
    far.setblocking(False)
    try:
        return far.recv(1) == b""
    except BlockingIOError:
        return False


def test_where_there_is_no_room_whoever_has_said_nothing_longest_makes_way(guest: Guest) -> None:
    door = Door(15, at_once=4, of_one=2)
    heard, first, second, other = guest(), guest(), guest(), guest()
    assert door.enter(heard[0], "a", 0)
    door.heard(heard[0])
    assert door.enter(other[0], "b", 1)
    assert door.enter(first[0], "a", 2)
    door.shaken(first[0])  # a handshake proves nothing
    assert door.enter(second[0], "a", 3)
    assert [ended(far) for _, far in (heard, other, first, second)] == [False, False, True, False]
    door.leave(first[0])
    assert door.enter(guest()[0], "c", 4)
    assert door.enter(guest()[0], "d", 5)
    assert [ended(far) for _, far in (heard, other, second)] == [False, True, False]


def test_who_is_answered_makes_way_for_nobody(guest: Guest) -> None:
    door = Door(15, at_once=3, of_one=2)
    for _ in range(2):
        near, _far = guest()
        assert door.enter(near, "a", 0)
        door.heard(near)
    assert not door.enter(guest()[0], "a", 1)
    assert door.enter(guest()[0], "b", 1)


def test_those_that_are_cut_and_have_not_left_are_counted_too(guest: Guest) -> None:
    door = Door(15, at_once=3, of_one=3)
    entered = [door.enter(guest()[0], "a", 0) for _ in range(8)]
    assert entered == [True] * 6 + [False] * 2


def test_each_step_has_its_time_from_the_connection_on(guest: Guest) -> None:
    door = Door(15)
    silent, slow = guest(), guest()
    assert door.enter(silent[0], "a", 100)
    assert door.enter(slow[0], "a", 100)
    door.shaken(slow[0])
    door.end_overdue(100 + HANDSHAKE_S)
    assert not ended(silent[1])
    door.end_overdue(100.1 + HANDSHAKE_S)
    assert (ended(silent[1]), ended(slow[1])) == (True, False)
    door.end_overdue(115.1)
    assert ended(slow[1])


def test_a_door_that_closes_ends_everybody(guest: Guest) -> None:
    door, (near, far) = Door(15), guest()
    assert door.enter(near, "a", 0)
    door.close()
    assert ended(far)
