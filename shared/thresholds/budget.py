"""From an alarm budget to a false alarm rate, and from scores to the rate that a threshold really has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.scoring import Float64Array
from shared.series import BoolArray
from shared.thresholds.conformal import ranked
from shared.thresholds.worth import effective_size

RESAMPLES = 500
LEVEL = 0.9
_BLOCKS = 4  # a block: so many times the decorrelation length
_FEWEST = 5  # blocks; fewer are no sample
_MISSED = (1 - LEVEL) / 2


def rate_for_budget(alarms_a_day: float, windows_a_day: float, mean_episode: float = 1.0) -> float:
    """`alpha = A_per_day * mean_episode_windows / windows_per_day` (notes/privacy.md, section 7.3, step 2).

    Args:
        alarms_a_day: false alarms that people will put up with; with two models (the local guard) half of it for each.
        windows_a_day: 86400 / seconds between two windows.
        mean_episode: windows above the threshold in one alarm: `mean_episode`.

    Returns:
        a share of normal windows, at most 0.5.

    Raises:
        ValueError: a number is not positive and finite, or an episode is shorter than a window.

    Example:
        >>> rate_for_budget(1.0, 86_400, mean_episode=20)
        0.0002314814814814815
    """
    given = (alarms_a_day, windows_a_day, mean_episode)
    if not all(math.isfinite(number) and number > 0 for number in given) or mean_episode < 1:
        raise ValueError(f"alarms and windows a day above 0 and episodes of 1 window or more are due, not {given}")
    return min(0.5, alarms_a_day * mean_episode / windows_a_day)


def rate_from_scores(scores_N: Float64Array, alarms_a_day: float, windows_a_day: float, gap: int = 1) -> float:
    """`rate_for_budget` with the episodes that the normal scores have at the threshold of that very rate.

    Episodes get shorter as the threshold rises, so the rate is sought: from a tenth of the windows down, by halves, the
    first one whose threshold gives no more episodes than the budget; then the formula there.

    Args:
        scores_N: (N,), normal, finite, in order of time.
        alarms_a_day, windows_a_day: as in `rate_for_budget`.
        gap: windows without an alarm that end an episode: the time to re-arm.

    Example:
        >>> scores = np.random.default_rng(0).normal(size=86_400)
        >>> 90 < 86_400 * rate_from_scores(scores, 100.0, 86_400) < 110
        True
    """
    rate, days = 0.1, len(scores_N) / windows_a_day
    while rate * len(scores_N) >= 1:
        found = episodes(scores_N > ranked(scores_N, rate), gap)
        if len(found) <= alarms_a_day * days:
            break
        rate /= 2
    alarmed_N = scores_N > ranked(scores_N, max(rate, 1 / len(scores_N)))
    return rate_for_budget(alarms_a_day, windows_a_day, mean_episode(alarmed_N, gap))


def episodes(alarmed_N: BoolArray, gap: int = 1) -> list[tuple[int, int]]:
    """First window and the one after the last of every run of alarms; runs less than `gap` windows apart are one.

    Example:
        >>> episodes(np.array([0, 1, 1, 0, 1, 0, 0, 1], bool), gap=2)
        [(1, 5), (7, 8)]
    """
    at_E = np.flatnonzero(alarmed_N)
    if not len(at_E):
        return []
    breaks_C = np.flatnonzero(np.diff(at_E) > gap) + 1
    cuts = [0, *breaks_C.tolist(), len(at_E)]
    return [(int(at_E[a]), int(at_E[b - 1]) + 1) for a, b in pairwise(cuts)]


def mean_episode(alarmed_N: BoolArray, gap: int = 1) -> float:
    """Alarmed windows in an episode, on average; 1 without any."""
    count = len(episodes(alarmed_N, gap))
    return float(alarmed_N.sum()) / count if count else 1.0


@dataclass(frozen=True)
class Realised:
    """What a threshold does to normal windows that it was not set on.

    Attributes:
        size: windows.
        rate: share of them above it.
        rate_low, rate_high: its 90 % interval by block bootstrap; NaN with fewer than five blocks. Without any alarm,
            the upper end is the rate at which none would be seen once in twenty times.
        alarms_a_day: episodes.
        alarms_low, alarms_high: their interval.
        block: windows of a block.
    """

    size: int
    rate: float
    rate_low: float
    rate_high: float
    alarms_a_day: float
    alarms_low: float
    alarms_high: float
    block: int


def realised(
    alarmed_N: BoolArray, scores_N: Float64Array, windows_a_day: float, gap: int = 1, seed: int = 0
) -> Realised:
    """The rate of alarms and of episodes with their 90 % intervals.

    Blocks of time are drawn with replacement (moving blocks, Kuensch 1989, "The Jackknife and the Bootstrap for General
    Stationary Observations"), at least as long as the decorrelation length: single windows would feign a certainty that
    is not there. An episode counts at its beginning.

    Args:
        alarmed_N: bool (N,).
        scores_N: (N,), finite: their autocorrelation sets the block.
        windows_a_day: 86400 / seconds between two windows.
        gap: as in `episodes`.
        seed: of the draws.

    Example:
        >>> scores = np.random.default_rng(0).normal(size=5000)
        >>> found = realised(scores > 2.0, scores, 1000.0)
        >>> found.rate_low < found.rate < found.rate_high, found.size
        (True, 5000)
    """
    n, effective = len(alarmed_N), effective_size(scores_N)
    begins_N = np.zeros(n)
    begins_N[[first for first, _ in episodes(alarmed_N, gap)]] = 1.0
    block = max(1, min(n, math.ceil(_BLOCKS * n / effective)))
    rng = np.random.default_rng(seed)
    starts_RB = rng.integers(0, n - block + 1, size=(RESAMPLES, max(1, n // block)))
    low, high = _interval(alarmed_N.astype(np.float64), starts_RB, block)
    first, last = (windows_a_day * end for end in _interval(begins_N, starts_RB, block))
    if not alarmed_N.any():  # every resample is empty, too; that is no proof
        high, last = 1 - _MISSED ** (1 / effective), -math.log(_MISSED) * windows_a_day / n
    return Realised(n, float(alarmed_N.mean()), low, high, float(begins_N.mean()) * windows_a_day, first, last, block)


def _interval(
    values_N: Float64Array, starts_RB: np.ndarray[tuple[int, int], np.dtype[np.int64]], block: int
) -> tuple[float, float]:
    if starts_RB.shape[1] < _FEWEST:
        return math.nan, math.nan
    sums_N = np.concatenate([[0.0], np.cumsum(values_N)])
    means_R = (sums_N[starts_RB + block] - sums_N[starts_RB]).mean(axis=1) / block
    low, high = np.quantile(means_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high
