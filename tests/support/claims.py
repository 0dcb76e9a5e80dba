"""Private requests to one plant, and a ledger that counts without accounting."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shared.config import Recipe
from shared.detectors import build
from shared.errors import BudgetSpent
from shared.model import Clusters, GlobalModel
from shared.privacy.ledger import Release
from shared.schema import SensorSchema
from shared.series import Ranges, SiteData
from shared.wire.envelope import Packet
from shared.wire.inventory import Kind
from shared.wire.messages import Request, TrainOrder, encode_request

UNIT, DIM = 8, 2
RANGES: Ranges = ((-4.0, 4.0), (-4.0, 4.0))
NOISE = {"weights": 3.0, "below": 30.0, "loss": 30.0, "statistic": 30.0}


def claim(**groups: dict[str, Any]) -> Recipe:
    """A small recipe with a claim of epsilon 8; keyword groups overlay it."""
    small: dict[str, dict[str, Any]] = {
        "detector": {"window": 4, "hidden": 4, "latent": 2, "layers": 1, "dropout": 0.0},
        "clustering": {"clusters": 3, "unit": UNIT, "clip": "cloud"},
        "privacy": {"mode": "local", "epsilon": 8.0, "sampling": 0.05, "noise": NOISE},
    }
    return Recipe.model_validate({name: small.get(name, {}) | groups.get(name, {}) for name in {*small, *groups}})


def plant(records: int = 520, ranges: Ranges | None = RANGES, seed: int = 0) -> SiteData:
    """A plant with so many records for training, and a tenth as much held out."""
    rows = round(records * UNIT / 0.8) + 1
    values_TD = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return SiteData("north", SensorSchema(tags=("a", "b"), period_s=1.0), values_TD, values_TD[:0], None, ranges=ranges)


@cache
def model(clusters: bool = True) -> GlobalModel:
    """The same weights in every process, and three clusters."""
    found = None
    if clusters:
        centroids_KZ = np.array([[0.5, 0.5], [-0.5, 0.5], [0.0, -0.5]], np.float32)
        frequency_K = np.array([0.7, 0.2, 0.1], np.float32)
        found = Clusters(centroids_KZ, frequency_K, np.ones(3, bool), np.zeros(3, np.int64), 1.0)
    rng = np.random.default_rng(0)
    specs = build(claim().detector, DIM).manifest()
    return GlobalModel({s.name: rng.uniform(-0.4, 0.4, s.shape).astype(np.float32) for s in specs}, found)


def ask(kind: Kind, recipe: Recipe, number: int = 2, radius: float = 1.0, **order: Any) -> Packet:
    """A request; a training one is for a gradient at a clip of 0.3 unless told otherwise."""
    if kind in (Kind.DESCRIBE, Kind.MOMENTS):
        return encode_request(Request(kind, "r", number, recipe))
    orders = TrainOrder(**{"alpha": 0.5, "step": number, "one_step": True, "clip": 0.3, **order})
    return encode_request(Request(kind, "r", number, recipe, model().digest, model(), radius, orders))


@dataclass
class PaperLedger:
    """What `shared.privacy.ledger.PrivacyLedger` promises, with one epsilon a release."""

    folder: Path
    now: Callable[[], datetime] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "key").exists():
            (self.folder / "key").write_bytes(os.urandom(32))

    @property
    def secret(self) -> bytes:
        return (self.folder / "key").read_bytes()

    def charge(self, release: Release, budget: float) -> None:
        lines = entries(self.folder)
        if any(line["request"] == release.request for line in lines):
            return
        if len(lines) + 1 > budget:
            raise BudgetSpent(f"{len(lines)} of {budget:g} is spent.")
        with (self.folder / "ledger.jsonl").open("a") as file:
            line: dict[str, object] = {
                "purpose": release.purpose,
                "request": release.request,
                "unit": release.unit,
                "run": release.run,
            }
            line |= {"multiplier": release.event.multiplier, "sampling": release.event.sampling, "round": release.round}
            file.write(json.dumps(line) + "\n")
            os.fsync(file.fileno())


def entries(folder: Path) -> list[dict[str, Any]]:
    """The lines of a ledger."""
    path = folder / "ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
