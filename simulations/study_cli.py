"""`crossplant study`. Heavy imports wait until the options are parsed."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.cli import INTERRUPTED

if TYPE_CHECKING:
    from simulations.study.effective import Asked
    from simulations.study.run import Results

study_app = typer.Typer(add_completion=False)

_WHAT, _HOW, _MORE = "What is compared", "How", "Beside it"


@study_app.command("study")
def study(
    datasets: Annotated[
        str,
        typer.Option(
            help="Names, with commas: folders of --data by what they hold (batadal, skab, msl, smap, tep, secom, swat, "
            "wadi, smd), a plant's own exports by their folder's name; twin-swat, twin-wadi, generated; or all.",
            rich_help_panel=_WHAT,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; one that was begun is continued.", metavar="DIR")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that holds the data sets' folders.", metavar="ROOT", rich_help_panel=_WHAT),
    ] = None,
    detectors: Annotated[
        str,
        typer.Option(
            help="Names, with commas: crossplant (the default recipe), paper, a registered detector, lag, a library "
            "baseline; or all.",
            rich_help_panel=_WHAT,
        ),
    ] = "crossplant",
    modes: Annotated[
        str,
        typer.Option(help="Of local, federated, central, private (federated+dp).", rich_help_panel=_WHAT),
    ] = "local,federated,central",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="How many, from 0.", rich_help_panel=_WHAT)] = 3,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Training rounds of every detector.", rich_help_panel=_HOW)
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, as NAME=VALUE, for all.", metavar="NAME=VALUE", rich_help_panel=_HOW),
    ] = None,
    epsilon: Annotated[
        float, typer.Option(min=0.001, max=100, help="Budget of the mode private.", rich_help_panel=_HOW)
    ] = 8.0,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Cells at once; default one a core.", rich_help_panel=_HOW)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Four rounds, three sites, short made plants.", rich_help_panel=_HOW)
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="`paper` with all of its 100 rounds, not 20.", rich_help_panel=_HOW)
    ] = False,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="The default recipe's switches as well.", rich_help_panel=_MORE)
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Score disturbed test rows as well.", rich_help_panel=_MORE)
    ] = False,
) -> None:
    """Compare detectors on data sets, each trained alone, federated and on pooled data, and write one report.

    The folder gets study.json (what is compared, written before any data is read), results.json and report.html.
    """
    from simulations.study.effective import Asked

    asked = Asked(
        datasets=_names(datasets, "--datasets"),
        detectors=_names(detectors, "--detectors"),
        modes=_names(modes, "--modes"),
        seeds=seeds,
        rounds=rounds,
        epsilon=epsilon,
        settings=tuple(setting or ()),
        quick=quick,
        full=full,
        with_ablations=ablations,
        with_robustness=robustness,
    )
    _run(asked, data, Path(os.path.abspath(out)), workers or os.cpu_count() or 1)


def _names(text: str, option: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise typer.BadParameter("no name was given", param_hint=option)
    return names


def _run(asked: Asked, data: Path | None, out: Path, workers: int) -> None:
    from dataclasses import replace

    from simulations.study.datasets import choose
    from simulations.study.plan import StudyPlan, freeze
    from simulations.study.run import conduct

    sources = choose(asked.datasets, data)
    plan = StudyPlan.of(replace(asked, datasets=tuple(source.name for source in sources)))
    command = shlex.join(["crossplant", *sys.argv[1:]])
    freeze(out, plan, command)
    _say(f"study {plan.digest[:16]}: {len(plan.cells()[0])} cells")
    try:
        results = conduct(out, plan, sources, workers, _say)
    except KeyboardInterrupt:
        _say("Interrupted. The same command continues it.")
        raise typer.Exit(INTERRUPTED) from None
    _finish(out, results, command)


def _finish(out: Path, results: Results, command: str) -> None:
    from shared.errors import RunFailed
    from simulations.study.page import write_page
    from simulations.study.results import write

    write(out / "results.json", results, command)
    write_page(out, results, command)
    failed = {row.cell: row.error for row in results.rows if row.error and row.found is None}
    for cell, error in list(failed.items())[:12]:
        _say(f"not measured: {cell}: {error}")
    _say(f"results: {out / 'results.json'}")
    _say(f"report: {out / 'report.html'}")
    if len(failed) == len({row.cell for row in results.rows}):
        raise RunFailed("no cell of the study could be measured.", "results.json says why, cell by cell.")


def _say(line: str) -> None:
    typer.echo(line)
