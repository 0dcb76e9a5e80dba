"""`crossplant store`: copy a round store into a file and back, check it, bring it up to date.

Data goes to stdout; every error is a `CrossplantError`, which the front door reports. Heavy imports wait for a command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.rounds_cli.options import AsJson, Store
from server.rounds_cli.printing import print_json, print_lines

if TYPE_CHECKING:
    from server.store.check import Checked
    from server.store.restore import Restored

store_app = typer.Typer(
    name="store", help="Back up, restore, check and migrate a round store.", no_args_is_help=True, add_completion=False
)

_NAMED = 10


@store_app.command("backup")
def backup(
    store: Store,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The backup; it must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Write database and models to one file, while a run goes on if there is one."""
    from server.store.backup import back_up
    from server.store.store import RoundStore
    from server.store.words import size, some

    done = back_up(RoundStore.open(store, look=True), to)
    if as_json:
        told = {"file": str(done.file), "bytes": done.bytes, "models": done.models, "missing": list(done.missing)}
        return print_json(told)
    lines = [f"{done.file}: the database and {some(done.models, 'model file')}, {size(done.bytes)}."]
    return print_lines([*lines, *_missing(done.missing)])


@store_app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `store backup` wrote.")],
    store: Store,
    models: Annotated[
        Path | None, typer.Option("--models", metavar="DIR", help="With a URL: the folder for model files.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a store of a backup, where there is none: whole, or not at all."""
    from server.store.restore import restore as carry_out

    done = carry_out(file, store, models)
    if as_json:
        told = {"made": done.made, "runs": done.runs, "rounds": done.rounds, "models": done.models}
        return print_json(told | {"missing": list(done.missing), "audit_broken_at": done.broken})
    return print_lines(_restored(store, done))


@store_app.command("check")
def check(store: Store, as_json: AsJson = False) -> None:
    """Read all of a store: the database, every model file that is needed, and the chain of the audit log."""
    from server.store.check import check as carry_out
    from server.store.store import RoundStore

    found = carry_out(RoundStore.open(store, look=True))
    if as_json:
        told = {"whole": found.whole, "database": found.database, "files": found.files, "bytes": found.bytes}
        told |= {"missing": list(found.missing), "damaged": list(found.damaged), "unneeded": found.unneeded}
        print_json(told | {"audit_entries": found.entries, "audit_broken_at": found.broken})
    else:
        print_lines(_checked(found))
    if not found.whole:
        raise typer.Exit(1)


@store_app.command("migrate")
def migrate(store: Store, as_json: AsJson = False) -> None:
    """Bring the tables of an older store up to date."""
    from server.store.migrate import HEAD
    from server.store.store import RoundStore
    from server.store.upgrading import migrate as carry_out

    before = carry_out(RoundStore.open(store))
    if as_json:
        return print_json({"before": before, "now": HEAD})
    if before == HEAD:
        return print_lines([f"The store is of version {HEAD} already."])
    return print_lines([f"The store was of version {before or 'none'} and is of version {HEAD} now."])


@store_app.command("export-mlflow")
def export_mlflow(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Which run.")],
    store: Store,
    uri: Annotated[str, typer.Option("--uri", metavar="URI", help="MLflow's tracking URI.")],
    experiment: Annotated[str, typer.Option("--experiment", metavar="NAME", help="Its name there.")] = "crossplant",
    as_json: AsJson = False,
) -> None:
    """Enter a run's settings and figures in MLflow; again, only what is new."""
    from server.store.mlflow_export import export_run
    from server.store.store import RoundStore
    from server.store.words import some

    done = export_run(RoundStore.open(store, look=True), run, uri, experiment)
    if as_json:
        return print_json({"id": done.id, "rounds": done.rounds})
    return print_lines([f"Run {run} is run {done.id} there; {some(done.rounds, 'round')} entered."])


# ---- printing ----


def _missing(names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    more = [f"  and {len(names) - _NAMED} more"] if names[_NAMED:] else []
    return ["Not in it, for the store lost them:", *(f"  {name}" for name in names[:_NAMED]), *more]


def _restored(store: str, done: Restored) -> list[str]:
    from server.store.words import some

    what = f"{some(done.runs, 'run')}, {some(done.rounds, 'round')}, {some(done.models, 'model file')}"
    lines = [f"{store} holds what was backed up on {done.made}: {what}.", *_missing(done.missing)]
    return lines if done.broken is None else [*lines, f"Its audit log does not hold from entry {done.broken} on."]


def _checked(found: Checked) -> list[str]:
    from server.store.words import size, some

    lines = [f"database: {found.database}"]
    lines.append(f"model files: {some(found.files, 'whole one')}, {size(found.bytes)}; {found.unneeded} unneeded")
    lines += [f"  missing: {name}" for name in found.missing[:_NAMED]]
    lines += [f"  damaged: {name}" for name in found.damaged[:_NAMED]]
    hidden = len(found.missing[_NAMED:]) + len(found.damaged[_NAMED:])
    lines += [f"  and {hidden} more"] if hidden else []
    held = "the chain holds" if found.broken is None else f"the chain is broken at entry {found.broken}"
    return [*lines, f"audit log: {found.entries} entries, {held}"]
