"""The commands of the edge, as `crossplant client ...`. Heavy imports wait for a command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.edge.alarms_cli import alarms_app
from client.edge.page.cli import page
from client.edge.swap_cli import rollback

BundleOption = Annotated[
    Path, typer.Option("--bundle", metavar="DIR", help="A bundle, or the SITE.bundle folder that an agent publishes.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `crossplant client`."""
    app.command("score")(score)
    app.command("rollback")(rollback)
    app.command("page")(page)
    app.add_typer(alarms_app)


def score(
    bundle: BundleOption,
    source: Annotated[
        str, typer.Option("--source", metavar="WHERE", help="FILE, - (JSON lines), opc.tcp://... or mqtt://...")
    ] = "",
    speed: Annotated[str, typer.Option("--speed", help="Of a file: max, 1x, 100x.")] = "max",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="End after so many scores.")] = None,
    sinks: Annotated[
        list[str] | None,
        typer.Option(
            "--sink",
            metavar="WHERE",
            help="FILE.jsonl, FILE.sqlite, mqtt://..., https://..., opc.tcp://..., metrics://...; may be given again. "
            "Default: scores to -.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The plant's edge.toml.")] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="What outlives the process; may be empty at first.")
    ] = None,
    trust: Annotated[
        Path | None, typer.Option("--trust", metavar="FILE", help="The agent's bundle.pub; else the first key counts.")
    ] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, max=100, help="Tags named in a score; 5.")] = None,
    source_set: Annotated[
        list[str] | None,
        typer.Option("--source-set", metavar="NAME=VALUE", help="A setting of the source; may be given again."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Use the bundle's graph in 8 bits.")] = False,
) -> None:
    """Score live or recorded readings; one JSON object a score on standard output. Needs no server and no torch."""
    from client.edge.main import Parameters, become

    given = {"config": config, "state": state, "trust": trust}
    become(
        Parameters(
            bundle=str(bundle),
            source=source,
            speed=speed,
            limit=limit,
            sinks=tuple(sinks or ()),
            top=top,
            source_set=tuple(source_set or ()),
            int8=int8,
            **{name: str(path) for name, path in given.items() if path is not None},
        )
    )
