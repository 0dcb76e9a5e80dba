"""Plants in folders, agents as processes, and requests to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from client.agent.wire import ask, ready
from client.ingest.folder import write_site
from shared.config import Recipe
from shared.detectors import build
from shared.model import GlobalModel
from shared.wire.envelope import Packet
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request
from tests.support import plants
from tests.support.tampering import sites

RECIPE: Recipe = plants.settings().recipe


@cache
def model() -> GlobalModel:
    return GlobalModel(build(RECIPE.detector, 2).weights())


def describe(run: str = "r", number: int = 1) -> Packet:
    return encode_request(Request(Kind.DESCRIBE, run, number, RECIPE))


def train(run: str = "r", number: int = 2, recipe: Recipe = RECIPE) -> Packet:
    return encode_request(Request(Kind.TRAIN, run, number, recipe, model().digest, model()))


def with_training(**settings: object) -> Recipe:
    return RECIPE.model_copy(update={"training": RECIPE.training.model_copy(update=settings)})


def make_plant(folder: Path, policy: str = "", extra: str = "") -> Path:
    """A small plant `north`; its plant.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "site").exists():
        write_site(folder / "site", sites()[0])
    (folder / "policy.toml").write_text(policy, encoding="utf-8")
    config = folder / "plant.toml"
    config.write_text(f'name = "north"\ndata = "site"\n{extra}', encoding="utf-8")
    return config


@dataclass
class RunningAgent:
    """An agent in a process of its own."""

    process: subprocess.Popen[str]
    config: Path

    @property
    def socket(self) -> Path:
        return self.config.parent / "run" / "agent.sock"

    @property
    def audit(self) -> Path:
        return self.config.parent / "home" / "audit"

    def ask(self, packet: Packet, timeout_s: float = 60.0) -> Packet:
        return ask(self.socket, packet, timeout_s)

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and log."""
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=60)
        return self.process.returncode, log


def start(config: Path, wait: bool = True) -> RunningAgent:
    """Start an agent; its output is a small log, which fits the pipe."""
    command = [str(Path(sys.executable).with_name("crossplant")), "client", "agent", "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    agent = RunningAgent(process, config)
    if wait:
        _wait(agent)
    return agent


def _wait(agent: RunningAgent, longest_s: float = 90.0) -> None:
    ends = time.monotonic() + longest_s
    while not (agent.socket.exists() and ready(agent.socket)):
        if agent.process.poll() is not None or time.monotonic() > ends:
            agent.process.kill()
            raise AssertionError(f"the agent did not start: {agent.process.communicate()[1]}")
        time.sleep(0.05)


@contextmanager
def running(config: Path) -> Iterator[RunningAgent]:
    """An agent that is killed in the end if it still runs."""
    agent = start(config)
    try:
        yield agent
    finally:
        agent.kill()
