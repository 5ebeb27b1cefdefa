"""``python -m edge_runtime.doctor``: is this machine fit for running strangers' modules?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from edge_runtime.doctor.examination import examine
from protocol.finding import Finding, Level
from protocol.topics import is_name


def _image(text: str) -> tuple[str, str]:
    name, equals, reference = text.partition("=")
    if not equals or not is_name(name) or not reference:
        raise argparse.ArgumentTypeError(f"{text!r} is not ENVIRONMENT=IMAGE")
    return name, reference


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m edge_runtime.doctor",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Looks at this machine before modules of strangers run on it: the container engine and
its known holes, what it says that it can limit, room on disk and in memory, and, in
real sandboxes, whether each limit holds. Takes about ten seconds and leaves nothing.""",
        epilog="""\
Each line is a finding:
  ok        nothing to do
  warning   it works, and should be seen to
  problem   it does not work, or a limit does not hold: run no modules here
What to do stands under the finding. The status is 1 if there is a problem, else 0.

For example, with the same images as the runtime itself is given:
  python -m edge_runtime.doctor --image minimal=oodida/sandbox-minimal:TAG
  python -m edge_runtime.doctor --role worker --image minimal=A --image science=B --json
The engine is looked for where `docker` looks: DOCKER_HOST, or the local socket.""",
    )
    made.add_argument(
        "--role", choices=("vehicle", "worker"), default="vehicle",
        help="what is to run here (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--image", type=_image, action="append", default=[], metavar="ENVIRONMENT=IMAGE",
        help="a sandbox image that should be here, and in which the limits are tried; "
        "may be given several times",
    )  # fmt: skip
    made.add_argument(
        "--runtime", metavar="NAME",
        help="the engine's runtime for sandboxes, such as runsc (default: the engine's)",
    )  # fmt: skip
    made.add_argument("--json", action="store_true", help="print one JSON object on one line")
    return made


def _show(finding: Finding) -> None:
    print(f"{finding.level.value:9}{finding.name}: {finding.seen}", flush=True)
    if finding.todo:
        print(f"{'':9}-> {finding.todo}", flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Look at everything and print it; the exit status."""
    options = parser().parse_args(words)
    found: list[Finding] = []
    for finding in examine(dict(options.image), options.role, options.runtime):
        found.append(finding)
        if not options.json:
            _show(finding)
    problems = sum(finding.level is Level.PROBLEM for finding in found)
    warnings = sum(finding.level is Level.WARNING for finding in found)
    if options.json:
        findings = [finding.model_dump(mode="json") for finding in found]
        print(json.dumps({"ok": not problems, "findings": findings}))
    else:
        print(f"problems: {problems}, warnings: {warnings}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
