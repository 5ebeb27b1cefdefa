"""What pip complained about, as one of our reasons and a sentence for the analyst: pure."""

from __future__ import annotations

import re
from typing import Final

from packaging.utils import canonicalize_name

from protocol.environment import Reason, newest, refused

_NOT_FOUND: Final = re.compile(
    r"^ERROR: Could not find a version that satisfies the requirement "
    r"(?P<what>(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*).{0,300}?) \(from versions: (?P<versions>.*)\)$",
    re.MULTILINE,
)
_UNREACHABLE: Final = re.compile(
    r"Could not fetch URL .{0,2000}: (?:connection error|timed out|5\d\d )"
    r"|certificate verify failed|SSLError|ReadTimeoutError|ConnectTimeoutError|NewConnectionError"
    r"|ProxyError|IncompleteRead|ConnectionResetError|Connection broken|HTTP error 5\d\d"
)
_UNFIT: Final = re.compile(
    r"Skipping link: (?:No (?:sources|binaries) permitted for|none of the wheel's tags).*"
    r"[/ ](?P<file>[A-Za-z0-9._]+)-[^/ ]*(?: \(from|$)",
    re.MULTILINE,
)
_CAUSES: Final = re.compile(r"The conflict is caused by:\n((?:    .*\n?)+)")
_MISMATCH: Final = re.compile(
    r"DO NOT MATCH THE HASHES.*\n\s*(?P<what>[A-Za-z0-9._-]+(?:==[A-Za-z0-9._+!-]+)?)"
)
_ADDRESS: Final = re.compile(r"\S*(?:://|/)\S*")


def complaint(said: str, python: str, platform: str) -> Exception:
    """Return the error for what pip said, which may quote names that a stranger chose."""
    for reason, words in (
        (Reason.NO_SPACE, ("No space left on device",)),
        (Reason.TOO_LARGE, ("[Errno 27] File too large",)),
    ):
        if any(word in said for word in words):
            return refused(reason, _PLAIN[reason])
    if mismatch := _MISMATCH.search(said):
        what = mismatch["what"]
        message = f"The index has another file for {what} now than was locked. Resolve it again."
        return refused(Reason.HASH_DIFFERS, message, package=what)
    if missing := _NOT_FOUND.search(said):
        return _not_found(said, missing, python, platform)
    if "ResolutionImpossible" in said:
        causes = _CAUSES.search(said)
        lines = [] if causes is None else [_clean(line) for line in causes[1].splitlines()]
        because = "; ".join(line for line in lines[:8] if line) or "see the versions asked for"
        message = f"The libraries do not go together: {because}. Loosen one of these."
        return refused(Reason.CONFLICT, message)
    if "is not a supported wheel on this platform" in said:
        message = f"A wheel is not for Python {python} on {platform}. Send one that is."
        return refused(Reason.NO_WHEEL, message)
    if re.search(r"[Ii]nvalid wheel|is invalid|BadZipFile|inconsistent", said):
        return refused(Reason.BAD_WHEEL, f"A wheel cannot be read: {_last(said)}")
    if _UNREACHABLE.search(said):
        return refused(Reason.INDEX_UNREACHABLE, _PLAIN[Reason.INDEX_UNREACHABLE])
    return refused(Reason.BUILD_FAILED, f"pip could not download the libraries: {_last(said)}")


_PLAIN: Final = {
    Reason.NO_SPACE: "The worker's disk is full. Its operator has to make room; then try again.",
    Reason.TOO_LARGE: "One of the libraries is larger than what may be used. Ask for another.",
    Reason.INDEX_UNREACHABLE: (
        "The package index cannot be reached from the worker. Try again later, or send the "
        "libraries along as wheels."
    ),
}


def _not_found(said: str, missing: re.Match[str], python: str, platform: str) -> Exception:
    name, what = missing["name"], _clean(missing["what"])
    if _UNREACHABLE.search(said):
        reason = Reason.INDEX_UNREACHABLE
        return refused(reason, _PLAIN[reason], package=name)
    versions = missing["versions"]
    if versions != "none":
        last = newest(versions.split(", "))
        message = (
            f"There is no version for {what} that has a wheel for Python {python} on {platform}; "
            f"the newest that has is {last}. Ask for one that is there."
        )
        return refused(Reason.NO_VERSION, message, package=name)
    if any(canonicalize_name(unfit["file"]) == canonicalize_name(name)
           for unfit in _UNFIT.finditer(said)):  # fmt: skip
        message = (
            f"{what} has no wheel for Python {python} on {platform}, and nothing is built here. "
            "Check the name: that of a package is not always that of its import. If it is right, "
            f"build one with 'pip wheel {name}' and send it along, or choose another library."
        )
        return refused(Reason.NO_WHEEL, message, package=name)
    message = (
        f"No package is called {name!r} ({what} was asked for). Check the name: that of a package "
        "is not always that of its import, such as scikit-learn for sklearn."
    )
    return refused(Reason.UNKNOWN_PACKAGE, message, package=name)


def _clean(line: str) -> str:
    """One line of pip's for an analyst: nothing that is not printed, no addresses or paths."""
    shown = "".join(c if c.isprintable() else " " for c in line)
    return _ADDRESS.sub("…", shown).strip()[:200]


def _last(said: str) -> str:
    errors = [line for line in said.splitlines() if line.startswith("ERROR: ")]
    lines = errors or said.splitlines()
    return _clean(lines[-1].removeprefix("ERROR: ")) if lines else "it said nothing"
