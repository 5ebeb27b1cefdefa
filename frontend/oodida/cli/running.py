"""Commands about assignments: start, watch, ask who is missing, go on, end."""

from __future__ import annotations

from typing import Annotated

import typer

from oodida.cli import ledger, show
from oodida.cli.options import (
    BudgetWords,
    HaltOnFailure,
    Json,
    LateAnswers,
    Quorum,
    Url,
    User,
    WindowGaps,
)
from oodida.cli.words import (
    assignment_from,
    budget_from,
    halt_from,
    options,
    quorum_from,
    select_from,
)
from oodida.connecting import connect
from oodida.fleet import Fleet
from oodida.run import Run
from protocol.errors import BadRequest
from protocol.lifecycle import AssignmentState

#: How many assignments `oodida watch` lists for people.
LISTED = 20


def run(  # noqa: PLR0917 - options, all of them by name
    onboard: Annotated[str, typer.Option(help="A method, or custom:MODULE.")] = "mean",
    signals: Annotated[str, typer.Option(help="One signal, or several: A,B")] = "VEHICLE_SPEED",
    samples: Annotated[int, typer.Option(help="Samples in a window.")] = 50,
    offboard: Annotated[str, typer.Option(help="A method, or custom:MODULE.")] = "collect",
    iterations: Annotated[int, typer.Option(help="How many rounds.")] = 1,
    param: Annotated[
        list[str] | None, typer.Option(help="The on-board method's NAME=JSON; several times.")
    ] = None,
    offboard_param: Annotated[
        list[str] | None, typer.Option(help="The off-board method's NAME=JSON; several times.")
    ] = None,
    ids: Annotated[str | None, typer.Option(help="Only these vehicles: car-1,car-2")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only vehicles with NAME=VALUE; several times.")
    ] = None,
    sample: Annotated[int | None, typer.Option(help="So many vehicles, drawn by --seed.")] = None,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    consistency: Annotated[
        str, typer.Option(help="majority, newest, pinned or any: which code's results count.")
    ] = "majority",
    deadline: Annotated[float, typer.Option(help="Seconds an iteration may take.")] = 30.0,
    rate_hz: Annotated[float | None, typer.Option(help="Samples a second.")] = None,
    isolation: Annotated[
        str, typer.Option(help="A container for each 'call', or one for the 'assignment'.")
    ] = "call",
    quorum: Quorum = None,
    late: LateAnswers = "drop",
    halt_on_failure: HaltOnFailure = "0.3",
    budget: BudgetWords = None,
    gaps: WindowGaps = "allow",
    *,
    detach: Annotated[bool, typer.Option("--detach", help="Print the id and leave.")] = False,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Start an assignment and show its iterations as they come. Ctrl-C cancels it."""
    with show.errors(json_wanted=as_json):
        with options():
            spec = assignment_from(
                onboard, signals, samples, offboard, param, offboard_param,
                vehicles=select_from(ids, where, sample, seed), iterations=iterations,
                consistency=consistency, deadline_s=deadline, rate_hz=rate_hz, isolation=isolation,
                gaps=gaps, quorum=quorum_from(quorum), late=late,
                halt_on_failure=halt_from(halt_on_failure), budget=budget_from(budget),
            )  # fmt: skip
        with connect(url, user) as fleet:
            started = fleet.submit(spec)
            if detach:
                show.as_json({"id": started.id}) if as_json else show.out.print(started.id)
                return
            if not as_json:
                show.err.print(f"assignment {started.id}")
            try:
                _follow(started, as_json=as_json)
            except KeyboardInterrupt:
                started.cancel()
                show.err.print(f"assignment {started.id} is cancelled")
                raise


def watch(
    id_: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Without one: list the assignments.")
    ] = None,
    *,
    changes: Annotated[
        bool,
        typer.Option("--changes", help="Instead, each change of state so far: when, whose, why."),
    ] = False,
    everybody: Annotated[
        bool, typer.Option("--everybody", help="List those of all users, if you may see them.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Show an assignment from its first iteration on, or list all. Ctrl-C only stops looking."""
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        if changes:
            if id_ is None:
                raise BadRequest("--changes are of one assignment: give its ID")
            ledger.changes(fleet.run(id_), as_json=as_json)
        elif id_ is not None:
            _follow(fleet.run(id_), as_json=as_json)
        else:
            _list(fleet, everybody=everybody, as_json=as_json)


def _list(fleet: Fleet, *, everybody: bool, as_json: bool) -> None:
    found = fleet.assignments(everybody=everybody)
    if as_json:
        show.as_json(found)
        return
    columns = ["id", "state", "iteration", "on-board, off-board", "started"]
    rows = [
        [
            a.id,
            a.state.value,
            f"{a.iteration} of {a.iterations}",
            f"{a.onboard}, {a.offboard}",
            a.started[5:16].replace("T", " "),
            *([a.user_id] if everybody else []),
        ]
        for a in found[:LISTED]
    ]
    if everybody:
        columns.append("whose")
    whose = "everybody" if everybody else fleet.user
    show.table(f"Assignments of {whose}, in UTC", columns, rows, whole=3)
    if len(found) > LISTED:
        show.out.print(f"  and {len(found) - LISTED} older ones; --json lists more")


def _follow(run: Run, *, as_json: bool) -> None:
    """Print iterations as they come; the reason if it failed."""
    with show.busy(as_json=as_json) as busy:
        busy.update("waiting for the first iteration")
        for iteration in run:
            if as_json:
                show.as_json(show.iteration(iteration))
            else:
                show.out.print(show.iteration_line(iteration))
            number, answered, expected = run.progress
            busy.update(f"iteration {number}: {answered} of {expected} vehicles have answered")
    run.result()


def participation(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `oodida watch` lists it.")],
    vehicle: Annotated[
        str | None, typer.Argument(metavar="[VEHICLE]", help="Only this one, over all iterations.")
    ] = None,
    iteration: Annotated[
        int | None, typer.Option(min=1, help="Of this one. Default: the newest that is closed.")
    ] = None,
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Why is car-17 missing? Who was in an iteration's value and who was out, with the reason.

    It can be asked for ever, also of iterations that failed or halted. For example:

        oodida participation 3f2a9c0d11e7b845 car-17
    """
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        ledger.participation(fleet.run(id_), vehicle, iteration, as_json=as_json)


def resume(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `oodida watch` lists it.")],
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Go on with an assignment that is halted: its iteration is begun again, with the code of now.

    An assignment halts when its module crashes or hits a limit on too many vehicles (see
    --halt-on-failure of `oodida run`). Deploy the repair first:

        oodida deploy harsh_braking.py
        oodida resume 3f2a9c0d11e7b845
    """
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        fleet.resume(id_)
        show.as_json({"resumed": id_}) if as_json else show.out.print(f"{id_} goes on")


def cancel(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `oodida watch` lists it.")],
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """End an assignment. No harm if it has ended."""
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        state = fleet.cancel(id_)
        if state is AssignmentState.CANCELLED:
            show.as_json({"cancelled": id_}) if as_json else show.out.print(f"{id_} is cancelled")
            return
        how = {"ended": id_, "state": state.value}
        said = f"{id_} had ended before: it is {state.value}"
        show.as_json(how) if as_json else show.out.print(said)
