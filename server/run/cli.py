"""`crossplant server`: run the coordinator, start runs on it. Heavy imports wait until the options are parsed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

server_app = typer.Typer(
    name="server", help="Run the coordinator; start runs on it.", no_args_is_help=True, add_completion=False
)

Federation = Annotated[Path, typer.Option(help="The federation's folder.", metavar="DIR")]
Store = Annotated[str | None, typer.Option(help="Round store; default: the federation's folder.", metavar="DIR|URL")]
ItsStore = Annotated[str | None, typer.Option("--store", help="Default: the running server's.", metavar="DIR|URL")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="How long plants take part in it.")]


@server_app.command("run")
def run(
    federation: Federation,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - plants dial in
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; default: the federation's.", min=0, max=65535)
    ] = None,
    store: Store = None,
    mutual: Annotated[bool, typer.Option("--mutual-tls", help="Plants must show a certificate, too.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS and no keys; loopback only.")] = False,
) -> None:
    """Serve plants until interrupted: SuperLink, executor and TLS gateway, watched and restarted."""
    from server.provision.federation import read
    from server.run.place import ServerPlace
    from server.run.runs import whole_location
    from server.run.serve import INSECURE, ServeSettings, serve, until_signal
    from shared.pki.keys import PASSPHRASE

    os.environ.pop(PASSPHRASE, None)  # what unlocks the keys that sign is not for the processes that plants talk to
    place = ServerPlace.of(federation)
    if insecure:
        _say(INSECURE)
        host = "127.0.0.1"
    number = read(place.root).settings.port if port is None else port
    settings = ServeSettings(place, host, number, whole_location(place, store), insecure, mutual)
    with until_signal() as until:
        serve(settings, until, _say)


@server_app.command("start-run")
def start_run(
    federation: Federation,
    settings: Annotated[Path, typer.Option("--settings", help="A TOML file of run settings.", metavar="FILE")],
    plants: Annotated[str | None, typer.Option(help="Names, with commas; default: all approved.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    valid_days: Days = 30,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="For plants whose policy names no signers.")] = False,
    store: ItsStore = None,
) -> None:
    """Start a run with named plants, signed by the operator. It goes on by itself after any failure, to its plan's end.

    The file may be empty: its settings lie over defaults for plants that need not trust each other (robust aggregation,
    equal weights, votes); deploy/examples/run.toml is one. CROSSPLANT_CA_PASSPHRASE unlocks the key that signs.
    """
    from server.private import planned
    from server.provision.signing import sign_run
    from server.run.place import ServerPlace
    from server.run.runs import ask_for, told_store
    from server.run.serve import approved
    from shared.config import TRUSTED, build
    from shared.errors import UnknownName
    from shared.privacy.defaults import private_layers

    place = ServerPlace.of(federation)
    place.read_endpoint()
    known = approved(place)
    roster = tuple(sorted({part.strip() for part in plants.split(",")})) if plants else known
    for plant in roster:
        if plant not in known:
            raise UnknownName("approved plant", plant, list(known))
    asked = _read(settings)
    config = planned(build({"federation": TRUSTED, **private_layers(asked), str(settings): asked})[0])
    now = datetime.now(UTC)
    run = name or f"run-{now:%Y%m%d-%H%M%S}"
    signature = "" if unsigned else sign_run(place.root, run, config, roster, now, valid_days)
    ask_for(place, store or told_store(place), run, config, roster, signature)
    typer.echo(f"Run {run} was given to {len(roster)} plants: {', '.join(roster)}.")


@server_app.command("resume-run")
def resume_run(
    federation: Federation,
    name: Annotated[str, typer.Option(help="Name of the run.")],
    store: ItsStore = None,
) -> None:
    """Go on with a run that failed, at its last committed round, once what made it fail is mended."""
    from server.run.place import ServerPlace
    from server.run.runs import ask_again, told_store

    place = ServerPlace.of(federation)
    place.read_endpoint()
    ask_again(place, store or told_store(place), name)
    typer.echo(f"Run {name} goes on.")


@server_app.command("sign-run")
def sign_again(
    federation: Federation,
    name: Annotated[str, typer.Option(help="Name of the run.")],
    valid_days: Days = 30,
    store: ItsStore = None,
) -> None:
    """Sign a run that is not over anew: its signature is about to end, or the key was replaced.

    The settings and the plants stay; a process that carries the run uses the new signature from its next request on.
    """
    from server.provision.signing import sign_run
    from server.run.place import ServerPlace
    from server.run.runs import Submission, create_store, notes_of, told_store
    from shared.errors import RoundNotFound

    place = ServerPlace.of(federation)
    note = next((found for found in notes_of(place, name) if found.is_file()), None)
    if note is None:
        raise RoundNotFound(f"no run {name[:80]!r} is under way.", "`crossplant server start-run` starts one.")
    with create_store(place, store or told_store(place)) as opened:
        plants = Submission.read(note).roster
        opened.sign_run(name, sign_run(place.root, name, opened.config(name), plants, datetime.now(UTC), valid_days))
    typer.echo(f"Run {name} is signed for {valid_days} days.")


@server_app.command("status")
def status(federation: Federation) -> None:
    """Which process serves, which runs are under way, and for whom a round waits just now."""
    import time

    from server.notice import read_waits
    from server.run.place import ServerPlace
    from server.store.views import plain

    place = ServerPlace.of(federation)
    endpoint = place.read_endpoint()
    typer.echo(f"The coordinator serves plants on port {endpoint.gateway}, process {endpoint.pid}.")
    runs = sorted(path.stem for path in place.runs.glob("*.json"))
    typer.echo(plain(f"Runs under way: {', '.join(runs) or 'none'}."))
    if (waits := read_waits(place.waits, now := time.time())) is not None:
        typer.echo(plain(f"{waits.words(now)}."))


def _read(settings: Path) -> dict[str, Any]:
    from shared.config import read_toml
    from shared.errors import InvalidConfig

    try:
        return read_toml(settings)
    except InvalidConfig as error:  # its texts speak of presets
        raise InvalidConfig(error.cause.replace("the preset ", ""), "Check --settings.") from error


def _say(line: str) -> None:
    from server.store.views import plain

    typer.echo(f"{datetime.now(UTC):%H:%M:%S} {plain(line)}", err=True)
