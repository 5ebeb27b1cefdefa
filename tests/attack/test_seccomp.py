"""Every call that the profile refuses, made in a sandbox: case 38 of the catalogue, in full.

Without the profile the kernel answers otherwise to nearly all of them, and a test holds that too:
what shows that a call is refused has to show something else where the wall is taken away.
"""

from __future__ import annotations

import errno
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from edge_runtime.sandbox import seccomp, settings
from edge_runtime.sandbox.engine import Engines
from edge_runtime.sandbox.frames import Demultiplexer
from protocol.module import Environment
from tests.attack import harness
from tests.attack.harness import GVISOR, SMALL, Rig, Way

pytestmark = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the numbers of system calls are those of x86-64"
)

TABLE: Final = tomllib.loads(seccomp.TABLE.read_text())
NUMBERS: Final[Mapping[str, int]] = tomllib.loads(
    Path(__file__).with_name("numbers_x86_64.toml").read_text()
)
REMOVED: Final = [call for group in TABLE["removed"] for call in group["calls"]]
BOTH: Final = [call for group in TABLE["both"] for call in group["calls"]]
#: The last call that the oldest library for filters that is in use has a name for. The engine
#: answers to later ones in the words of a kernel that does not have them.
NEWEST_KNOWN: Final = 450


class Case(NamedTuple):
    """A narrowed call: arguments that are refused, and some that are not.

    An argument that is text stands for a pointer to it.
    """

    call: str
    refused: tuple[int | str, ...]
    allowed: tuple[int | str, ...]
    alike: bool = False  # the kernel refuses it by itself as well

    def __str__(self) -> str:
        return (
            f"{self.call}-{'-'.join(f'{a:x}' if isinstance(a, int) else a for a in self.refused)}"
        )


NARROWED: Final = [
    Case("arch_prctl", (0x1012, 2), (0x1003, " " * 8)),
    Case("clone", (0x1000_0011,), (17,)),  # a user namespace
    Case("clone", (0x0000_8011,), (17,)),  # CLONE_PARENT
    *(
        Case("clone", (flag | 17,), (17,), alike=True)
        for flag in (0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x2000_0000, 0x4000_0000)
    ),
    Case("ioctl", (0, 0x5412, "x"), (0, 0x5401, " " * 64)),  # TIOCSTI
    Case("ioctl", (0, 0x8933, " " * 40), (0, 0x541B, " " * 8)),  # SIOCGIFINDEX
    Case("mknod", ("/tmp/file", 0o100600, 0), ("/tmp/pipe", 0o010600, 0)),  # noqa: S108
    Case("mknodat", (-100, "/tmp/file2", 0o100600, 0), (-100, "/tmp/pipe2", 0o010600, 0)),  # noqa: S108
    Case("mknod", ("/tmp/null", 0o020600, 0x103), ("/tmp/pipe3", 0o010600, 0), alike=True),  # noqa: S108
    Case("prctl", (22, 2, 0), (39, 0, 0, 0, 0)),  # PR_SET_SECCOMP
    Case("prctl", (36, 1, 0, 0, 0), (4, 0, 0, 0, 0)),  # PR_SET_CHILD_SUBREAPER
    Case("prlimit64", (1, 7, 0, " " * 16), (0, 7, 0, " " * 16)),  # process 1 is the supervisor
    Case("sched_setaffinity", (1, 1, "\3"), (0, 1, "\3")),
    Case("setsockopt", (-1, 1, 26, 0, 0), (-1, 1, 2, 0, 0)),  # SO_ATTACH_FILTER
    Case("setsockopt", (-1, 1, 50, 0, 0), (-1, 1, 7, 0, 0)),  # SO_ATTACH_BPF
    Case("setsockopt", (-1, 6, 31, 0, 0), (-1, 1, 8, 0, 0)),  # TCP_ULP
    *(
        Case("socket", (family, 2, 0), (1, 2, 0))
        for family in (2, 10, 16, 38, 40)  # inet, inet6, netlink, crypto, vsock
    ),
    Case("socket", (17, 3, 0), (1, 2, 0), alike=True),  # packet
    Case("socketpair", (2, 1, 0, " " * 8), (1, 1, 0, " " * 8)),
]

#: Makes calls, and says the error of each, or 0. A call that forks leaves nobody behind.
PROBE: Final = """
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)

def make(number, arguments):
    me = os.getpid()
    given = [ctypes.c_long(a) if isinstance(a, int) else ctypes.create_string_buffer(a.encode())
             for a in arguments]
    ctypes.set_errno(0)
    failed = libc.syscall(ctypes.c_long(number), *given) == -1
    if os.getpid() != me:
        os._exit(0)
    return ctypes.get_errno() if failed else 0

def custom_code(window):
    return [make(number, arguments) for number, arguments in window]
"""

Answers = Mapping[tuple[str, tuple[int | str, ...]], int]
_NONSENSE: Final = (-1,) * 6


def _questions() -> list[tuple[str, tuple[int | str, ...]]]:
    plain = [(call, _NONSENSE) for call in (*REMOVED, *BOTH, *TABLE["answered"])]
    return [*plain, *((c.call, args) for c in NARROWED for args in (c.refused, c.allowed))]


@pytest.fixture
def unharmed() -> None:
    """Two containers answer all of these tests: there is nothing to look at after each."""


