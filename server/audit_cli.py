"""`crossplant audit`: who changed what in a round store, when and why; and whether the log is what it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.rounds_cli.options import AsJson, Store
from server.rounds_cli.printing import print_json, print_lines, print_table

if TYPE_CHECKING:
    from server.store.auditlog import Entry

audit_app = typer.Typer(
    name="audit", help="Who changed what, and why; check the log's chain.", no_args_is_help=True, add_completion=False
)

_COLUMNS = ("#", "at", "who", "action", "target")
_MINUTE = 16  # characters of a time down to its minute


@audit_app.command("list")
def list_entries(
    store: Store,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, max=10_000, help="The newest so many.")] = 50,
    before: Annotated[int | None, typer.Option("--before", metavar="N", min=1, help="Only entries before N.")] = None,
    as_json: AsJson = False,
) -> None:
    """One line an entry and its reason below it, the newest last."""
    from server.store import auditlog
    from server.store.store import RoundStore

    with RoundStore.open(store, look=True).session() as session:
        found = auditlog.entries(session, before, last)[::-1]
    if as_json:
        return print_json({"entries": [dataclasses.asdict(entry) for entry in found]})
    if not found:
        return print_lines(["Nobody has changed anything yet."])
    return print_table(_COLUMNS, [_row(entry) for entry in found], 5, [_why(entry.detail) for entry in found])


@audit_app.command("verify")
def verify(
    store: Store,
    head: Annotated[
        str | None, typer.Option("--head", metavar="DIGEST", help="Of an earlier `verify`: it must still be in there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read the whole chain; with --head also see that its end was not taken off. Prints the present head: keep it."""
    from server.store.auditing import verified
    from server.store.store import RoundStore

    verdict = verified(RoundStore.open(store, look=True), head)
    if as_json:
        print_json(dataclasses.asdict(verdict) | {"holds": verdict.holds})
    else:
        print_lines(verdict.words())
    if not verdict.holds:
        raise typer.Exit(1)


def _row(entry: Entry) -> tuple[str, ...]:
    at = entry.at[:_MINUTE].replace("T", " ")
    return (str(entry.seq), at, entry.who, entry.action, entry.target)


def _why(detail: Mapping[str, Any]) -> str:
    """The reason, or else whatever there is to know."""
    from server.store.words import brief

    if isinstance(why := detail.get("why"), str):
        return why
    return ", ".join(f"{name} {brief(value)}" for name, value in detail.items())
