"""Wheels that analysts send along: kept in parts until the environment with them is built."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Final

from orchestrator.store import environment_queries as queries
from orchestrator.store.tables import WheelPartRow
from orchestrator.turn import Turn, error_reply
from protocol import topics
from protocol.environment import EnvironmentSpec, Reason, WheelRef, refused
from protocol.errors import BadRequest
from protocol.messages import WHEEL_PART, Reply, Upload, WheelOrder

#: Bytes of wheels that one user may have here, and that may travel for one environment: more would
#: not pass the broker, which holds what a worker has not read yet.
MAX_STORED: Final = 500 * 2**20
MAX_SENT: Final = 100 * 2**20
#: How long parts are kept that no environment has been built with, in seconds.
KEEP_S: Final = 2 * 3600.0


def upload(turn: Turn, part: Upload) -> Reply:
    """Take a part. The reply names the wheel for as long as parts of it are missing.

    Raises BadRequest for what is no part, EnvironmentRefused if it is too much. A wheel that is
    complete and is not what its hash says is forgotten, and the reply is an error.
    """
    if part.size > MAX_SENT:
        raise _too_large()
    expected = min(WHEEL_PART, part.size - part.offset)
    if part.offset % WHEEL_PART or expected < 1 or len(part.data) != expected:
        raise BadRequest(
            f"a part begins at a multiple of {WHEEL_PART} and has as many bytes, "
            "apart from the last, which ends with the wheel"
        )
    session, user = turn.session, part.user_id
    queries.forget_old_parts(session, turn.now - KEEP_S)
    queries.forget_other_sizes(session, user, part.sha256, part.size)
    before = queries.parts(session, user, part.sha256, part.size)
    if before < _parts(part.size):
        if queries.stored(session, user) + len(part.data) > MAX_STORED:
            message = f"At most {MAX_STORED} bytes of wheels may wait here; try again later."
            raise refused(Reason.TOO_LARGE, message)
        row = WheelPartRow(
            user_id=user,
            sha256=part.sha256,
            offset=part.offset,
            size=part.size,
            sent_at=turn.now,
            data=part.data,
        )
        queries.add_part(session, row)
        if queries.parts(session, user, part.sha256, part.size) < _parts(part.size):
            return Reply(missing=[part.sha256])
        if _hash(turn, user, part.sha256, part.size) != part.sha256:
            # Not raised: that would undo that it is forgotten.
            queries.forget_wheels(session, user, [part.sha256])
            message = "What was sent of a wheel is not what its hash says; send it again."
            return Reply(error=error_reply(refused(Reason.HASH_DIFFERS, message)))
    return Reply(missing=[])


def require(turn: Turn, user: str, spec: EnvironmentSpec) -> None:
    """Raise EnvironmentRefused if a wheel has not been sent in full: `missing` in the details."""
    if sum(wheel.size for wheel in spec.wheels) > MAX_SENT:
        raise _too_large()
    lacking = [wheel for wheel in spec.wheels if not _complete(turn, user, wheel)]
    if lacking:
        names = ", ".join(wheel.name for wheel in lacking[:5])
        raise refused(
            Reason.MISSING_WHEEL,
            f"Not all of {names} has been sent; send every part of it first.",
            missing=[wheel.sha256 for wheel in lacking],
        )


def send(turn: Turn, user: str, spec: EnvironmentSpec, worker: str, timeout_s: float) -> None:
    """Send the wheels of a request to the worker that will build with them, in order."""
    for wheel in spec.wheels:
        for offset in _offsets(wheel.size):
            data = queries.part(turn.session, user, wheel.sha256, offset)
            if data is not None:
                order = WheelOrder(sha256=wheel.sha256, offset=offset, data=data)
                turn.order(topics.orders("workers", worker), order, timeout_s)


def forget(turn: Turn, user: str, spec: EnvironmentSpec, others: Iterable[EnvironmentSpec]) -> None:
    """Remove the wheels of a request, apart from those that `others` of this user wait for."""
    needed = {wheel.sha256 for other in others for wheel in other.wheels}
    done = [wheel.sha256 for wheel in spec.wheels if wheel.sha256 not in needed]
    queries.forget_wheels(turn.session, user, done)


def _complete(turn: Turn, user: str, wheel: WheelRef) -> bool:
    return queries.parts(turn.session, user, wheel.sha256, wheel.size) == _parts(wheel.size)


def _hash(turn: Turn, user: str, sha256: str, size: int) -> str:
    made = hashlib.sha256()
    for offset in _offsets(size):
        made.update(queries.part(turn.session, user, sha256, offset) or b"")
    return made.hexdigest()


def _offsets(size: int) -> range:
    return range(0, size, WHEEL_PART)


def _parts(size: int) -> int:
    return math.ceil(size / WHEEL_PART)


def _too_large() -> Exception:
    message = f"At most {MAX_SENT} bytes of wheels may be sent for one environment; send fewer."
    return refused(Reason.TOO_LARGE, message)
