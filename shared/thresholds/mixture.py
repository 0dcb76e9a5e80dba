"""A mixture of normal distributions for each operating mode, and its upper quantile."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from shared.scoring import Float64Array
from shared.thresholds.base import Cut, Normal, Settings, register
from shared.thresholds.conformal import ranked, too_few
from shared.thresholds.context import WANTED

MOST_COMPONENTS = 4
_POINTS = 4096  # a mixture is fitted to so many evenly spaced order statistics at most
_STEPS = 300
_FIRST_STEPS = 30
_ENOUGH = 1e-7  # change of the mean log-likelihood that ends the iteration
_FLOOR = 1e-6  # least variance of a component, of that of all
_FIT = 2.0  # share of the calibration windows above the value, in units of the rate, that is still taken for a fit


class Mixture(NamedTuple):
    """Weights, means and standard deviations of its components, each (C,), and the mean log-likelihood of a point."""

    weight_C: Float64Array
    mean_C: Float64Array
    sd_C: Float64Array
    likelihood: float


@register("mixture")
def mixture(normal: Normal, config: Settings) -> Cut:
    """`P(score > tau_j) = alpha` under a mixture of up to four normal distributions, fitted to the scores of cluster j.

    Clusters with `n_j < 10 / alpha` and windows without a cluster use the value of all windows together. The number of
    components is that of the least Bayesian information criterion (Schwarz 1978). It is a model: it supports no rate,
    and where more than twice the rate of the calibration scores lie above it, the caveat says that it does not fit.
    """
    alpha = config.false_alarm_rate
    pooled = _upper(normal.scores_N, alpha)
    own = [normal.of_mode(mode) for mode in range(normal.modes)]
    by_mode = tuple(_upper(scores, alpha) if len(scores) >= WANTED / alpha else pooled for scores in own)
    above = _share_above(normal, pooled, by_mode)
    misfit = f"The mixture does not fit: {above:.2%} of the calibration windows are above it, not {alpha:.2%}."
    short = too_few(len(normal.scores_N), alpha) if (len(normal.scores_N) + 1) * alpha < 1 else ""
    caveat = short or (misfit if above > _FIT * alpha else "")
    return Cut(value=pooled, false_alarm_rate=alpha, by_mode=by_mode, caveat=caveat)


def _share_above(normal: Normal, pooled: float, by_mode: tuple[float, ...]) -> float:
    if normal.modes_N is None:
        return float(np.mean(normal.scores_N > pooled))
    values = np.array([*by_mode, pooled])  # the last one is for windows without a mode
    return float(np.mean(normal.scores_N > values[np.maximum(normal.modes_N, -1)]))


def _upper(scores_N: Float64Array, alpha: float) -> float:
    """The (1 - alpha) quantile of the best mixture; conformal's score where there are too few values for one."""
    scale, middle = float(np.std(scores_N)), float(np.median(scores_N))
    if len(scores_N) < WANTED or scale <= 1e-12 * abs(middle) or scale == 0.0:
        return ranked(scores_N, alpha)
    points_M = (_thinned(np.sort(scores_N)) - middle) / scale
    return middle + scale * upper_quantile(best_mixture(points_M), alpha)


def _thinned(ordered_N: Float64Array) -> Float64Array:
    if len(ordered_N) <= _POINTS:
        return ordered_N
    return np.interp((np.arange(_POINTS) + 0.5) / _POINTS * len(ordered_N) - 0.5, np.arange(len(ordered_N)), ordered_N)


def best_mixture(points_M: Float64Array) -> Mixture:
    """The mixture of 1 to 4 components with the least Bayesian information criterion; points (M,), ascending."""
    found = [em(points_M, count) for count in range(1, MOST_COMPONENTS + 1)]
    size = len(points_M)
    return min(found, key=lambda m: (3 * len(m.mean_C) - 1) * math.log(size) - 2 * size * m.likelihood)


def em(points_M: Float64Array, count: int) -> Mixture:
    """Expectation maximisation (Dempster, Laird and Rubin 1977), to the end from the better of two beginnings.

    Args:
        points_M: (M,), ascending, M >= count, of about unit variance.
        count: components, C.
    """
    low, high = np.quantile(points_M, [0.001, 0.999]).tolist()
    wide = np.searchsorted(points_M, np.linspace(low, high, count + 1)[1:-1])
    begun = [
        _iterated(points_M, _of_parts(parts), _FIRST_STEPS)
        for parts in (np.array_split(points_M, count), np.split(points_M, wide))
        if all(len(part) for part in parts)
    ]
    return _iterated(points_M, max(begun, key=lambda found: found.likelihood), _STEPS)


def _of_parts(parts: list[Float64Array]) -> Mixture:
    sizes_C = np.array([len(part) for part in parts])
    mean_C, sd_C = np.array([part.mean() for part in parts]), np.array([part.std() for part in parts])
    return Mixture(sizes_C / sizes_C.sum(), mean_C, sd_C, -math.inf)


def _iterated(points_M: Float64Array, found: Mixture, steps: int) -> Mixture:
    floor = _FLOOR * float(np.var(points_M)) + 1e-300
    weight_C, mean_C, variance_C = found.weight_C, found.mean_C, np.maximum(found.sd_C**2, floor)
    before = -math.inf
    for _ in range(steps):
        log_CM = _log_density(points_M, weight_C, mean_C, variance_C)
        top_M = log_CM.max(axis=0)
        share_CM = np.exp(log_CM - top_M)
        total_M = share_CM.sum(axis=0)
        likelihood = float(np.mean(top_M + np.log(total_M)))
        found = Mixture(weight_C, mean_C, np.sqrt(variance_C), likelihood)
        if likelihood - before < _ENOUGH:
            break
        before = likelihood
        share_CM /= total_M
        mass_C = share_CM.sum(axis=1) + 1e-12
        weight_C, mean_C = mass_C / mass_C.sum(), share_CM @ points_M / mass_C
        away_CM = points_M - mean_C[:, None]
        variance_C = np.maximum((share_CM * away_CM**2).sum(axis=1) / mass_C, floor)
    return found


def _log_density(
    points_M: Float64Array, weight_C: Float64Array, mean_C: Float64Array, variance_C: Float64Array
) -> Float64Array:
    distance_CM = (points_M - mean_C[:, None]) ** 2 / variance_C[:, None]
    log_CM: Float64Array = np.log(weight_C / np.sqrt(2 * math.pi * variance_C))[:, None] - 0.5 * distance_CM
    return log_CM


def upper_quantile(found: Mixture, alpha: float) -> float:
    """Where a share alpha of the mixture lies above, by bisection.

    Example:
        >>> one = Mixture(np.array([1.0]), np.array([0.0]), np.array([1.0]), 0.0)
        >>> round(upper_quantile(one, 0.025), 4)
        1.96
    """
    low, high = float((found.mean_C - 40 * found.sd_C).min()), float((found.mean_C + 40 * found.sd_C).max())
    for _ in range(100):
        middle = (low + high) / 2
        z = (middle - found.mean_C) / (found.sd_C * math.sqrt(2))
        above = sum(w * math.erfc(x) / 2 for w, x in zip(found.weight_C.tolist(), z.tolist(), strict=True))
        low, high = (middle, high) if above > alpha else (low, middle)
    return (low + high) / 2
