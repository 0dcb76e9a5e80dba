"""The tail of the scores as a generalised Pareto distribution: its peaks, its fit, and when not to believe it.

Symbols: Y excesses of the peaks over a level u, gamma the shape, sigma the scale,
`P(Y > y) = (1 + gamma y / sigma)^(-1 / gamma)`.
Siffer, Fouque, Termier and Largouet 2017, "Anomaly Detection in Streams with Extreme Value Theory", KDD.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from shared.scoring import Float64Array

FEWEST = 200  # peaks
MOST_SHARE = 0.05
MOST_POINTS = 20_000  # peaks a fit looks at; more are thinned to evenly spaced order statistics
_SHAPES = (-1.0, 0.7)  # beyond: an end of the distribution inside the data, or hardly a finite mean
_GRID = 48
_HALVINGS = 60
_ZERO = 1e-6  # of x = gamma / sigma, with the excesses in units of their mean
_WIDER = 3.0  # a believable threshold: between the quantiles of 3 alpha and ..., and 3 times the highest excess


class Pareto(NamedTuple):
    """Shape and scale of excesses; the scale in their unit."""

    gamma: float
    sigma: float

    def likelihood(self, excesses_P: Float64Array) -> float:
        """Mean log-likelihood of excesses, (P,); minus infinity if one is beyond the end of the distribution."""
        y_P = excesses_P / self.sigma
        if abs(self.gamma) < _ZERO:
            return -math.log(self.sigma) - float(y_P.mean())
        inner_P = 1 + self.gamma * y_P
        if inner_P.min() <= 0:
            return -math.inf
        return -math.log(self.sigma) - (1 + 1 / self.gamma) * float(np.log(inner_P).mean())

    def exceeded_by(self, share: float) -> float:
        """The excess that a share of all peaks goes beyond, share in (0, 1].

        Example:
            >>> round(Pareto(0.0, 1.0).exceeded_by(0.1), 6), round(Pareto(0.5, 1.0).exceeded_by(0.25), 6)
            (2.302585, 2.0)
        """
        if abs(self.gamma) < _ZERO:
            return -self.sigma * math.log(share)
        return self.sigma / self.gamma * math.expm1(-self.gamma * math.log(share))


def grimshaw(excesses_P: Float64Array) -> Pareto:
    """The most likely generalised Pareto distribution of excesses > 0, (P,), P >= 2.

    Grimshaw 1993, "Computing Maximum Likelihood Estimates for the Generalized Pareto Distribution", Technometrics
    35(2): with x = gamma / sigma the two equations become one, `u(x) v(x) = 1` with `u = mean(1 / (1 + x Y))` and
    `v = 1 + mean ln(1 + x Y)`, whose roots lie in (-1 / max Y, 0) and (0, 2 (mean Y - min Y) / min Y^2]; gamma = v - 1.
    The exponential distribution, x = 0, stands beside them. Excesses are taken in units of their mean first, so that
    it works alike for scores of 0.001 and of 1000.

    Example:
        >>> fitted = grimshaw(-np.log(np.linspace(0.0005, 0.9995, 1000)))  # exponential
        >>> abs(fitted.gamma) < 0.02, abs(fitted.sigma - 1) < 0.02
        (True, True)
    """
    mean = float(excesses_P.mean())
    if mean <= 0:
        return Pareto(0.0, np.finfo(float).tiny)  # all excesses are 0
    y_P = excesses_P / mean
    found = [_of_root(x, y_P) for x in _roots(y_P)]
    best = max([Pareto(0.0, 1.0), *found], key=lambda pareto: pareto.likelihood(y_P))
    return Pareto(best.gamma, best.sigma * mean)


def _of_root(x: float, y_P: Float64Array) -> Pareto:
    gamma = float(np.log1p(x * y_P).mean())
    return Pareto(gamma, gamma / x)


def _roots(y_P: Float64Array) -> list[float]:
    high, low = float(y_P.max()), max(float(y_P.min()), 1e-6)
    ends = max(2 * (1 - low) / low**2, 1.0)
    below_G = -(1 - np.geomspace(1e-8, 1 - 1e-4, _GRID)) / high  # from the pole to shortly before 0
    above_G = np.geomspace(1e-4, min(ends, 1e6), _GRID)
    roots = []
    for grid_G in (below_G, above_G):
        values = [_equation(x, y_P) for x in grid_G.tolist()]
        for a, b, at_a, at_b in zip(grid_G, grid_G[1:], values, values[1:], strict=False):
            if at_a * at_b < 0:
                roots.append(_bisect(float(a), float(b), at_a, y_P))
    return [x for x in roots if abs(x) > _ZERO]


def _equation(x: float, y_P: Float64Array) -> float:
    inner_P = 1 + x * y_P
    return float((1 / inner_P).mean() * (1 + np.log(inner_P).mean())) - 1


def _bisect(a: float, b: float, at_a: float, y_P: Float64Array) -> float:
    for _ in range(_HALVINGS):
        middle = (a + b) / 2
        at_middle = _equation(middle, y_P)
        a, b, at_a = (middle, b, at_middle) if at_a * at_middle > 0 else (a, middle, at_a)
    return (a + b) / 2


def cluster_peaks(scores_N: Float64Array, level: float, gap: int) -> Float64Array:
    """Excesses of the highest score of every cluster above a level; clusters are `gap` windows apart, or more.

    Scores of overlapping windows exceed a level together; counted one by one they would feign a certainty that is not
    there ("runs declustering", Coles 2001, "An Introduction to Statistical Modeling of Extreme Values", section 5.3.2).

    Example:
        >>> cluster_peaks(np.array([0.0, 3.0, 5.0, 0.0, 4.0, 0.0, 0.0, 9.0]), level=2.0, gap=3)
        array([3., 7.])
    """
    at_E = np.flatnonzero(scores_N > level)
    if not len(at_E):
        return np.empty(0)
    firsts_C = np.flatnonzero(np.diff(at_E, prepend=at_E[0] - gap) >= gap)
    peaks_C: Float64Array = np.maximum.reduceat(scores_N[at_E], firsts_C) - level
    return peaks_C


class Tail(NamedTuple):
    """Where a tail begins, the share of the windows in it, its peaks' excesses in ascending order, and their fit."""

    level: float
    share: float
    peaks_P: Float64Array
    fitted: Pareto

    def above(self, alpha: float) -> float:
        """The score that a share alpha of the windows exceeds: `u + sigma / gamma ((alpha / share)^-gamma - 1)`."""
        return self.level + self.fitted.exceeded_by(min(alpha / self.share, 1.0)) if self.share > 0 else self.level


