"""A federation of separate commands for tests, as a site runs them: `server run`, `client run`, `server start-run`.

`tests.support.network` starts everything by `poc up` on loopback; here each command is started, ended and, where a
test wants it, put into a network namespace by itself.

with federation(tmp, ["north", "south", "east"]) as there:
    there.serve()
    there.join("north")
    there.start_run("rounds.joint = 3")
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from server.run.control import Control
from server.run.place import ServerPlace
from shared.flower_process import free_port
from shared.supervise import Spec, Supervisor
from simulations.gather import gather
from simulations.poc_cli import _SMALL, _config
from simulations.poc_keys import LOOPBACK_NAMES, provision
from tests.support.netns import HUB, Star
from tests.support.network import SETTINGS, Running

_CROSSPLANT = (sys.executable, "-P", "-m", "shared")


@dataclass
class Federation(Running):
    """Folders of an operator and of plants, and the commands that were started for them.

    Attributes:
        out: holds the operator's `federation/`, `plants/NAME/`, the logs and the round store.
        plants: names.
        port: that plants dial.
        net: namespaces that the commands run in; None: all on loopback.
        children: the commands that run, by name; what ends is not started again.
    """

    out: Path
    plants: tuple[str, ...]
    port: int
    net: Star | None = None
    children: Supervisor = field(default_factory=Supervisor)

    @property
    def operator(self) -> Path:
        """The operator's folder."""
        return self.out / "federation"

    def plant(self, name: str) -> Path:
        """A plant's folder."""
        return self.out / "plants" / name

    def serve(self, *flags: str) -> None:
        """`server run`, until it serves."""
        host = "127.0.0.1" if self.net is None else HUB
        command = ("server", "run", "--federation", str(self.operator), "--store", str(self.out))
        endpoint = self.operator / "run" / "endpoint.json"
        self.start("server", *command, "--host", host, "--port", str(self.port), *flags, ready=endpoint)

    def join(self, *names: str, longest_s: float = 90.0) -> None:
        """`client run` for plants, until the coordinator says that they are there."""
        for name in names:
            self.start(name, "client", "run", "--config", str(self.plant(name) / "plant.toml"), where=name)
        self.wait(lambda: set(names) <= self.online(), longest_s, f"plants {names}")

    def start_run(self, *settings: str, plants: Sequence[str] = (), name: str = "trial") -> None:
        """`server start-run` with small settings and some more (lines of TOML), for some plants or all."""
        small = [f"{key} = {value!r}".replace("'", '"') for key, value in _SMALL.items() if not key.startswith("data.")]
        own = {line.partition("=")[0].strip() for line in settings}
        lines = [line for line in [*small, *SETTINGS] if line.partition("=")[0].strip() not in own]
        file = self.out / f"{name}.toml"
        file.write_text("\n".join([*lines, *settings]), encoding="utf-8")
        only = ("--plants", ",".join(plants)) if plants else ()
        command = ("server", "start-run", "--federation", str(self.operator), "--store", str(self.out))
        done = self.call(*command, "--settings", str(file), "--name", name, *only)
        assert done.returncode == 0, done.stderr

    def online(self) -> set[str]:
        """Plants that the coordinator counts as connected."""
        return self._online() if self.net is None else self.net.call(self._online)

    def _online(self) -> set[str]:
        control = Control(ServerPlace.of(self.operator).read_endpoint())
        try:
            return {node.name for node in control.nodes() if node.status == "online"}
        finally:
            control.close()

    def start(self, who: str, *arguments: str, where: str = "hub", ready: Path | None = None) -> None:
        """A `crossplant` command that goes on; `ready` appears when it serves."""
        exists = None if ready is None else ready.exists
        log = self.out / "log" / f"{who}.log"
        command = (*self._inside(where), *_CROSSPLANT, *arguments)
        self.children.start(Spec(who, command, log, ready=exists, stop_s=30.0))

    def call(self, *arguments: str, where: str = "hub") -> subprocess.CompletedProcess[str]:
        """A `crossplant` command that ends."""
        command = [*self._inside(where), *_CROSSPLANT, *arguments]
        return subprocess.run(command, cwd=self.out, capture_output=True, text=True, timeout=120, check=False)

    def end(self, *names: str) -> None:
        """End commands as an operator does (SIGTERM)."""
        self.children.end(*names)

    def _inside(self, where: str) -> tuple[str, ...]:
        return () if self.net is None else self.net.inside(where)

    def commands(self) -> list[int]:
        """Those that were started and not ended."""
        return list(self.children.pids().values())

    def alive(self) -> bool:
        """Whether all of these run."""
        return all(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in self.commands())


@contextmanager
def federation(tmp: Path, plants: Sequence[str], net: Star | None = None) -> Iterator[Federation]:
    """Make folders, keys, certificates and small data; end what was started for them."""
    out, port = tmp / "fed", free_port()
    for folder in (out, out / "log", out / "plants"):
        folder.mkdir(exist_ok=True)  # a test may have laid a disk of its own there
    sites = gather(_config(len(plants), 1, None, list(SETTINGS))).sites
    named = [replace(site, name=name) for site, name in zip(sites, plants, strict=True)]
    hosts = LOOPBACK_NAMES if net is None else (HUB, *LOOPBACK_NAMES)
    provision(out / "federation", out / "plants", named, port, hosts)
    there = Federation(out, tuple(plants), port, net)
    with there.children:
        yield there
        there.end(*(name for name in there.children.pids() if name != "server"))
