"""`crossplant data`: check, show and list data sets, and make plants. Heavy imports wait until options are parsed."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

data_app = typer.Typer(
    name="data", help="Check, show and list data sets; make plants.", no_args_is_help=True, add_completion=False
)

ENVIRONMENT = "CROSSPLANT_DATA"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Place = Annotated[Path, typer.Argument(metavar="PATH", help="A folder or a file.", show_default=False)]


@data_app.command("check")
def check(path: Place, as_json: AsJson = False) -> None:
    """Say what a folder or file is, everything that is wrong with it, and what is done about it.

    Exit code 0: it can be used; 1: it cannot.
    """
    from client.ingest.doctor import examine
    from client.ingest.doctor.render import as_json as to_json
    from client.ingest.doctor.render import print_text

    report = examine(path)
    if as_json:
        typer.echo(to_json(report))
    else:
        from rich.console import Console

        print_text(report, Console())
    if not report.usable:
        raise typer.Exit(1)


@data_app.command("show")
def show(
    path: Place,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The page to write.")],
    dataset: Annotated[str | None, typer.Option(help="Data set; default: what the files say.", metavar="NAME")] = None,
    site: Annotated[str | None, typer.Option(help="Which site; default: the first.", metavar="NAME")] = None,
    tags: Annotated[str | None, typer.Option(help="Only these, separated by commas.", metavar="A,B")] = None,
    part: Annotated[Literal["both", "train", "test"], typer.Option(help="Which rows.")] = "both",
    first: Annotated[int, typer.Option("--from", min=0, help="First row to draw, from 0.", metavar="ROW")] = 0,
    end: Annotated[int | None, typer.Option("--to", min=1, help="Row to stop before.", metavar="ROW")] = None,
) -> None:
    """Draw a site's tags over time, with labels and recordings, as one HTML file that loads nothing.

    Rows count from the first training row on; with --part test from the first test row.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter("must end in .html", param_hint="--out")
    if end is not None and end <= first:
        raise typer.BadParameter("must be greater than --from", param_hint="--to")
    names = tuple(name.strip() for name in tags.split(",") if name.strip()) if tags is not None else None
    if names == ():
        raise typer.BadParameter("names no tag", param_hint="--tags")
    from simulations.show.choose import View, find_site
    from simulations.show.page import write_page

    chosen = find_site(path, dataset, site)
    drawn = write_page(out, chosen, View(part, first, end, names))
    _say(f"{drawn} of {len(chosen.site.schema.tags)} tags of {chosen.site.name} drawn: {out}")


@data_app.command("export")
def export(
    path: Place,
    out: Annotated[str, typer.Option(metavar="FILE.csv|-", help="File to write; - writes JSON lines to stdout.")],
    dataset: Annotated[str | None, typer.Option(help="Data set; default: what the files say.", metavar="NAME")] = None,
    site: Annotated[str | None, typer.Option(help="Which site; default: the first.", metavar="NAME")] = None,
    part: Annotated[Literal["both", "train", "test"], typer.Option(help="Which rows.")] = "test",
    first: Annotated[int, typer.Option("--from", min=0, help="First row to write, from 0.", metavar="ROW")] = 0,
    end: Annotated[int | None, typer.Option("--to", min=1, help="Row to stop before.", metavar="ROW")] = None,
) -> None:
    """Write a site's rows as readings that `crossplant client score` takes, without labels.

    PATH may also be a plant of a run: OUT/plants/NAME. The first row is of 2026-01-01T00:00Z.
    """
    if out != "-" and not out.lower().endswith(".csv"):
        raise typer.BadParameter("must end in .csv, or be -", param_hint="--out")
    if end is not None and end <= first:
        raise typer.BadParameter("must be greater than --from", param_hint="--to")
    from simulations.show.choose import View
    from simulations.show.readings import as_csv, as_lines, plant, rows

    chosen = plant(path, dataset, site)
    form = as_lines if out == "-" else as_csv
    text = form(chosen.schema.tags, rows(chosen, View(part, first, end)))
    if out == "-":
        for line in text:
            sys.stdout.write(line)
        return
    _store(Path(out), "".join(text).encode())
    _say(f"readings of {chosen.name}: {out}")


def _store(path: Path, data: bytes) -> None:
    from shared.disk import replace_file
    from shared.errors import FileTrouble

    try:
        replace_file(path, data)
    except OSError as error:
        raise FileTrouble(f"{_shown(path)} cannot be written: {error.strerror or error}.") from error


@data_app.command("list")
def list_sets(
    data: Annotated[
        Path | None, typer.Option(help=f"Folder to look into; default: {ENVIRONMENT}.", metavar="DIR")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Known data sets, what each needs, how it is split, and where it lies."""
    from simulations.show.inventory import inventory

    given = os.environ.get(ENVIRONMENT)
    root = data or (Path(given) if given else None)
    entries = inventory(root)
    if as_json:
        typer.echo(json.dumps({"format": 1, "data": _shown(root) if root else None, "datasets": entries}, indent=1))
        return
    for entry in entries:
        _say(f"{entry['name']}: {entry['title']}")
        _say(f"  needs      {entry['needs']}")
        _say(f"  partition  {entry['partition']}")
        _say(f"  here       {entry['path'] or 'no'}{' (' + entry['version'] + ')' if entry['version'] else ''}")
    _say(f"looked into {_shown(root)}" if root else f"Give --data DIR or set {ENVIRONMENT} to see what is there.")


@data_app.command("make")
def make(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make, one folder a plant in it.")],
    plants: Annotated[int, typer.Option(min=1, max=1_000, help="How many plants.")] = 1,
    days: Annotated[float, typer.Option(min=0.05, max=31, help="Days of normal operation a plant.")] = 1.0,
    layout: Annotated[Literal["swat", "wadi"], typer.Option(help="Whose tags and files.")] = "swat",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Another seed, other plants.")] = 0,
    xlsx: Annotated[bool, typer.Option("--xlsx", help="Workbooks, as SWaT is issued; half a minute a day.")] = False,
) -> None:
    """Simulate water plants and write their files in the official layout of SWaT or WADI."""
    if math.isnan(days):  # Every comparison with it is false, so the bounds above let it pass.
        raise typer.BadParameter("must be a number", param_hint="--days")
    from rich.console import Console
    from rich.progress import Progress

    from simulations.twin.make import make as simulate

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("plants", total=plants)
        folders = simulate(
            plants=plants,
            days=days,
            layout=layout,
            seed=seed,
            out=out,
            xlsx=xlsx,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for folder in folders:
        _say(_shown(folder))
    _say(f"check one with: crossplant data check {shlex.quote(_shown(folders[0]))}")


def _shown(path: Path) -> str:
    """A path that may not be UTF-8, as text."""
    from client.ingest.doctor.findings import shown

    return shown(path)


def _say(line: str) -> None:
    from client.ingest.doctor.render import plain

    typer.echo(plain(line))