def find_tail(scores_N: Float64Array, alpha: float, share: float, gap: int) -> tuple[Tail | None, str]:
    """Fit the tail, or say why its fit is not to be believed.

    The level is the (1 - share) quantile; if it leaves fewer than 200 clusters of peaks, that of 5 %.

    Args:
        scores_N: (N,), in order of time.
        alpha: the false alarm rate that it is wanted for, below the share.
        share: of the windows above the level, 0.02 to 0.05.
        gap: windows that separate clusters.

    Returns:
        the tail and an empty text, or None and the reason.
    """
    reason = f"A rate of {alpha:g} is not in the tail, which begins at {MOST_SHARE:g}."
    for part in sorted({share, MOST_SHARE}):
        if alpha >= part:
            continue
        level = float(np.quantile(scores_N, 1 - part))
        peaks_P = np.sort(cluster_peaks(scores_N, level, gap))
        reason = f"There are {len(peaks_P)} separate peaks above the {1 - part:.0%} quantile; {FEWEST} are wanted."
        if len(peaks_P) >= FEWEST:
            tail = Tail(level, float(np.mean(scores_N > level)), thinned(peaks_P), Pareto(0.0, 1.0))
            tail = tail._replace(fitted=grimshaw(tail.peaks_P))
            return (tail, "") if believable(tail, scores_N, alpha) else (None, _absurd(tail, alpha))
    return None, reason


def thinned(ordered_P: Float64Array, most: int = MOST_POINTS) -> Float64Array:
    """Evenly spaced ones of ordered values, the least and the highest among them."""
    if len(ordered_P) <= most:
        return ordered_P
    return ordered_P[np.linspace(0, len(ordered_P) - 1, most).round().astype(np.int64)]


def believable(tail: Tail, scores_N: Float64Array, alpha: float) -> bool:
    """The sanity envelope: a shape in [-1, 0.7], and a threshold that the scores do not contradict.

    It must not lie below the score that 3 alpha of the calibration windows exceed, nor higher above the level than 3
    times their highest excess.
    """
    value, (least, most) = tail.above(alpha), _SHAPES
    low = float(np.quantile(scores_N, max(0.0, 1 - _WIDER * alpha)))
    high = tail.level + _WIDER * float(tail.peaks_P[-1])
    return least <= tail.fitted.gamma <= most and math.isfinite(value) and low <= value <= high


def _absurd(tail: Tail, alpha: float) -> str:
    return f"The tail's fit is absurd: shape {tail.fitted.gamma:.2f}, threshold {tail.above(alpha):.4g}."
