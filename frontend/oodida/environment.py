"""Libraries of the analyst's own: what is asked for, and the wheels that are sent along."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from oodida.connection import Connection
from protocol.assignment import explain
from protocol.environment import (
    LOCK_HEAD,
    MAX_WHEEL_BYTES,
    EnvironmentSpec,
    Lock,
    Reason,
    WheelRef,
    refused,
)
from protocol.errors import BadRequest
from protocol.messages import WHEEL_PART, Upload

Progress = Callable[[str], None]


class Environment:
    """The libraries that a module may import, beside the standard library.

    Args:
        requirements: packages by name and versions, such as ``["shapely>=2,<3", "msgpack"]``.
        wheels: a folder, of which all wheels are taken, or the paths of wheels. They are sent along
            and are part of the environment.
        lock: in place of requirements, the lock of an environment, as `oodida environments show`
            prints it: its text, or the path of a file with it. It gives the same environment once
            more, or says why not.

    What they need in turn comes with them. Raises EnvironmentRefused for what cannot be a
    requirement or a wheel; whether it can be had is known when a module is deployed with it.
    """

    def __init__(
        self,
        requirements: str | Iterable[str] = (),
        wheels: str | Path | Iterable[str | Path] = (),
        lock: str | Path = "",
    ) -> None:
        told: dict[str, object] = {"requirements": requirements, "wheels": wheels}
        for what, given in told.items():
            if not isinstance(given, str | Path | Iterable):
                message = f"{what} is a list of texts, not {type(given).__name__}"
                raise refused(Reason.BAD_REQUIREMENT, message)
        wanted = (requirements,) if isinstance(requirements, str) else tuple(requirements)
        self._paths: dict[str, Path] = {}
        refs = []
        for path in _files(wheels):
            ref = _ref(path)
            self._paths[ref.sha256] = path
            refs.append(ref)
        try:
            self.spec = EnvironmentSpec(
                requirements=wanted, wheels=tuple(refs), lock=_lock(lock) if lock else ""
            )
        except ValidationError as problem:
            raise refused(Reason.BAD_REQUIREMENT, explain(problem)) from None

    def __repr__(self) -> str:
        if self.spec.lock:
            return f"Environment(lock={Lock.from_text(self.spec.lock).digest!r})"
        wheels = [wheel.name for wheel in self.spec.wheels]
        return f"Environment(requirements={list(self.spec.requirements)}, wheels={wheels})"

    def send(self, connection: Connection, missing: Iterable[str], progress: Progress) -> None:
        """Send the wheels with these hashes. Raises EnvironmentRefused if a file has changed."""
        names = {wheel.sha256: wheel for wheel in self.spec.wheels}
        for sha256 in missing:
            wheel = names.get(sha256)
            if wheel is None:
                raise BadRequest("the cloud asks for a wheel that is not part of the environment")
            for number, data in enumerate(_parts(self._paths[sha256])):
                done = min(1.0, number * WHEEL_PART / wheel.size)
                progress(f"sending {wheel.name}: {done:.0%} of {wheel.size} bytes")
                part = Upload(
                    user_id=connection.user,
                    sha256=sha256,
                    size=wheel.size,
                    offset=number * WHEEL_PART,
                    data=data,
                )
                connection.ask(part)


def _lock(given: str | Path) -> str:
    """The lock's own text. What `oodida environments show` prints before it is left out."""
    text = str(given)
    if "\n" not in text:
        try:
            text = Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            message = f"{given} cannot be read as a lock: {problem}"
            raise refused(Reason.BAD_REQUIREMENT, message) from None
    begin = text.find(LOCK_HEAD)
    return Lock.from_text(text[max(begin, 0) :]).text()


def _files(wheels: str | Path | Iterable[str | Path]) -> list[Path]:
    if not isinstance(wheels, str | Path):
        return [Path(path) for path in wheels]
    folder = Path(wheels)
    if not folder.is_dir():
        return [folder]
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise refused(Reason.BAD_WHEEL, f"there is no wheel (*.whl) in {folder}")
    return found


def _ref(path: Path) -> WheelRef:
    made, size = hashlib.sha256(), 0
    for part in _parts(path):
        made.update(part)
        size += len(part)
    if not size:
        raise refused(Reason.BAD_WHEEL, f"{path} is empty")
    return WheelRef(name=path.name, sha256=made.hexdigest(), size=size)


def _parts(path: Path) -> Iterator[bytes]:
    """The file in parts. Raises EnvironmentRefused if it cannot be read, or is too large."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size > MAX_WHEEL_BYTES:
                message = f"{path} has more than {MAX_WHEEL_BYTES} bytes; send a smaller wheel"
                raise refused(Reason.TOO_LARGE, message)
            while part := file.read(WHEEL_PART):
                yield part
    except OSError as problem:
        raise refused(Reason.BAD_WHEEL, f"{path} cannot be read: {problem.strerror}") from None
