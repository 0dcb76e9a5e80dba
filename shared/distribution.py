"""What normal data scores, as a value that fits into a file: p-values and quantiles of later scores."""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from typing import Annotated, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.artefact import Artefact

KEPT = 2000  # calibration scores, of which the highest half is every one there is
Positive = Annotated[int, Meta(ge=1)]


class Distribution(Artefact, frozen=True, kw_only=True):
    """Scores of normal windows in ascending order, thinned to at most `KEPT`: the highest are all there.

    Attributes:
        size: how many there were, n.
        scores: those kept.

    Example:
        >>> found = Distribution.of_scores(np.arange(100_000.0))
        >>> len(found.scores), found.p_value(99_999.0) == 2 / 100_001, found.p_value(99_999.5) == 1 / 100_001
        (2000, True, True)
        >>> round(found.quantile(0.5)), found.quantile(0.999)
        (50094, 99899.0)
    """

    size: Positive
    scores: tuple[float, ...]

    def check(self) -> None:
        if len(self.scores) != min(self.size, KEPT) or any(
            a > b for a, b in zip(self.scores, self.scores[1:], strict=False)
        ):
            raise ValueError(f"scores: {min(self.size, KEPT)} in ascending order are due for a size of {self.size}")

    @classmethod
    def of_scores(cls, scores_N: NDArray[np.floating]) -> Self:
        """Of finite scores in any order, (N,), at least one."""
        ordered_N = np.sort(scores_N.astype(np.float64))
        return cls(size=len(ordered_N), scores=tuple(ordered_N[_ranks(len(ordered_N))].tolist()))

    def p_value(self, score: float) -> float:
        """Share of normal windows at least as high, `(1 + #{scores >= score}) / (n + 1)`, in (0, 1].

        Exact among the highest; below, up to a thousandth too large and never too small.
        """
        before = bisect_left(self.scores, score)  # kept scores below
        below = 0 if before == 0 else int(_ranks(self.size)[before - 1]) + 1
        return (1 + self.size - below) / (self.size + 1)

    def quantile(self, share: float) -> float:
        """The least kept score that at least this share of all scores does not exceed; share in [0, 1]."""
        rank = max(0, int(np.ceil(share * self.size - 1e-9)) - 1)
        return self.scores[int(np.searchsorted(_ranks(self.size), rank))]


@lru_cache(maxsize=8)
def _ranks(size: int) -> NDArray[np.int64]:
    """Which of `size` ordered scores are kept, ascending: the highest KEPT / 2, and as many evenly spaced below."""
    half = KEPT // 2
    below = np.arange(half) * (size - half) // half
    ranks = np.arange(size) if size <= KEPT else np.concatenate([below, np.arange(size - half, size)])
    ranks.flags.writeable = False  # Every caller gets the same one.
    return ranks
