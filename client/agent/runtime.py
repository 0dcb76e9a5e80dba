"""The agent's process: from `plant.toml` to a served socket, and to a clean end."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

import torch

from client.agent.audit import AuditLog
from client.agent.config import Plant
from client.agent.guard import CallStop, Guard
from client.agent.ledger import Ledger
from client.agent.metrics import AgentMetrics
from client.agent.policy import Facts, Policy, read_policy
from client.agent.server import AgentServer
from client.agent.service import PlantAgent
from client.agent.site import load_site
from client.training.tensors import resolve_device
from shared.errors import AgentBusy, FileTrouble, InvalidConfig
from shared.series import SiteData

log = logging.getLogger(__name__)


def serve(plant: Plant, stop: threading.Event) -> bool:
    """Serve one plant until `stop` is set.

    Returns:
        whether the task under way ended in time; if not, one of its threads still runs.

    Raises:
        CrossplantError: the settings, the data or the socket cannot be used.
    """
    policy = read_policy(plant.policy)
    with _alone(plant.home), _listening(plant, policy) as server:
        _prepare_torch(min(plant.config.agent.threads, policy.caps.threads))
        stopped = CallStop()
        site = load_site(plant)
        with closing(AuditLog(plant.audit, plant.config.agent.audit_mb * 2**20)) as audit:
            ledger = Ledger(plant.home / "ledger.json", policy.budget)
            metrics = _metrics(plant, policy, site, ledger)
            guard = _guard(plant, policy, site, audit, stopped, ledger, metrics)
            _limit_memory(policy)
            audit.append({"event": "start", "version": version("crossplant"), "policy": policy.digest})
            metrics.begin()
            server.ready(guard)
            log.info("plant %s: ready at %s", site.name, plant.socket)
            stop.wait()
            log.info("plant %s: ending", site.name)
            drained = guard.drain(plant.config.agent.drain_s)
            server.close(1.0)
            audit.append({"event": "stop", "drained": drained})
    return drained


def _metrics(plant: Plant, policy: Policy, site: SiteData, ledger: Ledger) -> AgentMetrics:
    shown = {} if plant.shown is None else {"client": plant.shown[0]}
    certificates = {"authority": plant.authority, **shown}
    privacy = plant.home / "privacy" / site.name
    return AgentMetrics(plant.metrics, site.name, policy.digest, ledger, privacy, certificates)


def _guard(
    plant: Plant,
    policy: Policy,
    site: SiteData,
    audit: AuditLog,
    stopped: CallStop,
    ledger: Ledger,
    metrics: AgentMetrics,
) -> Guard:
    device = resolve_device(plant.config.agent.device)
    wanted, kept, ring = plant.config.agent.guard, plant.home / "guard.bin", plant.home / "ring"
    agent = PlantAgent(
        site,
        plant.home / "bundles",
        device,
        stopped,
        plant.home / "bundle.key",
        wanted,
        kept,
        ring,
        privacy=plant.home / "privacy" / site.name,
        budget=policy.dp.budget,
        mixed=policy.dp.mixed,
    )
    agent.learn_alone()
    facts = Facts(len(site.train_TD), site.schema.fingerprint, site.name, site.schema.period_s)
    return Guard(agent, policy, facts, ledger, audit, stopped, metrics=metrics)


@contextmanager
def _listening(plant: Plant, policy: Policy) -> Iterator[AgentServer]:
    server = AgentServer(plant.socket, plant.config.group, policy.largest_message)
    try:
        yield server
    finally:
        server.close(0.0)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the plant's folder. The lock ends with the process, however it ends."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(home / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise FileTrouble(f"{home}: {error.strerror}.") from error
    try:
        _lock(handle, home)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, home: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AgentBusy(f"another agent uses {home}.") from error


def _prepare_torch(threads: int) -> None:
    """The first optimizer of a process imports for more than a second: before anybody waits for it."""
    torch.set_num_threads(threads)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def _limit_memory(policy: Policy) -> None:
    """Once everything is loaded: a request that asks for more fails alone, and the agent goes on."""
    if policy.caps.memory_mb is None:
        return
    wanted = policy.caps.memory_mb * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise InvalidConfig(f"caps.memory_mb = {policy.caps.memory_mb}: the system allows {hard // 2**20} at most.")
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
