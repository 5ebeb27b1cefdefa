"""The modules that this edge runtime has: the newest generation of each, as files and in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from protocol.errors import ModuleRefused
from protocol.module import Module, Side
from protocol.values import JSON, decode

log = logging.getLogger(__name__)

#: Between user and module name in a file's name. No name holds it, so no two files can meet.
SEPARATOR: Final = "@"
#: How the name of a file ends that says why a module was refused.
REFUSED: Final = ".refused"
#: How the name of a file ends that says which generation was here, when the module is not any more.
LAST: Final = ".last"
#: How often it is noted that a module is used, in seconds.
TOUCH_S: Final = 3600.0


_NEVER: Final = (0, "", "")


class ModuleStore:
    """The current modules of one side, kept in a folder.

    Each is two files, ``{user}@{name}.py`` with the analyst's source as it came, and a ``.json``
    with its generation, environment and digest; ``.refused`` says of one that came why it cannot be
    run here, ``.last`` of one that was removed which generation it was. What is in the folder at
    the start is taken over.
    """

    def __init__(self, folder: Path, side: Side) -> None:
        self._folder, self._side = folder, side
        self._modules: dict[tuple[str, str], Module] = {}
        #: Generation, reason, and the code of the error.
        self._refused: dict[tuple[str, str], tuple[int, str, str]] = {}
        self._last: dict[tuple[str, str], int] = {}
        self._changed = asyncio.Event()
        #: Told of a module that is waited for and is not here.
        self.missing: Callable[[str, str], object] = lambda _user, _name: None
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob(f"*{SEPARATOR}*.json")):
            module = self._read(path)
            if module is not None:
                self._modules[module.user_id, module.name] = module
        for path in folder.glob(f"*{SEPARATOR}*{REFUSED}"):
            self._read_refusal(path)
        for path in folder.glob(f"*{SEPARATOR}*{LAST}"):
            self._read_last(path)

    def get(self, user: str, name: str) -> Module | None:
        """The newest generation, if there is any."""
        return self._modules.get((user, name))

    def newest(self, user: str, name: str) -> int:
        """The newest generation that is or was here; 0 if there was none."""
        module = self.get(user, name)
        return module.generation if module is not None else self._last.get((user, name), 0)

    def all(self) -> tuple[Module, ...]:
        """Every module that is here, its newest generation."""
        return tuple(self._modules.values())

    def forget_refusals(self, codes: Collection[str]) -> list[tuple[str, str]]:
        """What was refused with one of these codes may come again: user and name of each.

        Until it does, whoever waits for it goes on waiting.
        """
        gone = [key for key, (_, _, code) in self._refused.items() if code in codes]
        for user, name in gone:
            del self._refused[user, name]
            with contextlib.suppress(OSError):  # a start forgets it as well
                self._refusal(user, name).unlink(missing_ok=True)
        return gone

    def touch(self, user: str, name: str) -> None:
        """Note that a module is used: the time of its file says when it was used last."""
        module, now = self.get(user, name), time.time()
        if module is not None:
            path = self.path(user, name).with_suffix(".json")
            with contextlib.suppress(OSError):  # a full or broken disk must not end a task
                if not 0 <= now - path.stat().st_mtime < TOUCH_S:
                    os.utime(path, (now, now))

    def forget_unused(self, keep_s: float) -> list[Module]:
        """Remove the modules that nobody has used for so long; what is asked for comes again."""
        now, gone = time.time(), []
        for (user, name), module in list(self._modules.items()):
            path = self.path(user, name)
            with contextlib.suppress(OSError):
                if now - path.with_suffix(".json").stat().st_mtime > keep_s:
                    # An older generation must not come back in its place.
                    last = json.dumps({"generation": module.generation})
                    _replace(path.with_suffix(LAST), last.encode())
                    self._last[user, name] = module.generation
                    # The facts go first: without them a source is not taken over.
                    path.with_suffix(".json").unlink()
                    path.unlink(missing_ok=True)
                    del self._modules[user, name]
                    gone.append(module)
        return gone

    def environments(self) -> set[str]:
        """The environments of the modules that are here."""
        return {module.environment for module in self._modules.values()}

    def put(self, module: Module, *, again: bool = False) -> bool:
        """Keep a module; False if a newer generation is or was here, which is never replaced.

        ``again``: also if it is here, as nobody vouches any more for the one that is.
        """
        if self.newest(module.user_id, module.name) > module.generation:
            return False
        newest = self.get(module.user_id, module.name)
        if newest is None or again or not _same(newest, module):
            self._write(module)
            self._modules[module.user_id, module.name] = module
            self._wake()
        refused, _, _ = self._refused.get((module.user_id, module.name), _NEVER)
        if 0 < refused <= module.generation:
            del self._refused[module.user_id, module.name]
            self._refusal(module.user_id, module.name).unlink(missing_ok=True)
        return True

    def refuse(self, module: Module, reason: str, code: str = "") -> None:
        """Remember that a module came which cannot be run here; of several, the newest."""
        before, _, _ = self._refused.get((module.user_id, module.name), _NEVER)
        if module.generation >= before:
            self._refused[module.user_id, module.name] = (module.generation, reason, code)
            facts = {"generation": module.generation, "reason": reason, "code": code}
            with contextlib.suppress(OSError):  # it is known as long as we live
                _replace(self._refusal(module.user_id, module.name), json.dumps(facts).encode())
            self._wake()

    async def wait(self, user: str, name: str, generation: int) -> Module:
        """The module, as soon as its generation is at least the one given.

        Raises ModuleRefused if the one that came cannot be run here.
        """
        if self.get(user, name) is None:
            self.missing(user, name)
        self.touch(user, name)
        while True:
            changed = self._changed
            module = self.get(user, name)
            if module is not None and module.generation >= generation:
                return module
            refused, reason, code = self._refused.get((user, name), _NEVER)
            if refused >= max(generation, 1):
                message = f"generation {refused} of {name} was refused: {reason}"
                raise ModuleRefused(message, **({"reason_code": code} if code else {}))
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def path(self, user: str, name: str) -> Path:
        """Where a module's source lies."""
        return self._folder / f"{user}{SEPARATOR}{name}.py"

    def _refusal(self, user: str, name: str) -> Path:
        return self._folder / f"{user}{SEPARATOR}{name}{REFUSED}"

    def _read_refusal(self, path: Path) -> None:
        user, _, name = path.name.removesuffix(REFUSED).partition(SEPARATOR)
        try:
            facts = decode(path.read_bytes(), JSON)
            said = int(facts["generation"]), str(facts["reason"]), str(facts.get("code", ""))
            self._refused[user, name] = said
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as problem:
            log.warning("%s is not taken over: %s", path.name, problem)

    def _read_last(self, path: Path) -> None:
        user, _, name = path.name.removesuffix(LAST).partition(SEPARATOR)
        try:
            self._last[user, name] = int(decode(path.read_bytes(), JSON)["generation"])
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as problem:
            log.warning("%s is not taken over: %s", path.name, problem)

    def _write(self, module: Module) -> None:
        path = self.path(module.user_id, module.name)
        facts = module.model_dump(mode="json", exclude={"source"})
        # The facts come last: without facts that fit it, a source is not taken over.
        _replace(path, module.source.encode())
        _replace(path.with_suffix(".json"), json.dumps(facts).encode())

    def _read(self, path: Path) -> Module | None:
        try:
            facts = decode(path.read_bytes(), JSON)
            source = path.with_suffix(".py").read_bytes().decode()
            module = Module.model_validate({**facts, "source": source})
        except (OSError, ValueError, TypeError, ValidationError) as problem:
            log.warning("%s is not taken over: %s", path.name, problem)
            return None
        stored_as = self.path(module.user_id, module.name)
        return module if module.side is self._side and stored_as.stem == path.stem else None


def _same(one: Module, other: Module) -> bool:
    """True if they differ at most in when they were vouched for: it is said anew each time."""
    if (one.endorsement is None) != (other.endorsement is None):
        return False
    return one.model_copy(update={"endorsement": other.endorsement}) == other


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        new.unlink(missing_ok=True)  # what was written of it takes room that there is not
        raise
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the new name, too, has to outlive a power cut
    finally:
        os.close(folder)
