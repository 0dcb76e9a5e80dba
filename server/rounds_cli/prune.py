"""`crossplant rounds prune`: old rounds' models and states go, what was measured stays."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.rounds_cli.options import AsJson, Store, me, opened, opened_to_change
from server.rounds_cli.printing import print_json, print_lines

if TYPE_CHECKING:
    from server.store.retention import Policy, Pruned


def prune(
    store: Store,
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", min=1, help="The newest N rounds of each run stay.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Rounds that began later stay.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="NAME", help="Only this run; default: all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove models and states of old rounds; never a promoted model, nor what a run resumes from."""
    from server.store.retention import Policy, foresee
    from server.store.retention import prune as carry_out

    policy = Policy(keep, older_than)
    if dry_run:
        there, _ = opened(store, run)
        return _tell(foresee(there, policy, run), policy, as_json, "would go")
    there, _ = opened_to_change(store, run)
    if not yes:
        typer.echo(_words(foresee(there, policy, run), "would go")[0], err=True)
        _ask()
    return _tell(carry_out(there, policy, me(), run), policy, as_json, "went")


def _ask() -> None:
    from shared.errors import InvalidConfig

    try:
        sure = typer.confirm("They cannot be brought back. Remove them?", err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise  # Ctrl-C
        raise InvalidConfig("nobody answered whether they may go; nothing was removed.", "Give --yes.") from None
    if not sure:
        raise typer.Abort


def _tell(found: Pruned, policy: Policy, as_json: bool, verb: str) -> None:
    return print_json(entry(found, policy)) if as_json else print_lines(_words(found, verb))


def entry(found: Pruned, policy: Policy) -> dict[str, Any]:
    """What went, in JSON."""
    rounds = {run: list(numbers) for run, numbers in found.rounds.items()}
    told = {"keep": policy.keep, "older_than_days": policy.older_than_days, "rounds": rounds}
    return told | {"files": found.files, "bytes": found.bytes, "later": found.later}


def _words(found: Pruned, verb: str) -> list[str]:
    from server.store.words import size, some, spans

    rounds = sum(map(len, found.rounds.values()))
    lines = [f"{some(rounds, 'state')} and {some(found.files, 'file')} ({size(found.bytes)}) {verb}."]
    lines += [f"  run {run}: rounds {spans(numbers)}" for run, numbers in found.rounds.items()]
    if found.later:
        lines.append(
            f"{some(found.later, 'file')} stay for now: a writer may be about to need them. Prune again later."
        )
    return lines
