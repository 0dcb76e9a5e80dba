"""Whether a run made the model better, and for whom: each plant's first and last loss on its own normal data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from server.store.reading import Series

NOTICEABLE = 0.02
"""Share by which a loss must change to be called better or worse."""


@dataclass(frozen=True)
class Change:
    """What happened to one plant's loss.

    Attributes:
        first, last: the losses of the first model that it measured, and of the newest.
        first_round, last_round: when.
    """

    first: float
    last: float
    first_round: int
    last_round: int

    @property
    def share(self) -> float:
        """Relative change: -0.4 is a loss that fell by 40 %; NaN where it began at zero."""
        return self.last / self.first - 1 if self.first > 0 else math.nan

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `alike`."""
        if math.isnan(self.share) or abs(self.share) < NOTICEABLE:
            return "alike"
        return "better" if self.share < 0 else "worse"


def change_of(series: Series) -> Change | None:
    """From the first to the newest figure; None with fewer than two.

    Example:
        >>> change_of(Series("holdout_loss", "north", (1, 2, 3), (2.0, None, 1.0))).share
        -0.5
    """
    known = [(n, value) for n, value in zip(series.numbers, series.values, strict=True) if value is not None]
    if len(known) < 2:
        return None
    (first_round, first), (last_round, last) = known[0], known[-1]
    return Change(first, last, first_round, last_round)


def changes(losses: Mapping[str, Series]) -> dict[str, Change]:
    """Of every plant that measured two models or more."""
    found = {plant: change_of(series) for plant, series in losses.items()}
    return {plant: change for plant, change in found.items() if change is not None}


def middle(found: Iterable[Change]) -> float | None:
    """Median relative change; None of none."""
    shares = [change.share for change in found if not math.isnan(change.share)]
    return median(shares) if shares else None
