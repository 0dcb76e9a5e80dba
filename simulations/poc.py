"""A whole federation on loopback: authority, coordinator and plants as real processes, with TLS and node keys.

Every process of it is the one that a real site runs; only the machine is the same, and the keys are made here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import FileTrouble, NothingToResume, RunDirectoryInUse, RunFailed
from shared.flower_process import free_port, healthy, listening
from shared.service_errors import ProcessFailed
from shared.supervise import Spec, Supervisor

if TYPE_CHECKING:
    from server.rounds import RoundRecord
    from shared.config import RunConfig

_FILE = "poc.json"
_LONGEST_S = 24 * 3600.0


@dataclass(frozen=True)
class PocFolder:
    """Paths of a proof of concept.

    Attributes:
        root: `--out`; the round store is in it, as in a simulation's folder.
    """

    root: Path

    @property
    def federation(self) -> Path:
        """What the operator has."""
        return self.root / "federation"

    @property
    def plants(self) -> Path:
        """What the plants have; one folder each."""
        return self.root / "plants"

    @property
    def logs(self) -> Path:
        """One log a command; its children's are in its own folder."""
        return self.root / "log"


@dataclass(frozen=True)
class Poc:
    """What `poc up` is asked for.

    Attributes:
        folder: where everything goes.
        config: settings of the run; `data` says which plants are made.
        run: its name.
        insecure: without TLS and keys.
        keep: its processes go on when this one ends.
        mutual: the gateway asks plants for their certificates.
    """

    folder: PocFolder
    config: RunConfig
    run: str
    insecure: bool = False
    keep: bool = False
    mutual: bool = False


def make(poc: Poc) -> tuple[str, ...]:
    """Make data, keys and certificates; returns the plants' names.

    Raises:
        RunDirectoryInUse: the folder holds something.
        CrossplantError: the data cannot be made.
    """
    from simulations.gather import gather

    root = poc.folder.root
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise RunDirectoryInUse(f"{root} is not empty.", "Choose another --out.")
    sites = gather(poc.config).sites
    for folder in (root, poc.folder.logs, poc.folder.plants):
        folder.mkdir(parents=True, exist_ok=True)
    from simulations.poc_keys import provision

    port = free_port()
    provision(poc.folder.federation, poc.folder.plants, sites, port)
    content = {"run": poc.run, "port": port, "insecure": poc.insecure, "plants": [site.name for site in sites]}
    (root / _FILE).write_text(json.dumps(content), encoding="utf-8")
    return tuple(site.name for site in sites)


def up(poc: Poc, children: Supervisor, say: Callable[[str], None]) -> None:
    """Start the coordinator and the plants.

    Raises:
        ProcessFailed: a process does not start, or a plant does not connect.
    """
    about = _about(poc.folder)
    port, names = int(about["port"]), list(about["plants"])
    flag = ("--insecure",) if poc.insecure else ()
    front = (sys.executable, "-P", "-m", "shared")
    server = ("server", "run", "--federation", str(poc.folder.federation), "--store", str(poc.folder.root))
    health = _health(poc, port)
    log = poc.folder.logs
    mutual = ("--mutual-tls",) if poc.mutual else ()
    command = (*front, *server, "--host", "127.0.0.1", "--port", str(port), *flag, *mutual)
    children.start(Spec("server", command, log / "server.log", ready=health, stop_s=30.0, outlives=poc.keep))
    say(f"The coordinator listens on 127.0.0.1:{port}.")
    for name in names:
        plant = (*front, "client", "run", "--config", str(poc.folder.plants / name / "plant.toml"), *flag)
        children.start(Spec(name, plant, log / f"{name}.log", stop_s=30.0, outlives=poc.keep))
    _wait_connected(poc, children, len(names))
    say(f"{len(names)} plants are connected: {', '.join(names)}.")


