"""`crossplant poc`: a whole federation on this machine, as real processes. Heavy imports wait for a command."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shared.config import RunConfig
    from shared.supervise import Supervisor
    from simulations.poc import Poc

poc_app = typer.Typer(
    name="poc",
    help="A whole federation on this machine, as real processes.",
    no_args_is_help=True,
    add_completion=False,
)

_SMALL = {
    "data.dataset": "generated",
    "data.rows": 2000,
    "recipe.training.stride": 8,
    "recipe.training.local_epochs": 1,
    "recipe.clustering.seed_steps": 1,
    "recipe.clustering.refine_steps": 1,
    "recipe.clustering.refresh_every": 0,
    "rounds.deadline_s": 300.0,
    "rounds.grace_s": 60.0,
}
"""A federation that shows that it works, not how well: few exchanges, little data."""


@poc_app.command("up")
def up(
    out: Annotated[Path, typer.Option(help="Folder to make.", metavar="DIR")],
    plants: Annotated[int, typer.Option(min=2, max=20, help="How many plants.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Training rounds.")] = 3,
    dataset: Annotated[str | None, typer.Option(help="generated (default), twin-swat or twin-wadi.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, as NAME=VALUE.", metavar="NAME=VALUE")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running; `poc down DIR` ends it.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Without TLS and keys.")] = False,
    mutual: Annotated[bool, typer.Option("--mutual-tls", help="Plants must show certificates, too.")] = False,
) -> None:
    """Make plants, keys and certificates, start everything with TLS and node keys, run rounds, and tear it down."""
    from server.run.serve import INSECURE
    from shared.supervise import Supervisor
    from simulations.poc import Poc, PocFolder, make

    config = _config(plants, rounds, dataset, setting or [])
    run = f"poc-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    poc = Poc(PocFolder(Path(os.path.abspath(out))), config, run, insecure, keep, mutual)
    if insecure:
        _say(INSECURE)
    names = make(poc)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Supervisor(_say) as children:
        _conduct(poc, names, children)
        if not keep:
            children.end(*names)
        else:
            children.let_go()
            plant = poc.folder.plants / names[0] / "plant.toml"
            _say(
                f"Left running. The operator's look: crossplant server status --federation {poc.folder.federation}\n"
                f"A plant's: crossplant client status --config {plant}; client audit\n"
                f"The end: crossplant poc down {poc.folder.root}"
            )


def _conduct(poc: Poc, names: tuple[str, ...], children: Supervisor) -> None:
    from rich.console import Console

    from simulations import poc as proof
    from simulations.progress import round_line

    proof.up(poc, children, _say)
    if poc.keep:
        proof.write_pids(poc.folder, children.pids())
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    proof.carry(poc, names, children, lambda record: console.print(round_line(record)))
    _say(f"Run {poc.run} is finished: `crossplant rounds list --store {poc.folder.root}`.")


@poc_app.command("down")
def down(folder: Annotated[Path, typer.Argument(help="What `poc up --keep` left.", metavar="DIR")]) -> None:
    """End a federation that `poc up --keep` left running; its folder stays."""
    from simulations.poc import PocFolder
    from simulations.poc import down as end

    ended = end(PocFolder(Path(os.path.abspath(folder))))
    _say(f"Ended: {', '.join(ended) or 'nothing was running'}.")


def _config(plants: int, rounds: int, dataset: str | None, settings: list[str]) -> RunConfig:
    from shared.config import TRUSTED, flatten
    from shared.errors import UnknownName
    from simulations.made import MADE
    from simulations.settings import layered

    if dataset is not None and dataset not in MADE:
        raise UnknownName("made data set", dataset, list(MADE))
    given = dict(flatten(TRUSTED)) | _SMALL | {"data.sites": plants} | ({"data.dataset": dataset} if dataset else {})
    return layered(None, given, rounds, settings)[0]


def _say(line: str) -> None:
    typer.echo(line, err=True)
