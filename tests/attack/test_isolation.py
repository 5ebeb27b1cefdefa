"""Network, kernel, other processes, secrets: cases 35 to 39 of the catalogue."""

from __future__ import annotations

import os

import pytest

from edge_runtime.sandbox.settings import VARIABLES
from protocol.outcome import Kind
from tests.attack.harness import Rig

#: Functions of the C library, as numbers: what they return, or the error.
SYSCALLS = """
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    return os.strerror(ctypes.get_errno()) if result == -1 else result
"""


def test_no_way_out(rig: Rig) -> None:
    source = """
    import socket

    def attempt(family, address):
        with socket.socket(family) as link:
            link.settimeout(2)
            try:
                link.connect(address)
            except OSError as problem:
                return type(problem).__name__
            return "connected"

    def custom_code(window):
        interfaces = [name for _, name in socket.if_nameindex()]
        links = [attempt(socket.AF_INET, (host, 80)) for host in ("192.0.2.1", "169.254.169.254")]
        links.append(attempt(socket.AF_INET6, ("2001:db8::1", 80)))
        links.append(attempt(socket.AF_UNIX, "/var/run/docker.sock"))
        return interfaces, links
    """
    interfaces, links = rig.value(source)
    assert interfaces == ["lo"]
    assert "connected" not in links


def test_its_loopback_is_its_own(rig: Rig) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        source = """
        import socket

        def custom_code(window):
            with socket.socket() as link:
                link.settimeout(2)
                return link.connect_ex(("127.0.0.1", window))
        """
        assert rig.value(source, server.getsockname()[1]) != 0


def test_no_name_is_resolved(rig: Rig) -> None:
    outcome = rig.run(
        "import socket\ndef custom_code(window): return socket.getaddrinfo('example.org', 80)"
    )
    assert outcome.kind is Kind.MODULE_ERROR


def test_proc_and_sys_cannot_be_written(rig: Rig) -> None:
    source = """
    import os

    def custom_code(window):
        written = []
        for root in ("/proc/sys", "/proc/irq", "/proc/bus", "/sys"):
            for folder, _, files in os.walk(root):
                for path in (os.path.join(folder, name) for name in files):
                    try:
                        os.close(os.open(path, os.O_WRONLY))
                        written.append(path)
                    except OSError:
                        pass
        for path in ("/proc/sysrq-trigger", "/proc/1/oom_score_adj", "/proc/1/mem", "/proc/kcore"):
            if os.access(path, os.W_OK):
                written.append(path)
        return written
    """
    assert rig.value(source) == []


def test_the_supervisor_cannot_be_looked_into(rig: Rig) -> None:
    source = """
    import os

    def custom_code(window):
        opened = []
        for name in ("fd", "mem", "maps", "environ", "root", "cwd", "exe", "map_files", "ns/net"):
            path = "/proc/1/" + name
            try:
                os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
                opened.append(path)
            except OSError:
                pass
        return opened
    """
    assert rig.value(source) == []


def test_the_supervisor_cannot_be_traced_or_signalled(rig: Rig) -> None:
    source = f"""{SYSCALLS}
def custom_code(window):
    traced = call("ptrace", 16, 1, 0, 0)
    for number in range(1, 65):
        try:
            os.kill(1, number)
        except OSError:
            pass
    return traced
"""
    assert rig.value(source) == "Operation not permitted"


def test_kill_everything(rig: Rig) -> None:
    outcome = rig.run("import os\ndef custom_code(window):\n    os.kill(-1, 9)\n    return 1\n")
    # Nobody but the supervisor is there, and of that the kernel says it is not.
    assert outcome.fault is not None, outcome
    assert outcome.fault.type == "ProcessLookupError"


def test_kill_itself(rig: Rig) -> None:
    outcome = rig.run("import os\ndef custom_code(window):\n    os.kill(os.getpid(), 9)\n")
    assert outcome.kind is Kind.MODULE_ERROR, outcome
    assert "SIGKILL" in outcome.reason


def test_no_privileges(rig: Rig) -> None:
    source = f"""{SYSCALLS}
def custom_code(window):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {{
        "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
        "no new privileges": status["NoNewPrivs"].strip(),
        "seccomp": status["Seccomp"].strip(),
    }}
"""
    assert rig.value(source) == {
        "ids": [65534] * 7,
        "capabilities": ["0" * 16] * 4,
        "no new privileges": "1",
        "seccomp": "2",
    }


@pytest.mark.parametrize(
    "attempt",
    [
        "call('setuid', 0)",
        "call('setgid', 0)",
        "call('unshare', 0x10000000)",
        "call('unshare', 0x00020000)",
        "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)",
        "call('syscall', 321, 0, 0, 0)",
        "call('syscall', 250, 0, 0, 0)",
        "call('syscall', 246, 0, 0, 0, 0)",
        "call('reboot', 0)",
        "call('chroot', b'/tmp')",
    ],
    ids=[
        "setuid", "setgid", "user namespace", "mount namespace", "mount", "bpf", "keyctl", "kexec",
        "reboot", "chroot",
    ],
)  # fmt: skip
def test_what_the_kernel_refuses(rig: Rig, attempt: str) -> None:
    if "syscall" in attempt and os.uname().machine != "x86_64":
        pytest.skip("the numbers of system calls are those of x86-64")
    source = f"{SYSCALLS}\ndef custom_code(window):\n    return {attempt}\n"
    assert rig.value(source) in ("Operation not permitted", "Function not implemented")


def test_no_setuid_file(rig: Rig) -> None:
    source = """
    import os, stat

    def custom_code(window):
        found = []
        for folder, folders, files in os.walk("/"):
            if folder in ("/proc", "/sys"):
                folders.clear()
            for path in (os.path.join(folder, name) for name in files):
                try:
                    mode = os.lstat(path).st_mode
                except OSError:
                    continue
                if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                    found.append(path)
        return found
    """
    assert rig.value(source) == []


def test_no_secret_is_in_reach(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODIDA_SECRET", "k3y")
    source = """
    import os, pathlib

    def custom_code(window):
        arguments = pathlib.Path("/proc/1/cmdline").read_text().split("\\0")
        return dict(os.environ), arguments, os.uname().nodename
    """
    environment, arguments, hostname = rig.value(source)
    assert environment == dict(v.split("=", 1) for v in VARIABLES if "=" in v)
    assert not any("k3y" in argument for argument in arguments)
    assert hostname == "sandbox"
