"""Moments under differential privacy: one record's share is clipped, and Gaussian noise is added to the sum.

A record is a segment of `unit` rows (docs/privacy.md). Its lagged rows use its own rows only, so that adding or
removing it changes one vector of the sum and nothing else.

No run sends them, and no ledger is charged for them: settings that ask for lag models under privacy are refused. They
show, with `python -m benchmarks.lag --noise`, why (docs/lag.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from shared.errors import InvalidConfig
from shared.lag.packing import moment_vector
from shared.lag.sums import Moments, Values, lagged, vector_size
from shared.privacy.mechanisms import Randomness, noised_sum
from shared.scoring import Float64Array


def usual_radius(dim: int, lags: int) -> float:
    """A public clipping radius that leaves most records whole: 5 P / 4, of P columns.

    The norm of (k, v)(k, v)' is k^2 + |v|^2; a standardised v has |v|^2 = P on average, and k^2 = P / 4 (`_emphasis`).
    """
    columns = (lags + 1) * dim
    return columns + _constant(columns)


def _constant(columns: int) -> float:
    """k^2: what stands in the place of the constant's 1 while noise is added.

    All numbers of a vector get the same noise, and a count of 1 beside P squares would drown in it first. With
    k^2 = P / 4 a count's noise is five times the multiplier, whatever P is, and the radius a quarter larger.
    """
    return max(1.0, columns / 4)


def _emphasis(dim: int, lags: int) -> Float64Array:
    """By what the numbers of a vector are multiplied, float64 (Q,): k^2 the count, k the sums, 1 the products."""
    columns = (lags + 1) * dim
    emphasis_Q = np.ones(vector_size(dim, lags))
    emphasis_Q[0], emphasis_Q[1 : columns + 1] = _constant(columns), math.sqrt(_constant(columns))
    return emphasis_Q


def record_vectors(rows_TD: Values, starts: Sequence[int], lags: int, unit: int) -> Iterator[Float64Array]:
    """Mean second moments of each whole segment's lagged rows, float64 (Q,); none of a segment without a finite one."""
    for begin, end in zip(starts, [*starts[1:], len(rows_TD)], strict=True):
        for first in range(begin, end - unit + 1, unit):
            laid_NP = lagged(rows_TD[first : first + unit], lags)
            if len(laid_NP):
                yield moment_vector(laid_NP)


def private_moments(
    rows_TD: Values,
    starts: Sequence[int],
    lags: int,
    unit: int,
    multiplier: float,
    noise: Randomness,
    radius: float | None = None,
) -> Moments:
    """Moments that one segment moves by at most `radius (unit - lags)`, with Gaussian noise of `multiplier` times that.

    `(unit - p) (sum_i clip_radius(m_i) + noise)`, m_i the mean moments of segment i, with the count and the sums
    multiplied up while noise is added (`_constant`): their noise is smaller than `Moments.noise_sd`, the products'.
    Counts are in lagged rows, so that exact and private moments mean the same. What the release costs is one Gaussian
    at `multiplier` (`shared.privacy.accounting`), add or remove one segment.

    Args:
        rows_TD: (T, D), prepared.
        starts: rows at which recordings begin.
        lags: p.
        unit: rows of a segment, more than p.
        multiplier: standard deviation of the noise over the sensitivity; 0: clipped, without noise.
        noise: the plant's own stream.
        radius: clipping radius; None: `usual_radius`.

    Raises:
        InvalidConfig: segments are too short to hold a lagged row.
    """
    if unit <= lags:
        raise InvalidConfig(f"segments of {unit} rows hold no row with {lags} before it.", "Choose longer segments.")
    dim, each = rows_TD.shape[1], unit - lags
    radius = usual_radius(dim, lags) if radius is None else radius
    emphasis_Q = _emphasis(dim, lags)
    vectors = (vector_Q * emphasis_Q for vector_Q in record_vectors(rows_TD, starts, lags, unit))
    summed_Q = noised_sum(vectors, len(emphasis_Q), multiplier, radius, noise) / emphasis_Q
    return Moments(summed_Q, dim, lags, multiplier * radius) * each
