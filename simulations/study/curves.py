"""Curves from scores and labels: precision and recall, receiver operating characteristic, confusion. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.series import BoolArray
from simulations.study.contestant import Float64Array, Judged

_POINTS = 400


@dataclass(frozen=True)
class Laid:
    """Rows of several sites laid end to end, each score as its excess over the site's own threshold.

    Attributes:
        excess_M: float64 (M,), of the rows that have a score; positive where alarmed.
        labels_M: bool (M,).
    """

    excess_M: Float64Array
    labels_M: BoolArray


def laid(judged: Sequence[Judged]) -> Laid | None:
    """Labelled sites end to end; None without one, or without both kinds of rows."""
    parts = [
        (_finite(one.scores_T - one.thresholds_T)[known_T], one.labels_T[known_T])
        for one in judged
        if one.labels_T is not None and (known_T := ~np.isnan(one.scores_T)).any()
    ]
    if not parts:
        return None
    labels_M = np.concatenate([labels_m for _, labels_m in parts])
    if labels_M.all() or not labels_M.any():
        return None
    return Laid(np.concatenate([excess_m for excess_m, _ in parts]), labels_M)


def _finite(values_T: Float64Array) -> Float64Array:
    return np.nan_to_num(values_T, nan=0.0, posinf=1e300, neginf=-1e300)


@dataclass(frozen=True)
class Confusion:
    """Rows by what they are and what was said, at the sites' own thresholds."""

    hits: int
    missed: int
    false: int
    quiet: int


def confusion(of: Laid) -> Confusion:
    """Count them.

    Example:
        >>> confusion(Laid(np.array([1.0, -1.0, 2.0, -3.0]), np.array([True, True, False, False])))
        Confusion(hits=1, missed=1, false=1, quiet=1)
    """
    alarms_M = of.excess_M > 0
    return Confusion(
        hits=int((alarms_M & of.labels_M).sum()),
        missed=int((~alarms_M & of.labels_M).sum()),
        false=int((alarms_M & ~of.labels_M).sum()),
        quiet=int((~alarms_M & ~of.labels_M).sum()),
    )


def precision_recall(of: Laid) -> tuple[Float64Array, Float64Array]:
    """Recall and precision at falling thresholds, (P,) each, at most 400 points."""
    hits_G, rows_G = _counts(of)
    return _thinned(hits_G / hits_G[-1], hits_G / rows_G)


def operating(of: Laid) -> tuple[Float64Array, Float64Array]:
    """Share of normal and of anomalous rows that are alarmed at falling thresholds, (P,) each."""
    hits_G, rows_G = _counts(of)
    false_G = rows_G - hits_G
    return _thinned(np.append(0.0, false_G / false_G[-1]), np.append(0.0, hits_G / hits_G[-1]))


def _counts(of: Laid) -> tuple[Float64Array, Float64Array]:
    """Anomalous rows and rows at or above each distinct score, from the highest down."""
    order_M = np.argsort(-of.excess_M, kind="stable")
    sorted_M = of.excess_M[order_M]
    last_G = np.append(np.flatnonzero(np.diff(sorted_M)), len(sorted_M) - 1)
    hits_G = np.cumsum(of.labels_M[order_M])[last_G].astype(np.float64)
    return hits_G, (last_G + 1).astype(np.float64)


def _thinned(x_G: Float64Array, y_G: Float64Array) -> tuple[Float64Array, Float64Array]:
    chosen = np.unique(np.linspace(0, len(x_G) - 1, _POINTS).astype(np.int64))
    return x_G[chosen], y_G[chosen]


def projected(latents_NZ: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Float64Array:
    """The two principal components, float64 (N, 2) (Pearson 1901); zeros where there is only one."""
    centred_NZ = latents_NZ.astype(np.float64) - latents_NZ.mean(axis=0, dtype=np.float64)
    axes_ZZ = np.linalg.svd(centred_NZ, full_matrices=False)[2]
    plane_N2 = np.zeros((len(latents_NZ), 2))
    found_N = centred_NZ @ axes_ZZ[:2].T
    plane_N2[:, : found_N.shape[1]] = found_N
    return plane_N2
