"""Baselines of `simulations.baselines` on prepared rows: each site alone, or one fit on everybody's rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.config import RunConfig
from shared.errors import DataError
from shared.series import FloatArray, SiteData
from shared.thresholds import Threshold
from simulations import baselines
from simulations.study.contestant import CENTRAL, LOCAL, Arrays, Float64Array, LeftOut, Scored
from simulations.study.rows import Prepared, check_alike, prepare_all, threshold


@dataclass(frozen=True)
class FittedBaseline:
    """A site with a fitted baseline and its threshold."""

    site: str
    train_s: float
    rows: Prepared
    model: baselines.Fitted
    threshold: Threshold
    wire_bytes: int = 0

    def score(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Scored:
        """See `Fitted.score`."""
        live = self.rows.preprocessor.live(np.asarray(test_TD, np.float32), starts)
        scores_S = _scores(self.model, live.values_TD, live.starts)
        return Scored(scores_S, self.threshold.values(len(scores_S)), self.rows.preprocessor.every)

    def portrait(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Arrays:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class LibraryContestant:
    """A baseline by its name; the threshold is the recipe's rule on the same held-out rows as everybody's."""

    name: str
    config: RunConfig
    modes: tuple[str, ...] = (LOCAL, CENTRAL)

    def fit(self, sites: Sequence[SiteData], mode: str, seed: int, scratch: Path) -> Sequence[FittedBaseline | LeftOut]:
        """See `Contestant.fit`."""
        plants, left = prepare_all(sites, self.config.recipe)
        if mode == LOCAL:
            return [*left, *(self._alone(plant, seed) for plant in plants)]
        check_alike(sites)
        return [*left, *self._fitted(plants, seed)]

    def _alone(self, plant: Prepared, seed: int) -> FittedBaseline | LeftOut:
        try:
            return self._fitted([plant], seed)[0]
        except DataError as error:
            return LeftOut(plant.site, f"{error.code} {error.cause}")

    def _fitted(self, plants: Sequence[Prepared], seed: int) -> list[FittedBaseline]:
        """One model on the rows of some plants, with a threshold for each."""
        started = time.perf_counter()
        model = _fit(baselines.find(self.name), plants, seed)
        seconds = time.perf_counter() - started
        return [self._with_threshold(plant, model, seconds) for plant in plants]

    def _with_threshold(self, plant: Prepared, model: baselines.Fitted, seconds: float) -> FittedBaseline:
        held_H = _scores(model, plant.held_TD, plant.held_starts)
        return FittedBaseline(plant.site, seconds, plant, model, threshold(held_H, plant, self.config.recipe))


def _fit(baseline: baselines.Baseline, plants: Sequence[Prepared], seed: int) -> baselines.Fitted:
    """Fit on the rows of plants laid end to end, every recording one of the whole's."""
    before = np.cumsum([0, *(len(plant.learn_TD) for plant in plants[:-1])])
    starts = tuple(int(rows) + at for rows, plant in zip(before, plants, strict=True) for at in plant.learn_starts)
    return baseline.fit(np.concatenate([plant.learn_TD for plant in plants]), starts, seed)


def _scores(model: baselines.Fitted, rows_TD: FloatArray, starts: tuple[int, ...]) -> Float64Array:
    return np.asarray(model.scores(rows_TD, starts), np.float64)
