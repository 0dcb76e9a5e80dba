"""The federation's sum of moments, as the coordinator keeps it and plants get it back, and what a plant makes of it.

    M_others = M_sum - share M_own

The request that brings the sum is the same for every plant, so each takes out its own part. Whose part is in it, and
how much of it counted, stands beside it under tags: a plant finds its own, and reads no other's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared.lag.packing import packed
from shared.lag.sums import Moments, vector_size
from shared.scoring import Float64Array

MOST = 2**20
"""Numbers of one plant's moments, Q: 8 MB on the wire, as many as 1,446 columns have."""

TAG_BYTES = 8
_ROUNDING = 1e-9  # relative to the sum: what taking a part out of it may leave


@dataclass(frozen=True, eq=False)
class LagSum:
    """What plants sent, added up.

    Attributes:
        vector_Q: float64 (Q,), as `Moments.vector_Q`.
        shares: how much of its moments counted, 0 to 1, by the `tag` of each plant that is in it.
    """

    vector_Q: Float64Array
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Lag:
    """What a plant knows of lagged moments when it calibrates.

    Attributes:
        own: of its own training rows; never noised, for it stays there.
        others: of all other plants that sent theirs; None where there is none, or no sum came.
    """

    own: Moments
    others: Moments | None = None


def tag(run: str, plant: str) -> str:
    """What stands for a plant beside the sum of a run: 16 hexadecimal digits.

    Example:
        >>> tag("a", "north") == tag("b", "north"), len(tag("a", "north"))
        (False, 16)
    """
    return hashlib.sha256(f"{run}\0{plant}".encode(errors="surrogatepass")).hexdigest()[: 2 * TAG_BYTES]


def fitting_lags(dim: int, asked: int) -> int | None:
    """The lags that are exchanged: as many as were asked for, or as few as keep within `MOST`; None: not even 0 do.

    Example:
        >>> fitting_lags(51, 5), fitting_lags(500, 5), fitting_lags(2000, 5)
        (5, 1, None)
    """
    return next((lags for lags in range(asked, -1, -1) if vector_size(dim, lags) <= MOST), None)


def without(total: LagSum, own: Moments, name: str) -> Moments | None:
    """The sum without a plant's own part.

    Args:
        total: as it came, checked by `shared.lag.sums.parse`.
        own: the plant's, as it sent them.
        name: its `tag`. A plant that is not in the sum (it was away, or joined since) takes nothing out.

    Returns:
        None where no other plant is in it, or the plant's part is none of this sum: its rows have changed since.
    """
    share = total.shares.get(name, 0.0)
    if not total.shares.keys() - {name}:
        return None
    whole_PP = Moments(total.vector_Q, own.dim, own.lags).matrix_PP
    left_PP = whole_PP - share * own.matrix_PP
    least_P = _ROUNDING * np.diagonal(whole_PP)
    left_P = np.diagonal(left_PP)
    room_PP = np.sqrt(np.outer(np.maximum(left_P, 0.0) + least_P, np.maximum(left_P, 0.0) + least_P))
    if left_PP[0, 0] < 0.5 or (left_P < -least_P).any() or (np.abs(left_PP) > room_PP * (1 + _ROUNDING)).any():
        return None
    nothing_P = left_P <= 1e-3 * least_P  # the others' rows are 0 there, and rounding is what was left
    left_PP[nothing_P], left_PP[:, nothing_P] = 0.0, 0.0
    return Moments(packed(left_PP), own.dim, own.lags)
