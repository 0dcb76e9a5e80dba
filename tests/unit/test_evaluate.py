from __future__ import annotations

import numpy as np
import pytest
import torch

from shared.bundle import Bundle, Provenance
from shared.config import Recipe
from shared.detectors import build
from shared.model import GlobalModel, initial_weights
from shared.preprocess import fit_preprocessor
from shared.schema import SensorSchema
from shared.scoring import ScoreScale
from shared.series import SiteData
from shared.thresholds import fit
from simulations.evaluate import SiteResult, evaluate_site

SCHEMA = SensorSchema(tags=("FIT101", "LIT101"), period_s=10)
STARTS = (0, 41, 43)  # one recording is shorter than three rows
LABELLED = [5, 40, 60, 61]  # row 40 is the incomplete end of its recording


def judged(rows: int = 100, **preprocess: object) -> SiteResult:
    recipe = Recipe.model_validate({"detector": {"window": 4, "hidden": 3, "latent": 2}, "preprocess": preprocess})
    values = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    labels = np.zeros(100, bool)
    labels[LABELLED] = True
    starts = tuple(start for start in STARTS if start < rows)
    site = SiteData("north", SCHEMA, values[:100], values[100 : 100 + rows], labels[:rows], test_starts=starts)
    weights = initial_weights(build(recipe.detector, 2).manifest(), 0)
    bundle = Bundle(
        provenance=Provenance(site="north", run="a", round=1, model="0" * 64, holdout_loss=1.0),
        model=GlobalModel(weights),
        recipe=recipe,
        schema=SCHEMA,
        preprocessor=fit_preprocessor(site.train_TD, (0,), recipe.preprocess)[0],
        score=ScoreScale(entropy_weight=0.0),
        threshold=fit("conformal", np.linspace(0, 1, 200), recipe.threshold),
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
