"""Small studies for tests: tiny sites, tiny networks, and a contestant that says what it was given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from shared.config import RunConfig, build
from shared.metrics.summary import Evaluation
from shared.schema import SensorSchema
from shared.series import FloatArray, SiteData
from simulations.study.contestant import Arrays, Scored

TINY = {
    "recipe": {
        "detector": {"window": 8, "hidden": 8, "latent": 4, "layers": 1, "members": 2},
        "training": {"stride": 4, "batch_size": 32},
        "clustering": {"clusters": 2, "unit": 8},
    },
    "rounds": {"pretrain": 1, "joint": 1},
    "engine": {"workers": 1, "device": "cpu"},
}
FLAGS = (
    *("--set", "recipe.detector.window=8", "--set", "recipe.detector.hidden=8", "--set", "recipe.detector.latent=4"),
    *(
        "--set",
        "recipe.detector.layers=1",
        "--set",
        "recipe.clustering.clusters=2",
        "--set",
        "recipe.training.stride=4",
    ),
    *("--set", "recipe.clustering.unit=8", "--set", "data.rows=400", "--set", "data.sites=2"),
)
"""A network and made plants that train in a second."""


def tiny(detector: str = "cnn-lstm") -> RunConfig:
    """Settings of a run of seconds."""
    recipe = {**TINY["recipe"], "detector": {**TINY["recipe"]["detector"], "name": detector}}
    return build({"tiny": {**TINY, "recipe": recipe}})[0]


def sites(count: int = 2, train: int = 240, test: int = 80, dim: int = 3) -> tuple[SiteData, ...]:
    """Sites whose tags follow one wave; in the test a tag leaves it for ten rows."""
    return tuple(_site(f"site-{k}", k, train, test, dim) for k in range(1, count + 1))


def _site(name: str, seed: int, train: int, test: int, dim: int) -> SiteData:
    rng = np.random.default_rng(seed)
    wave_T = np.sin(np.arange(train + test) / 5)[:, None]
    rows_TD = (wave_T * np.arange(1, dim + 1) + rng.normal(0, 0.1, (train + test, dim))).astype(np.float32)
    labels_T = np.zeros(test, np.bool_)
    labels_T[30:40] = True
    rows_TD[train + 30 : train + 40, 0] += 6
    schema = SensorSchema(tags=tuple(f"t{d}" for d in range(dim)), period_s=1.0)
    return SiteData(name, schema, rows_TD[:train], rows_TD[train:], labels_T)


@dataclass(frozen=True)
class Witness:
    """A contestant that scores a row by its first tag and keeps what it was fitted on."""

    name: str = "witness"
    modes: tuple[str, ...] = ("local", "federated", "central")
    given: list[SiteData] = field(default_factory=list)

    def fit(self, sites: Sequence[SiteData], mode: str, seed: int, scratch: Path) -> Sequence[_FirstTag]:
        self.given.extend(sites)
        return [_FirstTag(site.name) for site in sites]


@dataclass(frozen=True)
class _FirstTag:
    site: str
    train_s: float = 0.5
    wire_bytes: int = 7
    every: int = 1

    def score(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Scored:
        scores_S = np.abs(np.asarray(test_TD, np.float64)[:, 0])[:: self.every]
        return Scored(scores_S, np.full(len(scores_S), 4.0), self.every)

    def portrait(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Arrays:
        return {"latents_NZ": np.zeros((3, 2), np.float32)}


def shuffled(some: Sequence[SiteData]) -> tuple[SiteData, ...]:
    """The sites with other labels."""
    rng = np.random.default_rng(9)
    return tuple(replace(site, labels_T=rng.permutation(np.asarray(site.labels_T))) for site in some)


def evaluation(auprc: float) -> Evaluation:
    """Every figure NaN but the ranking's."""
    return Evaluation(**{**dict.fromkeys((one.name for one in fields(Evaluation)), math.nan), "auprc": auprc})
