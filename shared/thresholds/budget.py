"""From an alarm budget to a false alarm rate, and from scores to the rate that a threshold really has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Self

import numpy as np
from msgspec import Meta

from shared.artefact import Artefact
from shared.scoring import Float64Array
from shared.series import BoolArray
from shared.thresholds.conformal import ranked
from shared.thresholds.worth import effective_size

RESAMPLES = 500
LEVEL = 0.9
_BLOCKS = 4  # a block: so many times the decorrelation length
_FEWEST = 5  # blocks; fewer are no sample
_MISSED = (1 - LEVEL) / 2
_HIGHEST_SHARE = 0.1  # of windows above a threshold: where the search for a rate begins
REARM_S = 300.0  # what comes back within that time is the same alarm: `[alarms] rearm_s` as it is by default


def rate_for_budget(alarms_a_day: float, windows_a_day: float, mean_episode: float = 1.0) -> float:
    """`alpha = A_per_day * mean_episode_windows / windows_per_day` (docs/edge/thresholds.md).

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

    Args:
        scores_N: (N,), normal, finite, in order of time.
        alarms_a_day, windows_a_day: as in `rate_for_budget`.
        gap: windows without an alarm that end an episode: the time to re-arm.

    Example:
        >>> scores = np.random.default_rng(0).normal(size=86_400)
        >>> 90 < 86_400 * rate_from_scores(scores, 100.0, 86_400) < 110
        True
    """
    return Bursts.of_scores(scores_N, gap).rate_for(alarms_a_day, windows_a_day)


class Bursts(Artefact, frozen=True, kw_only=True):
    """How normal scores above a threshold come in episodes, from low thresholds to high ones: what an edge box needs to
    turn alarms a day into a rate without the scores themselves.

    Attributes:
        size: windows, n.
        gap: windows without an alarm that end an episode.
        shares: of the windows that a threshold was set to leave above it: a tenth, by halves down to one window.
        episodes: above each of these thresholds.
        windows: windows above it.

    Example:
        >>> found = Bursts.of_scores(np.tile(np.arange(100.0), 10))
        >>> found.shares[:2], found.episodes[:2], found.windows[:2]
        ((0.1, 0.05), (10, 10), (90, 40))
        >>> found.rate_for(1.0, 100.0)  # one alarm in 100 windows, each of 9
        0.09
    """

    size: Annotated[int, Meta(ge=1)]
    gap: Annotated[int, Meta(ge=1)]
    shares: tuple[Annotated[float, Meta(gt=0, le=1)], ...]
    episodes: tuple[Annotated[int, Meta(ge=0)], ...]
    windows: tuple[Annotated[int, Meta(ge=0)], ...]

    def check(self) -> None:
        if not self.shares or not len(self.shares) == len(self.episodes) == len(self.windows):
            raise ValueError("a number of episodes and of windows is due for every share, and one share at least")
        if any(e > w for e, w in zip(self.episodes, self.windows, strict=True)):
            raise ValueError("there are more episodes than windows in them")

    @classmethod
    def of_scores(cls, scores_N: Float64Array, gap: int = 1) -> Self:
        """Count in normal, finite scores in order of time, (N,)."""
        n, shares = len(scores_N), [_HIGHEST_SHARE]
        while shares[-1] * n >= 1:
            shares.append(shares[-1] / 2)
        shares[-1] = 1 / n
        above = [scores_N > ranked(scores_N, share) for share in shares]
        counts, windows = [len(episodes(alarmed_N, gap)) for alarmed_N in above], [int(one.sum()) for one in above]
        return cls(size=n, gap=gap, shares=tuple(shares), episodes=tuple(counts), windows=tuple(windows))

    def rate_for(self, alarms_a_day: float, windows_a_day: float) -> float:
        """`rate_for_budget` with episodes as long as they are at the threshold of that very rate.

        Episodes get shorter as the threshold rises, so the rate is sought: the first threshold from below with no more
        episodes than the budget; then the formula there.

        Raises:
            ValueError: as for `rate_for_budget`.
        """
        most = alarms_a_day * self.size / windows_a_day
        fits = (at for at, count in enumerate(self.episodes) if count <= most)
        return rate_for_budget(alarms_a_day, windows_a_day, self._mean(next(fits, len(self.shares) - 1)))

    def budget_for(self, rate: float, windows_a_day: float) -> float:
        """The least number of alarms a day, to two digits, for which `rate_for` gives this rate or a higher one."""
        wanted = min(rate, 0.5)
        alarms = wanted * windows_a_day / max(map(self._mean, range(len(self.shares))))
        while self.rate_for(alarms, windows_a_day) < wanted:
            alarms *= 1.05
        step = 10.0 ** (math.floor(math.log10(alarms)) - 1)
        return math.ceil(alarms / step) * step

    def _mean(self, at: int) -> float:
        """Windows in an episode, on average; above a threshold that had none, as above the one before."""
        seen = next((k for k in range(at, -1, -1) if self.episodes[k]), None)
        return 1.0 if seen is None else self.windows[seen] / self.episodes[seen]


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
