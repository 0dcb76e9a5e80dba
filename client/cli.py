"""`crossplant client`: what runs at one plant, and what it says about it.

Errors are `CrossplantError`s, which the front door reports. Heavy imports wait for a command.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.edge.cli import register
from client.thresholds_cli import thresholds

if TYPE_CHECKING:
    from client.agent.config import Plant
    from client.run.supernode import Plant as Processes

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The plant's plant.toml.")]
State = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="The relay's own folder; default: the agent's home.")
]

client_app = typer.Typer(
    name="client",
    help="Run a plant, score its live data; read its audit log.",
    no_args_is_help=True,
    add_completion=False,
)
register(client_app)
client_app.command("thresholds")(thresholds)


@client_app.command("agent")
def agent(config: Config = Path("plant.toml")) -> None:
    """Serve the plant's data to its relay on a Unix socket, under the plant's policy, until SIGTERM or SIGINT."""
    stop = _Stop()
    with _signalled(stop.ask):
        drained = _serve(config, stop)
    if not drained:
        sys.stderr.flush()
        os._exit(0)  # a thread still computes, and would keep the process for as long as it likes


@client_app.command("status")
def status(config: Config = Path("plant.toml"), state: State = None) -> None:
    """Whether the plant's agent is ready: exit code 0 or 1. Also says how the line to the coordinator stands."""
    from client.agent.config import read_plant
    from client.agent.wire import ready
    from client.run.note import read_note
    from client.run.supernode import NOTE
    from shared.errors import AgentUnreachable

    plant = read_plant(config)
    line = read_note((plant.home if state is None else state) / NOTE)
    typer.echo(f"coordinator: {_plain(line or 'this plant never dialled it')}")
    if not ready(plant.socket):
        raise AgentUnreachable(f"no agent is ready at {plant.socket}.")
    typer.echo(f"agent: ready at {plant.socket}")


@client_app.command("audit")
def audit(
    config: Config = Path("plant.toml"),
    check: Annotated[bool, typer.Option("--verify", help="Check the chain instead of printing the lines.")] = False,
) -> None:
    """Print the audit log, one JSON object a line; or check that no line was changed, removed or put in."""
    from client.agent.audit import lines, verify
    from client.agent.config import read_plant

    folder = read_plant(config).audit
    if check:
        mark = verify(folder)
        if not mark.number:
            typer.echo(f"No request was logged yet in {folder}.")
            return
        typer.echo(f"{mark.number:,} lines, the chain holds; the newest has {mark.digest}")
        return
    for _, line in lines(folder):
        typer.echo(line.decode("ascii", errors="backslashreplace"))


@client_app.command("policy")
def policy(config: Config = Path("plant.toml")) -> None:
    """Print the policy that is in force, defaults included, and its digest in the audit log."""
    from client.agent.config import read_plant
    from client.agent.policy import read_policy

    found = read_policy(read_plant(config).policy)
    typer.echo(found.model_dump_json(indent=2, by_alias=True))
    typer.echo(f"digest {found.digest}", err=True)


@client_app.command("run")
def run(
    config: Config = Path("plant.toml"),
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS and no key; loopback only.")] = False,
    relay_only: Annotated[
        bool, typer.Option("--relay-only", help="The agent runs elsewhere on this machine, as another user.")
    ] = False,
    state: State = None,
) -> None:
    """Run the plant: agent, SuperNode and relay, each started again when it ends, until SIGTERM or SIGINT."""
    from client.agent.config import read_plant
    from client.run import supernode

    if insecure:
        _say(supernode.INSECURE)
    stop = threading.Event()
    with _signalled(stop.set):
        plant = _processes(config.absolute(), read_plant(config), insecure)
        plant = replace(plant, home=state.absolute()) if state else plant
        supernode.run(replace(plant, agent=None) if relay_only else plant, stop.is_set, _say)


def _serve(config: Path, stop: threading.Event) -> bool:
    from client.agent.config import read_plant
    from client.agent.logs import log_to_stderr

    plant = read_plant(config)
    log_to_stderr(plant.config.agent.log)
    from client.agent.runtime import serve

    return serve(plant, stop)


def _processes(path: Path, plant: Plant, insecure: bool) -> Processes:
    """What the supervisor needs of a `plant.toml`."""
    from client.run.supernode import Plant as Processes
    from shared.errors import InvalidConfig

    config = plant.config
    if config.superlink is None:
        raise InvalidConfig(f"{path}: superlink is missing.", "Write superlink = 'HOST:PORT' of the coordinator.")
    return Processes(
        name=config.name,
        home=plant.home,
        superlink=config.superlink,
        root_certificates=None if insecure else plant.authority,
        node_key=None if insecure else plant.node_key,
        shown=None if insecure else plant.shown,
        agent=(str(Path(sys.executable).with_name("crossplant")), "client", "agent", "--config", str(path)),
        socket=plant.socket,
        relay={"CROSSPLANT_PLANT": config.name},
    )


@contextmanager
def _signalled(caught: Callable[[], None]) -> Iterator[None]:
    """Call `caught` on SIGTERM and SIGINT."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: caught()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Stop(threading.Event):
    """An event that ends the command at once while nobody waits for it yet, as when data is read."""

    _awaited = False

    def wait(self, timeout: float | None = None) -> bool:
        self._awaited = True
        return super().wait(timeout)

    def ask(self) -> None:
        """Ask for the end."""
        self.set()
        if not self._awaited:
            raise SystemExit(0)


def _plain(line: str) -> str:
    """Without what a terminal would obey: a server's words may be among it."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)


def _say(line: str) -> None:
    typer.echo(f"{datetime.now(UTC):%H:%M:%S} {line}", err=True)
