"""`crossplant client run`: a plant's processes under one supervisor. They dial out; nothing at the plant is dialled.

- the **agent** owns the data, the model and the policy, and listens on a Unix socket only;
- the **SuperNode** holds the plant's node key and polls the coordinator's gateway over TLS;
- the **executor** forks the relay (`client.app`), which passes packets between the two and sees no data.

A SuperNode that was killed is refused (Flower's exit code 305) until the coordinator has missed its heartbeats, up to a
minute: it is started again for as long as that takes.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import FileTrouble
from shared.flower_process import LOOPBACK, environment, free_port
from shared.supervise import Spec, Supervisor

INSECURE = (
    "WARNING: --insecure: no TLS and no key. The coordinator is not checked, the models can be read on the way, and "
    "anybody can answer as this plant. For trying things out on one machine only."
)


@dataclass(frozen=True)
class Plant:
    """What a plant's processes need to know.

    Attributes:
        name: of the plant.
        home: folder for state and logs; made when missing.
        superlink: `host:port` of the coordinator's gateway.
        root_certificates: the federation's authority; None without TLS.
        node_key: the plant's private key; None without TLS.
        agent: command that serves the agent on `socket`; None when the relay calls an agent in its own process.
        socket: the agent's.
        relay: variables of the relay, laid over those above.
    """

    name: str
    home: Path
    superlink: str
    root_certificates: Path | None
    node_key: Path | None
    agent: tuple[str, ...] | None = None
    socket: Path | None = None
    relay: Mapping[str, str] = field(default_factory=dict)


def run(plant: Plant, until: Callable[[], bool], say: Callable[[str], None] = lambda line: None) -> None:
    """Run a plant until `until()`; every child has ended when it returns.

    Raises:
        CrossplantError: a file is missing, or a process does not start.
    """
    with Supervisor(say) as children:
        for spec in specs(plant):
            children.start(spec)
        say(f"Plant {plant.name} dials {plant.superlink}.")
        children.watch(until)


def specs(plant: Plant) -> tuple[Spec, ...]:
    """The plant's processes, in the order they are started.

    Raises:
        FileTrouble: a key or certificate is missing.
    """
    for path in (plant.root_certificates, plant.node_key):
        if path is not None and not path.is_file():
            raise FileTrouble(f"{path} is missing.", "`crossplant preflight` says what a plant needs.")
    (plant.home / "log").mkdir(mode=0o700, parents=True, exist_ok=True)
    port, secret = free_port(), plant.home / "executor.secret"
    _write_secret(secret)
    agent = () if plant.agent is None or plant.socket is None else (_agent(plant, plant.agent, plant.socket),)
    return (*agent, _supernode(plant, port, secret), _executor(plant, port, secret))


def _agent(plant: Plant, command: tuple[str, ...], path: Path) -> Spec:
    return Spec("agent", command, plant.home / "log" / "agent.log", folder=plant.home, ready=_ready(path))


def _supernode(plant: Plant, port: int, secret: Path) -> Spec:
    command = [
        sys.executable,
        "-P",
        "-m",
        "client.run.node",
        "--superlink",
        plant.superlink,
        "--host",
        LOOPBACK,
        "--port",
        str(port),
    ]
    command += ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
    command += ["--node-config", f"partition-id=0 site={json.dumps(plant.name)}"]
    if plant.root_certificates is None or plant.node_key is None:
        command += ["--insecure"]
    else:
        command += ["--root-certificates", str(plant.root_certificates)]
        command += ["--auth-supernode-private-key", str(plant.node_key)]
    log = plant.home / "log" / "supernode.log"
    return Spec("supernode", tuple(command), log, environment(plant.home / "flower-supernode"), plant.home)


def _executor(plant: Plant, port: int, secret: Path) -> Spec:
    command = (sys.executable, "-P", "-m", "client.run.executor", "--runtime-api-address", f"{LOOPBACK}:{port}")
    mine = {} if plant.socket is None else {"CROSSPLANT_AGENT": str(plant.socket)}
    return Spec(
        "executor",
        (*command, "--secret", str(secret)),
        plant.home / "log" / "executor.log",
        {**environment(plant.home / "flower-executor"), **mine, **plant.relay},
        plant.home,
    )


def _ready(path: Path) -> Callable[[], bool]:
    def ask() -> bool:
        from client.agent.wire import ready

        return path.exists() and ready(path)

    return ask


def _write_secret(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32), encoding="ascii")
