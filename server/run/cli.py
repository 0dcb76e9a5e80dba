"""`crossplant server`: run the coordinator, start runs on it. Heavy imports wait until the options are parsed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

server_app = typer.Typer(
    name="server", help="Run the coordinator; start runs on it.", no_args_is_help=True, add_completion=False
)

Federation = Annotated[Path, typer.Option(help="The federation's folder.", metavar="DIR")]
Store = Annotated[str | None, typer.Option(help="Round store; default: the federation's folder.", metavar="DIR|URL")]


@server_app.command("run")
def run(
    federation: Federation,
    host: Annotated[str, typer.Option(help="Address that plants dial.")] = "0.0.0.0",  # noqa: S104 - plants dial in
    port: Annotated[
        int | None, typer.Option(help="Port that plants dial; default: the federation's.", min=0, max=65535)
    ] = None,
    store: Store = None,
    mutual: Annotated[bool, typer.Option("--mutual-tls", help="Plants must show a certificate, too.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS and no keys; loopback only.")] = False,
) -> None:
    """Serve plants until interrupted: SuperLink, executor and TLS gateway, watched and restarted."""
    from server.provision.federation import read
    from server.run.place import ServerPlace
    from server.run.serve import INSECURE, ServeSettings, serve, until_signal

    place = ServerPlace.of(federation)
    if insecure:
        _say(INSECURE)
        host = "127.0.0.1"
    number = read(place.root).settings.port if port is None else port
    settings = ServeSettings(place, host, number, store or str(place.root), insecure, mutual)
    with until_signal() as until:
        serve(settings, until, _say)


@server_app.command("start-run")
def start_run(
    federation: Federation,
    settings: Annotated[Path, typer.Option("--settings", help="A TOML file of run settings.", metavar="FILE")],
    plants: Annotated[str | None, typer.Option(help="Names, with commas; default: all approved.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    store: Store = None,
) -> None:
    """Start a run with named plants. It goes on by itself after any failure, until its plan is done.

    Plants need not trust each other: what the file leaves open is robust aggregation, equal weights, votes.
    """
    from server.run.place import ServerPlace
    from server.run.runs import ask_for
    from server.run.serve import approved
    from shared.config import TRUSTED, build, read_toml
    from shared.errors import UnknownName

    place = ServerPlace.of(federation)
    place.read_endpoint()
    known = approved(place)
    roster = tuple(sorted({part.strip() for part in plants.split(",")})) if plants else known
    for plant in roster:
        if plant not in known:
            raise UnknownName("approved plant", plant, list(known))
    config, _ = build({"federation": TRUSTED, str(settings): read_toml(settings)})
    run = name or f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    ask_for(place, store or str(place.root), run, config, roster)
    typer.echo(f"Run {run} was given to {len(roster)} plants: {', '.join(roster)}.")


def _say(line: str) -> None:
    from server.store.views import plain

    typer.echo(f"{datetime.now(UTC):%H:%M:%S} {plain(line)}", err=True)
