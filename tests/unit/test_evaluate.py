from __future__ import annotations

import numpy as np
import pytest
import torch
from msgspec import structs

from shared.bundle.parts import Provenance
from shared.bundle.whole import Bundle
from shared.config import Recipe
from shared.detectors import build
from shared.model import Clusters, GlobalModel, initial_weights
from shared.preprocess import fit_preprocessor
from shared.schema import SensorSchema
from shared.scoring import ScoreScale
from shared.series import SiteData
from shared.thresholds import fit
from simulations.evaluate import SiteResult, evaluate_site, pooled_evaluation

SCHEMA = SensorSchema(tags=("FIT101", "LIT101"), period_s=10)
STARTS = (0, 41, 43)  # one recording is shorter than three rows
LABELLED = [5, 40, 60, 61]  # row 40 is the incomplete end of its recording


def judged(
    rows: int = 100, clusters: Clusters | None = None, modes: tuple[float, ...] = (), **preprocess: object
) -> SiteResult:
    recipe = Recipe.model_validate({"detector": {"window": 4, "hidden": 3, "latent": 2}, "preprocess": preprocess})
    values = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    labels = np.zeros(100, bool)
    labels[LABELLED] = True
    starts = tuple(start for start in STARTS if start < rows)
    site = SiteData("north", SCHEMA, values[:100], values[100 : 100 + rows], labels[:rows], test_starts=starts)
    weights = initial_weights(build(recipe.detector, 2).manifest(), 0)
    bundle = Bundle(
        provenance=Provenance(site="north", run="a", round=1, model="0" * 64, holdout_loss=1.0),
        model=GlobalModel(weights, clusters),
        recipe=recipe,
        schema=SCHEMA,
        preprocessor=fit_preprocessor(site.train_TD, (0,), recipe.preprocess)[0],
        score=ScoreScale(entropy_weight=0.0),
        threshold=structs.replace(fit("conformal", np.linspace(0, 1, 200), recipe.threshold), by_mode=modes),
    )
    return evaluate_site(site, bundle, torch.device("cpu"))


def test_every_row_has_the_score_of_the_window_that_ends_there() -> None:
    result = judged()
    assert (result.starts, result.period_s, result.test_rows) == (STARTS, 10.0, 100)
    assert result.labels_T is not None
    assert np.flatnonzero(result.labels_T).tolist() == LABELLED
    assert np.flatnonzero(np.isnan(result.scores_T)).tolist() == [0, 1, 2, 41, 42, 43, 44, 45]


@pytest.mark.parametrize("how", ["median", "mean", "last"])
def test_joined_rows_carry_scores_labels_recordings_and_time_alike(how: str) -> None:
    result = judged(every=3, join=how, rolling=5)
    assert (result.starts, result.period_s, result.test_rows) == ((0, 13), 30.0, 100)
    assert len(result.scores_T) == 13 + 19
    assert result.labels_T is not None
    assert np.flatnonzero(result.labels_T).tolist() == [1, 13 + (60 - 43) // 3, 13 + (61 - 43) // 3]
    assert np.flatnonzero(np.isnan(result.scores_T)).tolist() == [0, 1, 2, 13, 14, 15]
    assert result.evaluation is not None


def test_test_data_shorter_than_a_block_has_no_scores() -> None:
    result = judged(rows=20, every=30)
    assert result.test_rows == 20
    assert len(result.scores_T) == 0
    assert result.evaluation is None


def test_thresholds_of_operating_modes_count() -> None:
    one = np.ones(1, np.float32)
    near = Clusters(np.zeros((1, 2), np.float32), one, np.ones(1, np.bool_), np.zeros(1, np.int64), 1.0)
    result = judged(clusters=near, modes=(1e9,))
    unscored_T = np.isnan(result.scores_T)
    assert set(result.thresholds_T[~unscored_T]) == {1e9}
    assert set(result.thresholds_T[unscored_T]) == {result.bundle.threshold.value}
    assert result.evaluation is not None
    assert result.evaluation.false_alarm_share == 0.0
    low, plain = judged(clusters=near, modes=(-1e9,)).evaluation, judged(clusters=near).evaluation
    assert low is not None
    assert plain is not None
    assert (low.false_alarm_share, low.auprc) == (1.0, plain.auprc)
    assert pooled_evaluation([result]).event_recall == 0.0  # type: ignore[union-attr]
