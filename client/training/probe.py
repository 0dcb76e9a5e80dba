"""The probe of a bundle: held-out raw rows, scored by PyTorch as an edge box will score them by its graph."""

from __future__ import annotations

import numpy as np

from client.training.calibrate import combined
from client.training.infer import score_all
from client.training.judged import judge_scores
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.bundle.parts import Probe
from shared.config import Recipe
from shared.detectors import Detector
from shared.evidence.judge import Judge
from shared.model import Clusters
from shared.preprocess import Preprocessor
from shared.relations import Relations
from shared.relations.beside import beside
from shared.scoring import ScoreScale
from shared.series import FloatArray, SiteData
from shared.windows import window_starts

_WINDOWS = 200
_FEWEST = 16
_CELLS = 2_000_000  # of raw readings: 8 MB


def probe(
    site: SiteData,
    preprocessor: Preprocessor,
    detector: Detector,
    clusters: Clusters | None,
    scale: ScoreScale,
    recipe: Recipe,
    judge: Judge | None = None,
    relations: Relations | None = None,
) -> Probe:
    """Score the beginning of the longest held-out part of a site's recordings, as the beginning of a recording.

    Args:
        site: the plant's data.
        preprocessor, detector, clusters, scale: of the bundle; the detector has the model's weights.
        recipe: says what is held out.
        judge: of the bundle; None: the scale makes the scores.
        relations: beside it.
    """
    rows_RD = _held_rows(site, recipe)
    prepared_TD, window = preprocessor.live(rows_RD).values_TD, recipe.detector.window
    device = next(detector.parameters()).device
    starts_N = window_starts(len(prepared_TD), window, 1)
    part = Part(prepared_TD, starts_N)
    found = score_all(detector, TensorWindows(part, window, device), recipe.scoring.tail)
    scores_N = combined(found, clusters, scale)
    if judge is not None:
        scores_T, _ = judge_scores(judge, detector, clusters, prepared_TD, (0,), starts_N, recipe)
        scores_N = beside(relations, scores_T, rows_RD, (0,), preprocessor.every)[starts_N + (window - 1)]
    return Probe(rows_RD, scores_N, found.error_N.astype(np.float64))


def _held_rows(site: SiteData, recipe: Recipe) -> FloatArray:
    """Raw rows, float32 (R, D), a copy: the held-out part with the most rows, cut to what a probe needs."""
    every, window = recipe.preprocess.every, recipe.detector.window
    ends = [*site.train_starts[1:], len(site.train_TD)]
    spans = [_held(begin, end, recipe) for begin, end in zip(site.train_starts, ends, strict=True)]
    begin, end = max(spans, key=lambda span: span[1] - span[0])
    affordable = _CELLS // (site.schema.dim * every) - window + 1
    wanted = (window - 1 + min(_WINDOWS, max(_FEWEST, affordable))) * every
    return np.array(site.train_TD[begin : min(end, begin + wanted)], np.float32)


def _held(begin: int, end: int, recipe: Recipe) -> tuple[int, int]:
    """The raw rows of a recording that are held out, as `client.training.workspace` cuts it and leaves a gap."""
    every = recipe.preprocess.every
    joined = (end - begin) // every
    kept = round(joined * (1 - recipe.training.holdout))
    if joined - kept < recipe.detector.window:
        kept = joined
    if joined - kept >= 2 * recipe.clustering.unit + recipe.detector.window:
        kept += recipe.clustering.unit
    return begin + kept * every, begin + joined * every
