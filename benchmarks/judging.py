"""Scoring with a judge against the bare autoencoder, per window: many at once, and one by one as live rows come.

8,761 rows of 43 tags (BATADAL's size), default recipe, untrained weights: what a window costs does not depend on them.
Both sides alternate; one thread.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.figures import Figure, median
from client.training.infer import score_all
from client.training.judged import choice_of
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import Recipe
from shared.detectors import Detector, build
from shared.evidence.fit import Normal, fit_judge
from shared.evidence.judge import Judge
from shared.series import FloatArray
from shared.windows import window_starts

LIMIT = 1.5
ROWS, TAGS = 8_761, 43
_LIVE = 300  # windows that are scored one by one in a repetition


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Time of network and judge over that of the network; medians over repetitions."""
    recipe, rows_TD = Recipe(), _rows()
    torch.manual_seed(0)
    detector = build(recipe.detector, TAGS).eval()
    starts_N = window_starts(ROWS, recipe.detector.window, 1)
    ends_N, residual_TD = starts_N + (recipe.detector.window - 1), np.zeros_like(rows_TD)
    residual_TD[ends_N] = score_all(detector, _windows(rows_TD, starts_N, recipe), None).residual_ND
    judge = _judge(rows_TD, residual_TD, ends_N, recipe)
    found: dict[str, list[float]] = {"together": [], "one by one": []}
    for _ in range(3 if quick else 15):
        found["together"].append(_together(detector, judge, rows_TD, residual_TD, starts_N, recipe))
        found["one by one"].append(_one_by_one(detector, judge, rows_TD, residual_TD, recipe))
    return [median(f"network and judge / network, windows {how}", raw, "x", LIMIT) for how, raw in found.items()]


def _rows() -> FloatArray:
    """Tags that follow a few common causes, each with noise of its own."""
    rng = np.random.default_rng(0)
    causes_TC = np.cumsum(rng.normal(size=(ROWS, 6)), axis=0) * 0.02
    return np.tanh(causes_TC @ rng.normal(size=(6, TAGS)) + 0.3 * rng.normal(size=(ROWS, TAGS))).astype(np.float32)


def _windows(rows_TD: FloatArray, starts_N: np.ndarray, recipe: Recipe) -> TensorWindows:
    return TensorWindows(Part(rows_TD, starts_N), recipe.detector.window, torch.device("cpu"))


def _judge(rows_TD: FloatArray, residual_TD: FloatArray, ends_N: np.ndarray, recipe: Recipe) -> Judge:
    scored_T = np.zeros(ROWS, np.bool_)
    scored_T[ends_N] = True
    normal = Normal(rows_TD, (0,), scored_T, residual_TD)
    return fit_judge(normal, choice_of(recipe, TAGS)).judge


def _together(
    detector: Detector, judge: Judge, rows_TD: FloatArray, residual_TD: FloatArray, starts_N: np.ndarray, recipe: Recipe
) -> float:
    scored_T = np.zeros(ROWS, np.bool_)
    scored_T[starts_N + (recipe.detector.window - 1)] = True
    began = time.perf_counter()
    score_all(detector, _windows(rows_TD, starts_N, recipe), None)
    network = time.perf_counter()
    judge.scores(rows_TD, (0,), scored_T, residual_TD)
    return (time.perf_counter() - began) / (network - began)


def _one_by_one(
    detector: Detector, judge: Judge, rows_TD: FloatArray, residual_TD: FloatArray, recipe: Recipe
) -> float:
    window, stream = recipe.detector.window, judge.stream()
    stream.begin(rows_TD[:window])
    live, alone = range(window, window + _LIVE), 0.0
    began = time.perf_counter()
    for row in live:
        before = time.perf_counter()
        score_all(detector, _windows(rows_TD, np.array([row - window + 1]), recipe), None)
        alone += time.perf_counter() - before
        stream.take(rows_TD[row])
        stream.judge(residual_TD[row])
    return (time.perf_counter() - began) / alone
