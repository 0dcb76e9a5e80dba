"""A real federation on loopback for tests: `crossplant poc up` in a process of its own, watched from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from server.coordinator import Silent
from server.rounds import RoundRecord
from server.store.store import RoundStore
from shared.config import RunConfig
from shared.errors import StoreError
from simulations.engines import Job, carry
from simulations.poc_cli import _config
from simulations.rundir import RunFolder
from simulations.simulate import begin

SETTINGS = ("data.rows=600", "recipe.detector.hidden=8", "recipe.detector.latent=4", "recipe.clustering.clusters=3")
"""As small as it goes: what is tested is that it goes on."""

WHO = {
    "superlink": "flower-superlink",
    "serverapp": "flwr-serverapp",
    "executor": "flower-superexec",
    "gateway": "server.run.gateway",
    "supernode": "client.run.node",
    "relay": "client.run.executor",
    "agent": "client agent",
    "server": "server run",
    "plant": "client run",
}
"""What tells a process's command line."""


class Running:
    """Processes of a federation, and the rounds that they bring about.

    Attributes:
        out: its folder; the round store is in it.
    """

    out: Path

    def commands(self) -> list[int]:
        """Process ids of the commands that a test started; all else descends from them."""
        raise NotImplementedError

    def alive(self) -> bool:
        """Whether none of these commands ended by itself."""
        raise NotImplementedError

    def said(self) -> str:
        """What its commands and their children said, at the end of each log."""
        inner = [*self.out.glob("federation/run/log/*.log"), *self.out.glob("plants/*/home/log/*.log")]
        logs = [*sorted(inner), self.out.parent / "poc.log", *sorted((self.out / "log").glob("*.log"))]
        return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in logs if log.exists())

    def records(self) -> list[RoundRecord]:
        """Rounds so far."""
        with suppress(StoreError), RoundStore.open(str(self.out)) as store:  # it may not be there yet
            return store.rounds(store.newest_run())
        return []

    def wait_for_round(self, number: int, longest_s: float = 150.0) -> None:
        """Wait until a round is committed."""
        self.wait(lambda: len(self.records()) >= number, longest_s, f"round {number}")

    def wait(self, done: Callable[[], bool], longest_s: float, what: str) -> None:
        """Wait until something is so."""
        ends = time.monotonic() + longest_s
        while not done():
            assert self.alive(), f"a command ended before {what}:\n{self.said()}"
            assert time.monotonic() < ends, f"no {what} within {longest_s} s:\n{self.said()}"
            time.sleep(0.1)

    def find(self, who: str, where: str = "") -> psutil.Process:
        """One of its processes; `where` must occur in its command line, too."""
        found = self.found(who, where)
        assert found, f"no {who} runs"
        return found[0]

    def runs(self, who: str, where: str = "") -> bool:
        """Whether there is such a process."""
        return bool(self.found(who, where))

    def found(self, who: str, where: str = "") -> list[psutil.Process]:
        """All of its processes of a kind, those that were started first in front."""
        return [p for p in self.processes() if WHO[who] in _line(p) and where in _line(p)]

    def processes(self) -> list[psutil.Process]:
        """All of them, the commands that the test started left out."""
        found: list[psutil.Process] = []
        for pid in self.commands():
            with suppress(psutil.NoSuchProcess):
                found += psutil.Process(pid).children(recursive=True)
        return found

    def kill(self, who: str, where: str = "") -> int:
        """kill -9; the process id that was."""
        victim = self.find(who, where)
        victim.kill()
        return int(victim.pid)


@dataclass
class Network(Running):
    """A federation on loopback under test.

    Attributes:
        out: its folder.
        process: `poc up`.
    """

    out: Path
    process: subprocess.Popen[str]

    def commands(self) -> list[int]:
        """`poc up`."""
        return [self.process.pid]

    def alive(self) -> bool:
        """Whether `poc up` has not ended."""
        return self.process.poll() is None

    def finish(self, longest_s: float = 200.0) -> list[RoundRecord]:
        """Wait for the end; the rounds."""
        self.process.wait(longest_s)
        assert self.process.returncode == 0, self.said()
        return self.records()


@contextmanager
def network(tmp: Path, plants: int = 3, rounds: int = 2, *flags: str) -> Iterator[Network]:
    """Start one, and leave no process of it behind."""
    out = tmp / "poc"
    command = [sys.executable, "-m", "shared", "poc", "up", "--out", str(out)]
    command += ["--plants", str(plants), "--rounds", str(rounds), *flags]
    for setting in SETTINGS:
        command += ["--set", setting]
    with (tmp / "poc.log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp, stdout=log, stderr=subprocess.STDOUT, text=True)
        there = Network(out, process)
        try:
            yield there
        finally:
            left = there.processes() if process.poll() is None else []
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            for orphan in [*left, psutil.Process(process.pid)] if process.poll() is None else left:
                with suppress(psutil.NoSuchProcess):
                    orphan.kill()
            process.wait()


def undisturbed(tmp: Path, plants: int = 3, rounds: int = 2) -> list[RoundRecord]:
    """The rounds of the same run carried in this process: what a network must arrive at, bit by bit."""
    config: RunConfig = _config(plants, rounds, None, list(SETTINGS))
    folder = RunFolder(tmp / "same")
    index = begin(config, {}, folder)
    carry(Job(str(folder.root), index.run, folder.plants, plants, config.engine), Silent())
    with RoundStore.open(str(folder.root)) as store:
        return store.rounds(index.run)


def story(records: list[RoundRecord]) -> list[tuple[str, str | None]]:
    """What committed rounds did, and the models they made."""
    return [(record.label, record.model) for record in records if record.status.value == "committed"]


def running_below(folder: Path) -> list[str]:
    """Command lines of processes that work in or with a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if str(folder) in _line(process) and process.pid != os.getpid():
                found.append(_line(process))
    return found


def _line(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())
    return ""
