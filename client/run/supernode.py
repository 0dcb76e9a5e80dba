"""`crossplant client run`: a plant's processes under one supervisor. They dial out; nothing at the plant is dialled.

- the **agent** owns the data, the model and the policy, and listens on a Unix socket only;
- the **SuperNode** holds the plant's node key and polls the coordinator's gateway over TLS;
- the **executor** forks the relay (`client.app`), which passes packets between the two and sees no data.

A SuperNode that was killed is refused (Flower's exit code 305) until the coordinator has missed its heartbeats, up to a
minute: it is started again for as long as that takes. So is one that was refused, which then reads its files anew: a
plant that was given a new kit needs no restart.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.alone import alone
from shared.errors import FileTrouble
from shared.flower_process import LOOPBACK, check_secret, environment, free_port
from shared.supervise import Spec, Supervisor

NOTE = "link.json"
"""In the plant's home: how the line to the coordinator stands (`client.run.link`)."""
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
        shown: certificate and key for a gateway that asks for them.
        agent: command that serves the agent on `socket`; None when the relay calls an agent in its own process.
        socket: the agent's.
        relay: variables of the relay, laid over those above.
    """

    name: str
    home: Path
    superlink: str
    root_certificates: Path | None
    node_key: Path | None
    shown: tuple[Path, Path] | None = None
    agent: tuple[str, ...] | None = None
    socket: Path | None = None
    relay: Mapping[str, str] = field(default_factory=dict)


def run(plant: Plant, until: Callable[[], bool], say: Callable[[str], None] = lambda line: None) -> None:
    """Run a plant until `until()`; every child has ended when it returns.

    Raises:
        AlreadyRunning: the plant runs already.
        CrossplantError: a file is missing, or a process does not start.
    """
    make_home(plant.home)
    with alone(plant.home / "run.lock", f"plant {plant.name}"), Supervisor(say) as children:
        for spec in specs(plant):
            children.start(spec)
        say(f"Plant {plant.name} dials {plant.superlink}.")
        children.watch(until)


def make_home(home: Path) -> None:
    """Make the folder of a plant's processes.

    Raises:
        FileTrouble: it cannot be made.
    """
    try:
        (home / "log").mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FileTrouble(f"{error.filename or home}: {error.strerror}.") from error


def specs(plant: Plant) -> tuple[Spec, ...]:
    """The plant's processes, in the order they are started.

    Raises:
        FileTrouble: a key or certificate is missing, or every user may read the key.
    """
    for path in (plant.root_certificates, plant.node_key, *(plant.shown or ())):
        if path is not None and not path.is_file():
            raise FileTrouble(f"{path} is missing.", "`crossplant preflight` says what a plant needs.")
    for key in (plant.node_key, plant.shown and plant.shown[1]):
        if key is not None:
            check_secret(key)
    port, secret = free_port(), plant.home / "executor.secret"
    _write_secret(secret)
    agent = () if plant.agent is None or plant.socket is None else (_agent(plant, plant.agent, plant.socket),)
    return (*agent, _supernode(plant, port, secret), _executor(plant, port, secret))


def _agent(plant: Plant, command: tuple[str, ...], path: Path) -> Spec:
    return Spec("agent", command, plant.home / "log" / "agent.log", folder=plant.home, ready=_ready(path))


def _supernode(plant: Plant, port: int, secret: Path) -> Spec:
    command = [sys.executable, "-P", "-m", "client.run.node", "--superlink", plant.superlink]
    command += ["--host", LOOPBACK, "--port", str(port), "--note", str(plant.home / NOTE)]
    command += ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
    command += ["--node-config", f"partition-id=0 site={json.dumps(plant.name)}"]
    if plant.root_certificates is None or plant.node_key is None:
        command += ["--insecure"]
    else:
        command += ["--root-certificates", str(plant.root_certificates)]
        command += ["--auth-supernode-private-key", str(plant.node_key)]
        if plant.shown is not None:
            command += ["--client-certificate", str(plant.shown[0]), "--client-key", str(plant.shown[1])]
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
