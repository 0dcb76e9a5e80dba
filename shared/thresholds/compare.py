"""All threshold rules on one plant's scores: what each was asked for, and what it does to data it has not seen.

Not imported by the package: an edge box does not need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import DataError
from shared.metrics.events import event_recall, false_alarms_per_day
from shared.scoring import Float64Array
from shared.series import BoolArray
from shared.thresholds.base import Settings, Threshold, fit, known
from shared.thresholds.budget import Realised, realised
from shared.thresholds.tracking import start
from shared.windows import IntArray

_FEWEST = 4  # windows that can be halved


@dataclass(frozen=True)
class Series:
    """Scores in order of time.

    Attributes:
        scores_N: float64 (N,); NaN where there is none (labelled rows only).
        modes_N: int64 (N,), nearest active cluster, below 0 for none; None without clusters.
        period_s: seconds between two scores.
    """

    scores_N: Float64Array
    modes_N: IntArray | None
    period_s: float

    def __getitem__(self, part: slice) -> Series:
        return Series(self.scores_N[part], None if self.modes_N is None else self.modes_N[part], self.period_s)

    @property
    def a_day(self) -> float:
        """Scores a day."""
        return 86_400 / self.period_s


@dataclass(frozen=True)
class Labelled:
    """Test rows with what people know of them; `starts`: rows at which recordings begin."""

    series: Series
    labels_T: BoolArray
    starts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Found:
    """What a threshold finds in labelled test data. It was not set on it.

    Attributes:
        event_recall: share of the labelled events with an alarm; NaN without events.
        alarms_a_day: episodes of alarms that touch no event, a day of normal rows.
    """

    event_recall: float
    alarms_a_day: float


@dataclass(frozen=True)
class Compared:
    """One rule.

    Attributes:
        threshold: set on all normal windows.
        unseen: the rule set on the first half, applied to the second; None where half is too little.
        moving: the same with its tracker in motion; None for a rule that stands still.
        found: in labelled test data, None without any; with the tracker, where there is one.
    """

    threshold: Threshold
    unseen: Realised | None
    moving: Realised | None
    found: Found | None


def compare(
    normal: Series,
    config: Settings,
    overlap: int = 0,
    labelled: Labelled | None = None,
    rules: Sequence[str] | None = None,
    gap: int = 1,
) -> list[Compared]:
    """Compare rules on the scores of held-out normal windows.

    Args:
        normal: held-out normal data.
        config: what the rules are asked.
        overlap: windows that share rows, W - 1: so many are left out between the halves.
        labelled: test data, if the plant has any; no threshold looks at it.
        rules: names; None: all.
        gap: windows without an alarm that end an episode.

    Raises:
        UnknownName, TooFewRows, NothingToLearn: as `shared.thresholds.fit` says.
    """
    return [_compared(rule, normal, config, overlap, labelled, gap) for rule in (known() if rules is None else rules)]


def _compared(
    rule: str, normal: Series, config: Settings, overlap: int, labelled: Labelled | None, gap: int
) -> Compared:
    threshold = fit(rule, normal.scores_N, config, normal.modes_N, normal.a_day)
    half = len(normal.scores_N) // 2
    earlier, later = normal[:half], normal[half + overlap :]
    found = None if labelled is None else _found(threshold, labelled)
    if min(half, len(later.scores_N)) < _FEWEST:
        return Compared(threshold, None, None, found)
    try:
        first = fit(rule, earlier.scores_N, config, earlier.modes_N, earlier.a_day)
    except DataError:  # half of the data is too little for the rule
        return Compared(threshold, None, None, found)
    moving = None if first.tracking is None else _realised(tracked(first, later), later, gap)
    return Compared(threshold, _realised(first.alarms(later.scores_N, later.modes_N), later, gap), moving, found)


def _realised(alarmed_N: BoolArray, series: Series, gap: int) -> Realised:
    return realised(alarmed_N, series.scores_N, series.a_day, gap)


def _found(threshold: Threshold, labelled: Labelled) -> Found:
    series, labels_T, starts = labelled.series, labelled.labels_T, labelled.starts
    moving = threshold.tracking is not None
    alarms_T = tracked(threshold, series) if moving else threshold.alarms(series.scores_N, series.modes_N)
    scored_T = ~np.isnan(series.scores_N)
    return Found(
        event_recall(alarms_T, labels_T, starts),
        false_alarms_per_day(alarms_T, labels_T, series.period_s, starts, scored_T),
    )


def tracked(threshold: Threshold, series: Series) -> BoolArray:
    """Which scores a threshold in motion alarms, bool (N,). It learns from those that it does not."""
    return series_of_thresholds(threshold, series) < series.scores_N


def series_of_thresholds(threshold: Threshold, series: Series) -> Float64Array:
    """The threshold in force for each score, from the scores before it: float64 (N,)."""
    tracker = start(threshold)
    modes = [None] * len(series.scores_N) if series.modes_N is None else series.modes_N.tolist()
    steps = zip(series.scores_N.tolist(), modes, strict=True)
    return np.array([tracker.step(score, mode) for score, mode in steps])