def _health(poc: Poc, port: int) -> Callable[[], bool]:
    endpoint, authority = (poc.folder.federation / part for part in ("run/endpoint.json", "ca/ca.crt"))
    scheme, root = ("http", None) if poc.insecure else ("https", authority)
    answers = healthy(f"{scheme}://127.0.0.1:{port}/health", root)
    if poc.mutual:  # it answers plants only; the server wrote where it is when all its processes served
        answers = listening("127.0.0.1", port)
    return lambda: endpoint.exists() and answers()


def _wait_connected(poc: Poc, children: Supervisor, count: int, longest_s: float = 120.0) -> None:
    from server.run.control import Control
    from server.run.place import ServerPlace

    control = Control(ServerPlace.of(poc.folder.federation).read_endpoint())
    try:
        connected = children.watch(lambda: _online(control) >= count, longest_s)
    finally:
        control.close()
    if not connected:
        raise ProcessFailed(f"not all {count} plants connected within {longest_s:.0f} s.", f"See {poc.folder.logs}.")


def _online(control: object) -> int:
    from server.run.control import Control

    assert isinstance(control, Control)
    return sum(node.status == "online" for node in control.nodes())


def carry(poc: Poc, names: tuple[str, ...], children: Supervisor, report: Callable[[RoundRecord], None]) -> None:
    """Start the run and watch it to its end.

    Raises:
        RunFailed: it did not finish.
    """
    from server.provision.signing import sign_run
    from server.run.place import ServerPlace
    from server.run.runs import ask_for
    from server.store.rows import RunStatus
    from server.store.store import RoundStore

    store, federation = str(poc.folder.root), poc.folder.federation
    signature = sign_run(federation, poc.run, poc.config, names, datetime.now(UTC))
    ask_for(ServerPlace.of(federation), store, poc.run, poc.config, names, signature)
    seen = 0

    def final() -> bool:
        nonlocal seen
        with RoundStore.open(store) as opened:
            records = opened.rounds(poc.run)
            status = next(info.status for info in opened.runs() if info.name == poc.run)
        for record in records[seen:]:
            report(record)
        seen = len(records)
        return status is not RunStatus.RUNNING

    children.watch(final, _LONGEST_S)
    with RoundStore.open(store) as opened:
        status = next(info.status for info in opened.runs() if info.name == poc.run)
    if status is not RunStatus.FINISHED:
        raise RunFailed(f"run {poc.run} is {status.value}.", f"See {poc.folder.logs}.")


def write_pids(folder: PocFolder, pids: dict[str, int]) -> None:
    """Leave the processes' ids for `down`, each with its start time, so that no other process is ever ended."""
    content = {name: [pid, start_time(pid)] for name, pid in pids.items()}
    (folder.root / "pids.json").write_text(json.dumps(content), encoding="utf-8")


def start_time(pid: int) -> str:
    """When the kernel started a process (ticks since boot); empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def down(folder: PocFolder, longest_s: float = 40.0) -> list[str]:
    """End what `poc up --keep` left; returns the names of what was ended.

    Raises:
        NothingToResume: nothing was left there.
    """
    path = folder.root / "pids.json"
    try:
        left = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NothingToResume(
            f"{folder.root} holds no running federation.", "Start one with `poc up --keep`."
        ) from error
    mine = {name: pid for name, (pid, started) in left.items() if started and start_time(pid) == started}
    for pid in reversed(mine.values()):
        os.kill(pid, signal.SIGTERM)
    ends = time.monotonic() + longest_s
    while any(start_time(pid) == left[name][1] for name, pid in mine.items()):
        if time.monotonic() > ends:
            cause = f"processes of {folder.root} did not end within {longest_s:.0f} s."
            raise ProcessFailed(cause, "End them by hand.")
        time.sleep(0.1)
    path.unlink()
    return list(mine)


def _about(folder: PocFolder) -> dict[str, Any]:
    try:
        found = json.loads((folder.root / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileTrouble(f"{folder.root / _FILE} cannot be read.") from error
    return dict(found)
