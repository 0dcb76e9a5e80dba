"""The closed-form lag model alone (docs/lag.md): own moments, everybody's, or own with the others' as a prior."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.config import RunConfig
from shared.errors import DataError
from shared.lag import (
    LagScorer,
    Moments,
    calibrated,
    chosen_rows,
    fit_mahalanobis,
    fit_var,
    moments,
    pieces,
    vector_size,
    with_prior,
)
from shared.series import FloatArray, SiteData
from shared.thresholds import Threshold
from simulations.study.contestant import CENTRAL, FEDERATED, LOCAL, Arrays, LeftOut, Scored
from simulations.study.rows import Prepared, check_alike, prepare_all, threshold

LAGS = 5
_NUMBER = 8  # bytes


@dataclass(frozen=True)
class FittedLag:
    """A site with its lag scorer and its threshold."""

    site: str
    train_s: float
    wire_bytes: int
    rows: Prepared
    scorer: LagScorer
    threshold: Threshold

    def score(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Scored:
        """See `Fitted.score`."""
        live = self.rows.preprocessor.live(np.asarray(test_TD, np.float32), starts)
        scores_S = self.scorer.score_rows(live.values_TD, live.starts)
        return Scored(scores_S, self.threshold.values(len(scores_S)), self.rows.preprocessor.every)

    def portrait(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Arrays:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class LagContestant:
    """`lag`: local is a site's own moments, central the sum of all, federated the site's own with the others' prior."""

    config: RunConfig
    name: str = "lag"
    modes: tuple[str, ...] = (LOCAL, FEDERATED, CENTRAL)

    def fit(self, sites: Sequence[SiteData], mode: str, seed: int, scratch: Path) -> Sequence[FittedLag | LeftOut]:
        """Closed form; see `Contestant.fit`. Nothing is drawn."""
        started = time.perf_counter()
        plants, left = prepare_all(sites, self.config.recipe)
        sums = [moments(plant.learn_TD, plant.learn_starts, LAGS) for plant in plants]
        if mode == LOCAL:
            return [*left, *(self._alone(plant, own) for plant, own in zip(plants, sums, strict=True))]
        check_alike(sites)
        whole = sum(sums[1:], sums[0])
        mine = [
            whole if mode == CENTRAL else _with_others(plant, own, whole - own)
            for plant, own in zip(plants, sums, strict=True)
        ]
        fitted = [self._calibrated(plant, own) for plant, own in zip(plants, mine, strict=True)]
        seconds = time.perf_counter() - started
        traffic = 2 * _NUMBER * vector_size(sums[0].dim, LAGS) * len(plants) if mode == FEDERATED else 0
        return [
            *left,
            *(
                FittedLag(plant.site, seconds, traffic, plant, scorer, limit)
                for plant, (scorer, limit) in zip(plants, fitted, strict=True)
            ),
        ]

    def _alone(self, plant: Prepared, own: Moments) -> FittedLag | LeftOut:
        started = time.perf_counter()
        try:
            scorer, limit = self._calibrated(plant, own)
        except DataError as error:
            return LeftOut(plant.site, f"{error.code} {error.cause}")
        return FittedLag(plant.site, time.perf_counter() - started, 0, plant, scorer, limit)

    def _calibrated(self, plant: Prepared, own: Moments) -> tuple[LagScorer, Threshold]:
        scorer = calibrated(fit_mahalanobis(own), fit_var(own), plant.held_TD, plant.held_starts)
        held_H = scorer.score_rows(plant.held_TD, plant.held_starts)
        return scorer, threshold(held_H, plant, self.config.recipe)


def _with_others(plant: Prepared, own: Moments, others: Moments) -> Moments:
    worth = chosen_rows(pieces(plant.learn_TD, plant.learn_starts, LAGS), others)
    return with_prior(own, others, worth)
