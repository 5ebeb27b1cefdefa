"""An environment: the libraries that an analyst asks for, and what they were resolved to."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pydantic import Field, field_validator, model_validator

from protocol.errors import EnvironmentRefused
from protocol.outcome import Frozen

MAX_REQUIREMENTS: Final = 64
MAX_WHEELS: Final = 64
MAX_PACKAGES: Final = 256
#: Bytes of one wheel, and of all of an environment together.
MAX_WHEEL_BYTES: Final = 250 * 2**20
MAX_LOCK_TEXT: Final = 256 * 1024
#: The first line of a lock; the number counts up when its form changes.
LOCK_HEAD: Final = "# oodida environment 1"
#: All that a requirement of a package by name is written with: no address, path, comment, variable,
#: line break or escape can be made of it.
_REQUIREMENT: Final = re.compile(r"""[A-Za-z0-9][A-Za-z0-9 ._,<>=!~()\[\];'"*+-]{0,199}""")
_SHA256: Final = r"^[0-9a-f]{64}$"

Sha256 = Annotated[str, Field(pattern=_SHA256)]


class Reason(StrEnum):
    """Why an environment cannot be had: `reason_code` in an error's details."""

    BAD_REQUIREMENT = "bad_requirement"  # it is not written as it has to be
    UNKNOWN_PACKAGE = "unknown_package"  # nobody knows this name
    NO_VERSION = "no_version"  # the package is there, in no version that was asked for
    NO_WHEEL = "no_wheel"  # the package is there, in no form that runs here without a build
    CONFLICT = "conflict"  # what is asked for does not go together
    MISSING_WHEEL = "missing_wheel"  # a wheel was not sent along in full
    BAD_WHEEL = "bad_wheel"  # a wheel is damaged, or holds what may not be in one
    TOO_LARGE = "too_large"  # beyond a limit in bytes or files
    TIMEOUT = "timeout"  # it took too long
    INDEX_UNREACHABLE = "index_unreachable"  # try again later
    GONE = "gone"  # what was locked, or published, is not there any more
    HASH_DIFFERS = "hash_differs"  # what is there now is not what was locked
    OTHER_BASE = "other_base"  # the lock was made for another base image
    WRONG_IMAGE = "wrong_image"  # the registry's image is of another environment
    REGISTRY_UNREACHABLE = "registry_unreachable"  # try again later
    NO_SPACE = "no_space"  # the disk is full
    BUILD_FAILED = "build_failed"  # anything else on the way to an image


def refused(reason: Reason, message: str, **details: Any) -> EnvironmentRefused:
    """Make the error with which an environment is refused."""
    return EnvironmentRefused(message, reason_code=reason.value, **details)


def normalised(requirement: str) -> str:
    """Return a requirement in its one form, `name[extra]<2,>=1; marker`.

    Raises EnvironmentRefused for what is no requirement of a package by its name.
    """
    written = requirement.strip()
    parsed = None
    if _REQUIREMENT.fullmatch(written):
        try:
            parsed = Requirement(written)
        except InvalidRequirement:
            parsed = None
    if parsed is None or parsed.url or any(s.operator == "===" for s in parsed.specifier):
        message = (
            f"{requirement[:200]!r} is no requirement that can be met. Write a package's name and "
            "versions, such as 'scipy>=1.14,<2'; send files along as wheels, not as addresses."
        )
        raise refused(Reason.BAD_REQUIREMENT, message)
    extras = ",".join(sorted(map(canonicalize_name, parsed.extras)))
    versions = ",".join(sorted(map(str, parsed.specifier)))
    marker = f"; {parsed.marker}" if parsed.marker else ""
    return f"{canonicalize_name(parsed.name)}{f'[{extras}]' if extras else ''}{versions}{marker}"


class WheelRef(Frozen):
    """A wheel that travels with the request: its file name, hash, and size in bytes."""

    name: str = Field(max_length=200)
    sha256: Sha256
    size: int = Field(ge=1, le=MAX_WHEEL_BYTES)

    @field_validator("name")
    @classmethod
    def _named_as_wheels_are(cls, name: str) -> str:
        if wheel_of(name) is None:
            message = f"{name[:200]!r} is no name of a wheel, such as mylib-1.0-py3-none-any.whl."
            raise refused(Reason.BAD_REQUIREMENT, message)
        return name


def wheel_of(file: str) -> tuple[str, str] | None:
    """Return name and version, both normalised, as a wheel's file name has them; None if not."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,199}", file):
        return None
    try:
        name, version, _, _ = parse_wheel_filename(file)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    return name, str(version)


class EnvironmentSpec(Frozen):
    """What an analyst asks for. Every wheel that travels along is part of the environment.

    ``lock`` is the text of one, in place of requirements: the same files once more.
    """

    requirements: tuple[str, ...] = Field(default=(), max_length=MAX_REQUIREMENTS)
    wheels: tuple[WheelRef, ...] = Field(default=(), max_length=MAX_WHEELS)
    lock: str = Field(default="", max_length=MAX_LOCK_TEXT)

    @field_validator("requirements")
    @classmethod
    def _in_one_form(cls, requirements: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({normalised(requirement) for requirement in requirements}))

    @field_validator("wheels")
    @classmethod
    def _each_once(cls, wheels: tuple[WheelRef, ...]) -> tuple[WheelRef, ...]:
        by_name = {wheel.name: wheel for wheel in wheels}
        if len(by_name) != len(wheels):
            raise refused(Reason.BAD_REQUIREMENT, "Two wheels have the same name; send one.")
        if sum(wheel.size for wheel in wheels) > MAX_WHEEL_BYTES:
            message = f"The wheels have more than {MAX_WHEEL_BYTES} bytes together; send fewer."
            raise refused(Reason.TOO_LARGE, message)
        return tuple(by_name[name] for name in sorted(by_name))

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.lock:
            if self.requirements:
                message = "A lock says every version already; leave the requirements out."
                raise refused(Reason.BAD_REQUIREMENT, message)
            Lock.from_text(self.lock)
        elif not self.requirements and not self.wheels:
            raise refused(Reason.BAD_REQUIREMENT, "An environment needs at least one library.")
        return self

    @property
    def key(self) -> str:
        """SHA-256 of the request: the same for the same libraries in whatever order."""
        return hashlib.sha256(
            json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        ).hexdigest()


class Locked(Frozen):
    """One package, as the one file that it is installed from. Size in bytes."""

    name: str = Field(max_length=200)
    version: str = Field(max_length=100)
    file: str = Field(max_length=200)
    sha256: Sha256
    size: int = Field(ge=1, le=MAX_WHEEL_BYTES)

    @model_validator(mode="after")
    def _file_fits(self) -> Self:
        if wheel_of(self.file) != (self.name, self.version):
            raise ValueError(f"{self.file} is not the wheel of {self.name} {self.version}")
        return self

    @classmethod
    def of(cls, file: str, sha256: str, size: int) -> Self:
        """Make it from a wheel's file. Raises EnvironmentRefused if it is not named as one."""
        wheel = wheel_of(file)
        if wheel is None:
            raise refused(Reason.BAD_WHEEL, f"{file[:200]!r} is not named as a wheel is.")
        return cls(name=wheel[0], version=wheel[1], file=file, sha256=sha256, size=size)


class Lock(Frozen):
    """What a request was resolved to: exact files, for one interpreter on one base image.

    Attributes:
        base: the image that they are put on, such as `oodida/sandbox-minimal:3fa2c1…`.
        python: the interpreter's version, such as `3.13`.
        platform: such as `linux_x86_64`.
        packages: by name, each once.
    """

    base: str = Field(pattern=r"^[a-z0-9][a-z0-9./_-]{0,150}(:[A-Za-z0-9_.-]{1,100})?$")
    python: str = Field(pattern=r"^3\.[0-9]{1,3}$")
    platform: str = Field(pattern=r"^[a-z0-9_]{1,60}$")
    packages: tuple[Locked, ...] = Field(min_length=1, max_length=MAX_PACKAGES)

    @field_validator("packages")
    @classmethod
    def _in_order(cls, packages: tuple[Locked, ...]) -> tuple[Locked, ...]:
        ordered = tuple(sorted(packages, key=lambda package: package.name))
        if len({package.name for package in ordered}) != len(ordered):
            raise ValueError("a package is there twice")
        return ordered

    @property
    def digest(self) -> str:
        """SHA-256 of `text()`: the environment's identity."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    @property
    def size(self) -> int:
        """How many bytes the wheels have together."""
        return sum(package.size for package in self.packages)

    def text(self) -> str:
        """Print it in the form of pip's requirements, with hashes. `from_text` reads it again."""
        lines = [LOCK_HEAD, f"# base {self.base}"]
        lines += [f"# python {self.python}", f"# platform {self.platform}"]
        for p in self.packages:
            lines.append(f"{p.name}=={p.version} \\")
            lines.append(f"    --hash=sha256:{p.sha256}  # {p.file} {p.size}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `text` printed, and nothing else. Raises EnvironmentRefused."""
        made = None
        if len(text) <= MAX_LOCK_TEXT:
            try:
                made = cls._parse(text.splitlines())
            except (ValueError, TypeError):  # also of a head that names other fields
                made = None
        if made is None or made.text() != text:
            raise refused(Reason.BAD_REQUIREMENT, "This is no lock as `Lock.text` prints it.")
        return made

    @classmethod
    def _parse(cls, lines: list[str]) -> Self:
        head = {key: value for _, key, value in (line.split(" ", 2) for line in lines[1:4])}
        packages = []
        for first, second in zip(lines[4::2], lines[5::2], strict=True):
            name, _, version = first.removesuffix(" \\").partition("==")
            hashed, _, file = second.partition("  # ")
            file, _, size = file.partition(" ")
            sha256 = hashed.removeprefix("    --hash=sha256:")
            packages.append(
                Locked(name=name, version=version, file=file, sha256=sha256, size=int(size))
            )
        return cls(packages=tuple(packages), **head)


def newest(versions: Iterable[str]) -> str | None:
    """Return the highest of these versions, leaving out what is none; None if none is left."""
    known = []
    for version in versions:
        try:
            known.append(Version(version))
        except InvalidVersion:
            continue
    return str(max(known)) if known else None
