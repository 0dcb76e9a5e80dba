"""`crossplant client rollback`: ask a running scorer to go back to another bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from shared.errors import BundleInvalid, FileTrouble

StateOption = Annotated[Path, typer.Option("--state", metavar="DIR", help="The scorer's state folder.")]


def rollback(
    state: StateOption,
    to: Annotated[str, typer.Option("--to", metavar="DIGEST", help="8 digits or more; default: the one before.")] = "",
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until it is done.")] = 0.0,
) -> None:
    """Go back to the bundle before, or to any other one by name; no gate is asked. The scorer loses no sample."""
    digest = asked(state, to)
    typer.echo(f"asked for {digest[:12]}; the scorer goes over with one of its next samples", err=True)
    if wait:
        _wait(state, digest, wait)
        typer.echo(f"{digest[:12]} is in force")


def asked(state: Path, to: str) -> str:
    """Leave the request; the digest that it names.

    Raises:
        BundleInvalid: there is no such bundle.
        FileTrouble: there is no state folder, or it cannot be written.
    """
    from client.edge import state as disk  # It brings NumPy, which the other commands do without.

    digest = chosen(state, to)
    disk.ask_rollback(state, digest)
    return digest


def chosen(state: Path, to: str) -> str:
    """The bundle that is meant: the one before, or one by the beginning of its digest.

    A whole digest may also name a version that only the agent's folder has.

    Raises:
        BundleInvalid: there is none, or several.
        FileTrouble: there is no state folder.
    """
    from client.edge import state as disk
    from shared.bundle.folder import DIGEST

    found = disk.read_state(state)
    if found is None:
        cure = "Give the folder that `crossplant client score` has as --state."
        raise FileTrouble(f"{state} holds no {disk.FILE}.", cure)
    if not to:
        if not found.previous:
            raise BundleInvalid(f"{state} knows no bundle before {found.current[:12]}.", "Name one with --to DIGEST.")
        return found.previous
    if DIGEST.fullmatch(to):
        return to
    fitting = [one for one in disk.copies(state) if one.startswith(to)] if len(to) >= 8 else []
    if len(fitting) != 1:
        there = ", ".join(one[:12] for one in disk.copies(state)) or "none"
        raise BundleInvalid(
            f"{state} holds no bundle {to[:64]!r}.",
            f"There are: {there}; a whole digest is looked for at the agent, too.",
        )
    return fitting[0]


def _wait(state: Path, digest: str, seconds: float) -> None:
    from client.edge import state as disk

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = disk.read_state(state)
        if found is not None and found.current == digest:
            return
        time.sleep(0.1)
    cause = f"{digest[:12]} is not in force after {seconds:g} s."
    raise FileTrouble(cause, "Is the scorer running, and does its source deliver? The request stays.")
