"""`oodida simulate`: a fleet to try things on, before there is one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from oodida.cli import interrupts, show
from oodida.cli.options import Json, Url
from oodida.connecting import DEFAULT_URL
from protocol.errors import SetupError, from_code

_WORDS = {"connected": "connected", "left": "left to say goodbye"}


def simulate(
    vehicles: Annotated[int, typer.Option("--vehicles", min=1, help="How many.")],
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes to share them. Default: by number and cores."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="What their names begin with.")] = "sim-",
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, or NAME=A|B to deal out in turn; several times."),
    ] = None,
    rate_hz: Annotated[
        float | None, typer.Option(help="Samples a second. Default: without waiting.")
    ] = None,
    identities: Annotated[
        Path | None,
        typer.Option(
            help="For a broker that speaks TLS: the folder with each vehicle's certificate, such "
            "as pki/identities/vehicle."
        ),
    ] = None,
    *,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Run simulated vehicles at a broker until Ctrl-C: a fleet to try, or to load a cloud with.

    They are real edge runtimes, many to a process, each with a simulated driver. They run built-in
    methods; custom modules they refuse, as there is no container. A cloud to connect them to is
    what `oodida up` starts, or your own. Where that asks for certificates, before all else:

        oodida enroll vehicle sim- --count 1000 --pki FOLDER
    """
    interrupts.take_all()
    options = [f"--vehicles={vehicles}", f"--prefix={prefix}"]
    options.append(f"--url={url or os.environ.get('OODIDA_URL') or DEFAULT_URL}")
    options += [f"--attribute={pair}" for pair in attribute or []]
    if processes is not None:
        options.append(f"--processes={processes}")
    if identities is not None:
        options.append(f"--identities={identities}")
    if rate_hz is not None:
        options.append(f"--rate-hz={rate_hz}")
    with show.errors(json_wanted=as_json), _started(options) as process:
        assert process.stdin is not None  # noqa: S101 - they were asked for
        assert process.stdout is not None  # noqa: S101
        _show(process.stdin, process.stdout, as_json=as_json)
        if process.wait():
            raise SetupError("the fleet has ended, and did not say why")


@contextlib.contextmanager
def _started(options: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", "-m", "edge_runtime.simulate", "--json", "--stop-on-eof"]
    with subprocess.Popen(
        [*command, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # an interrupt from the keyboard is ours to hand on
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def _show(stdin: IO[str], stdout: IO[str], *, as_json: bool) -> None:
    """Show what it tells until its end; an interrupt asks it to end, and it says goodbye."""
    with contextlib.nullcontext() if as_json else show.err.status("connecting") as busy:
        while True:
            try:
                line = stdout.readline()
                if not line:
                    return
                told = json.loads(line)
                if told["event"] == "error":
                    raise from_code(told["code"], told["message"])
                if as_json:
                    print(line, end="", flush=True)
                else:
                    _line(told, busy)
            except KeyboardInterrupt:
                stdin.close()  # a second one does no more


def _line(told: dict[str, Any], busy: Any) -> None:
    match told["event"]:
        case "connected" | "left" as event:
            busy.update(f"{told[event]} of {told['vehicles']} {_WORDS[event]}")
        case "ready":
            show.out.print(
                f"{told['vehicles']} vehicles after {told['seconds']:.1f} s, "
                f"{told['memory_mb']:.0f} MB"
            )
            busy.update("working; Ctrl-C ends them")
        case _:
            pass
