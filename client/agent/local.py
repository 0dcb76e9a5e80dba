"""Agents of plants whose folders lie on this machine: what a simulation and a relay in the same process use."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

from client.agent.service import PlantAgent
from client.ingest.folder import read_site
from client.training.tensors import resolve_device
from shared.errors import DataNotFound

_lock = threading.Lock()
stop = threading.Event()
"""Set it to make every local agent give up its present task."""


def plant_folders(plants: Path) -> list[Path]:
    """The plants of a run, sorted by name."""
    return sorted(path for path in plants.iterdir() if path.is_dir() and not path.name.startswith("."))


def local_agent(plants: Path, number: int, device: str) -> PlantAgent:
    """The agent of the plant with this number; one object a plant in each process.

    Args:
        plants: folder with one folder a plant; bundles go to `bundles/` beside it, privacy ledgers to `privacy/`.
        number: index into `plant_folders`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        DataNotFound: there are fewer plants.
    """
    with _lock:
        return _agent(plants, number, device)


@cache
def _agent(plants: Path, number: int, device: str) -> PlantAgent:
    folders = plant_folders(plants)
    if number >= len(folders):
        raise DataNotFound(f"{plants} holds {len(folders)} plants, number {number} was asked for.")
    folder, home = folders[number], plants.parent
    ledger = home / "privacy" / folder.name
    return PlantAgent(read_site(folder), home / "bundles", resolve_device(device), stop, privacy=ledger)


def forget() -> None:
    """Drop every agent of this process, with the data it holds."""
    with _lock:
        _agent.cache_clear()
