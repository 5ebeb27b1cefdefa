"""How participation and changes of state look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from oodida.cli import show
from oodida.run import Run
from protocol.account import Usage
from protocol.errors import BadRequest
from protocol.participation import Participation

_COLUMNS = ["status", "cpu", "bytes", "containers", "reason"]


def participation(run: Run, vehicle: str | None, iteration: int | None, *, as_json: bool) -> None:
    """Print who was in and who was out; of one vehicle, over all iterations."""
    if vehicle is not None:
        _of_vehicle(run, vehicle, iteration, as_json=as_json)
        return
    if iteration is None:
        newest = run.participation()
        number = max((s.history[-1][0] for s in newest.values()), default=0)
        told = {v: s.history[-1][1] for v, s in newest.items()}
    else:
        number, told = iteration, dict(run.participation(iteration))
    if as_json:
        show.as_json({"iteration": number, "participation": told})
        return
    if not number:
        show.out.print("no iteration is closed yet")
        return
    rows = [[name, *_cells(p)] for name, p in told.items()]
    show.table(f"Participation in iteration {number}", ["vehicle", *_COLUMNS], rows)
    show.paragraph("Together", _summary(told.values()))


def _of_vehicle(run: Run, vehicle: str, iteration: int | None, *, as_json: bool) -> None:
    if iteration is None:
        standings = run.participation()
        if not standings:
            raise BadRequest(f"no iteration of the assignment {run.id} is closed yet: ask again")
        standing = standings.get(vehicle)
        history: Sequence[tuple[int, Participation]] = standing.history if standing else ()
    else:
        found = run.participation(iteration).get(vehicle)
        history = [(iteration, found)] if found is not None else ()
    if not history:
        where = "the newest iteration" if iteration is None else f"iteration {iteration}"
        raise BadRequest(
            f"{vehicle!r:.80} was not selected in {where} of the assignment {run.id}; "
            f"`oodida participation {run.id}` lists those that were"
        )
    if as_json:
        for number, p in history:
            show.as_json({"iteration": number, "vehicle": vehicle, **show.plain(p)})
        return
    rows = [[number, *_cells(p)] for number, p in history]
    show.table(f"{vehicle} in the assignment {run.id}", ["iteration", *_COLUMNS], rows)
    show.paragraph("Together", _summary(p for _, p in history))


def _cells(p: Participation) -> list[object]:
    used = p.usage or Usage()
    return [
        p.status.replace("_", " "),
        f"{used.cpu_s:.2f} s" if p.usage else "",
        used.bytes_sent if p.usage else "",
        used.container_starts if p.usage else "",
        p.reason,
    ]


def _summary(told: Iterable[Participation]) -> list[str]:
    counted = Counter(p.status for p in told)
    return [f"{number} {status.replace('_', ' ')}" for status, number in counted.most_common()]


def changes(run: Run, *, as_json: bool) -> None:
    """Print each change of state of an assignment and its tasks."""
    told = run.changes()
    if as_json:
        for change in told:
            show.as_json(change)
        return
    rows = [
        [
            change.at[11:23],
            f"{change.kind} {change.iteration}",
            change.edge,
            change.old,
            change.new,
            change.cause,
        ]
        for change in told
    ]
    day = f", {told[0].at[:10]}" if told else ""
    columns = ["time", "what", "vehicle", "from", "to", "cause"]
    show.table(f"Changes of {run.id}, in UTC{day}", columns, rows)