@pytest.fixture(scope="module")
def sandboxed(rigs: Callable[[Way], Rig], pytestconfig: pytest.Config) -> Rig:
    """A sandbox whose module talks to the host's kernel."""
    runtime = pytestconfig.getoption("--sandbox-runtime")
    if runtime == GVISOR:
        pytest.skip("under gVisor the calls of a module do not reach the host's kernel")
    return rigs(Way(runtime=runtime))


@pytest.fixture(scope="module")
def inside(sandboxed: Rig) -> Answers:
    """What the sandbox answers to each call."""
    asked = _questions()
    numbers = [[NUMBERS[call], list(arguments)] for call, arguments in asked]
    return dict(zip(asked, sandboxed.value(PROBE, numbers), strict=True))


def _without_profile(program: str) -> Any:
    """What a program prints, as JSON, behind the same wall but for the profile."""
    image = harness.images()[Environment.MINIMAL]
    body = settings.container(settings.Shape.of(image, SMALL), ["-c", program], {})
    body |= {"Entrypoint": ["/usr/bin/python3.13", "-I"], "AttachStdin": False, "OpenStdin": False}
    body["HostConfig"]["SecurityOpt"] = ["no-new-privileges", "seccomp=unconfined"]
    engines, blocks, said = Engines(), Demultiplexer(), bytearray()
    name = f"{harness.RUN}-no-profile"
    with engines.borrow() as engine:
        try:
            engine.create(name, body)
            attached = engine.attach(name)
            engine.start(name)
            while chunk := attached.receive(30):
                said += b"".join(part for _, part in blocks.feed(chunk))
            attached.close()
        finally:
            engine.remove(name)
    engines.close()
    return json.loads(said)


@pytest.fixture(scope="module")
def outside(engine: None) -> Answers:  # noqa: ARG001
    """What the kernel answers to each call without the profile."""
    asked = [q for q in _questions() if q[0] not in BOTH]  # of those some would be harmful
    numbers = [[NUMBERS[call], list(arguments)] for call, arguments in asked]
    program = f"{PROBE}\nimport json\nprint(json.dumps(custom_code({numbers!r})))"
    return dict(zip(asked, _without_profile(program), strict=True))


def _refusals(call: str) -> set[int]:
    return {errno.EPERM, errno.ENOSYS} if NUMBERS[call] > NEWEST_KNOWN else {errno.EPERM}


@pytest.mark.parametrize("call", [*REMOVED, *BOTH])
def test_refused(inside: Answers, call: str) -> None:
    assert inside[call, _NONSENSE] in _refusals(call), os.strerror(inside[call, _NONSENSE])


def _kernel_refuses(call: str, answer: int) -> bool:
    """True if a kernel may answer so by itself: it lacks the call, or has it switched off."""
    return (
        (answer == errno.ENOSYS and NUMBERS[call] > NEWEST_KNOWN)
        or (answer == errno.EPERM and call.startswith("io_uring_"))
        or call == "setgroups"  # it looks at the capability before the arguments
    )


@pytest.mark.parametrize("call", REMOVED)
def test_it_is_the_profile_that_refuses(inside: Answers, outside: Answers, call: str) -> None:
    answer = outside[call, _NONSENSE]
    assert answer != inside[call, _NONSENSE] or _kernel_refuses(call, answer), os.strerror(answer)


@pytest.mark.parametrize("case", NARROWED, ids=str)
def test_narrowed(inside: Answers, outside: Answers, case: Case) -> None:
    assert inside[case.call, case.refused] == errno.EPERM
    assert inside[case.call, case.allowed] != errno.EPERM
    assert case.alike or outside[case.call, case.refused] != errno.EPERM


def test_each_narrowed_call_is_tried() -> None:
    assert {case.call for case in NARROWED} == set(TABLE["narrowed"])


@pytest.mark.parametrize("call", list(TABLE["answered"]))
def test_answered(inside: Answers, outside: Answers, call: str) -> None:
    assert inside[call, _NONSENSE] == TABLE["answered"][call]["errno"]
    assert outside[call, _NONSENSE] != inside[call, _NONSENSE]


#: `getpid` by the entries of other kinds of processors, each tried by a process of its own: the
#: process id if there is an answer, the signal that ended it, or the error.
OTHER_ENTRIES: Final = """
import ctypes, mmap, os

libc = ctypes.CDLL(None, use_errno=True)

def x32():
    number = libc.syscall(ctypes.c_long(0x40000000 | 39))
    return number if number != -1 else -ctypes.get_errno()

def i386():
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("b814000000" "cd80" "c3"))  # eax = 20, int 0x80, return
    code = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_int)(code)()

def attempt(entry):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer = entry()
        os.write(writer, b"answered" if answer == os.getpid() else b"refused")
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 100).decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or f"signal {-status}"

def custom_code(window):
    return {"x32": attempt(x32), "i386": attempt(i386)}
"""


def test_entries_of_other_processors(sandboxed: Rig) -> None:
    here = sandboxed.value(OTHER_ENTRIES)
    program = f"{OTHER_ENTRIES}\nimport json\nprint(json.dumps(custom_code(None)))"
    without = _without_profile(program)
    assert here == {"x32": "signal 31", "i386": "signal 31"}  # SIGSYS
    assert "signal 31" not in without.values()
