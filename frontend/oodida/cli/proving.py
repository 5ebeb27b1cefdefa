"""Where a number comes from: the proof of an iteration's value, and its check without the cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oodida.cli import show
from oodida.cli.options import Json, Url, User
from oodida.connecting import connect
from protocol import proof as proofs
from protocol import values
from protocol.errors import BadProof, BadRequest
from protocol.proof import Proof
from protocol.signing import Trust


def proof(
    assignment: Annotated[str, typer.Argument(help="Its id, as `oodida run` shows it.")],
    iteration: Annotated[
        int | None, typer.Option(help="Of which iteration. Default: the last one that is done.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="The file. Default: ASSIGNMENT-ITERATION.proof.json.")
    ] = None,
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Write down what made a value: signed code, every vehicle's signed receipt, and the values.

    [bold]oodida verify[/bold] checks the file, on any machine and without the cloud.
    """
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        found = fleet.run(assignment).proof(iteration)
        path = to or Path(f"{assignment}-{found.head.iteration}.proof.json")
        try:
            path.write_bytes(found.written())
        except OSError as problem:
            raise BadRequest(f"{path} cannot be written: {problem.strerror}") from None
        if as_json:
            show.as_json({"file": str(path), "receipts": len(found.entries) + 1})
            return
        show.out.print(f"{path}: {len(found.entries)} vehicles' receipts and the worker's")


def verify(
    file: Annotated[Path, typer.Argument(help="What `oodida proof` has written.")],
    authority: Annotated[
        Path | None,
        typer.Option(
            help="The authority's certificate. Default: ca.pem in the folder of OODIDA_IDENTITY."
        ),
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(envvar="OODIDA_IDENTITY", help="Whose ca.pem to take.")
    ] = None,
    revoked: Annotated[
        Path | None,
        typer.Option(help="The authority's crl.pem: what it has taken back since is found, too."),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Check where a value comes from, from the analyst's key to the value. Needs no network.

    Each byte of the file counts: whatever was changed in it is found. Status 0 if all of it holds,
    1 if not, and then it says what does not.
    """
    with show.errors(json_wanted=as_json):
        found = read(file)
        trusted = _authority(authority, identity)
        try:
            proofs.verify(found, Trust.load(trusted, revoked))
        except BadProof as problem:
            raise BadProof(
                f"{problem.message} (the authority is that of {trusted}; if another fleet has made "
                "the proof, name its ca.pem by --authority)"
            ) from None
        tell(found, as_json=as_json)


def read(file: Path) -> Proof:
    """A file of a proof. Raises BadProof for what is none, BadRequest if it cannot be read."""
    try:
        if file.stat().st_size > proofs.MAX_PROOF:
            raise BadRequest(f"{file} is larger than any proof")
        return proofs.read(file.read_bytes())
    except OSError as problem:
        raise BadRequest(f"{file} cannot be read: {problem.strerror}") from None


def _authority(given: Path | None, identity: Path | None) -> Path:
    if given is not None:
        return given
    if identity is None:
        raise BadRequest(
            "whose word is to be trusted? name the authority's certificate by --authority ca.pem"
        )
    return identity / "ca.pem"


def tell(found: Proof, *, as_json: bool) -> None:
    head = found.head
    code = [
        {"name": m.name, "digest": m.digest, "generation": m.generation, "by": m.user_id}
        for m in head.modules
    ]
    value = values.unpack(head.value)
    if as_json:
        show.as_json(
            {
                "holds": True,
                "assignment": head.id,
                "iteration": head.iteration,
                "user": head.user_id,
                "modules": code,
                "receipts": len(found.entries) + 1,
                "value": value,
            }
        )
        return
    show.table(
        f"Iteration {head.iteration} of {head.id}, asked for by {head.user_id}",
        ["vehicle", "code", "samples", "value"],
        [
            [
                entry.vehicle,
                f"{entry.receipt.code.digest[:12]} generation {entry.receipt.code.generation}",
                entry.receipt.window.count if entry.receipt.window else "",
                values.unpack(entry.value),
            ]
            for entry in found.entries
        ],
    )
    for module in code:
        show.out.print(
            f"{module['name']}: signed by analyst:{module['by']}, generation "
            f"{module['generation']}, {str(module['digest'])[:12]}"
        )
    show.out.print("combined by", head.worker, "to", show.text(value))
    show.out.print("every signature holds, and every value is the one that was signed")
