"""`crossplant report`: one page of a run, to be sent. Heavy imports wait until the options are parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

report_app = typer.Typer(name="report", no_args_is_help=True, add_completion=False)


@report_app.command("report")
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.", show_default=False)],
    store: Annotated[str, typer.Option("--store", metavar="DIR|URL", help="A run folder, or a database URL.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The HTML file; an earlier report is replaced.")],
    png: Annotated[
        Path | None, typer.Option("--png", metavar="DIR", help="Write the pictures as PNG files, too.")
    ] = None,
) -> None:
    """Write one self-contained HTML file of a run for the people at a plant: what happened, for whom, what to do next.

    It loads nothing and runs nothing. A run that failed, has just begun or is under way has a report as well.
    """
    from server.report.material import gather
    from server.report.write import check_places, write_report
    from server.store.words import plain

    check_places(out, png)
    for path in write_report(out, gather(store, run), png):
        typer.echo(plain(str(path)))
