"""Columns to comparable units: a fitted column-wise map, with clipping in training and a guard for live data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.artefact import Artefact
from shared.errors import NothingToLearn
from shared.preprocess.blocks import columns, row_blocks
from shared.series import FloatArray

Scaling = Literal["standard", "minmax", "robust", "none", "ranges"]

_SDS_IN_RANGE = 4.0  # standard deviations that an operating range spans
_SDS_IN_IQR = 1.3489795003921634  # of a normal distribution
_LEAST_SPREAD = 1e-15  # in any unit: below it there are rounding errors, and what loggers write for nothing


class Scaler(Artefact, frozen=True, kw_only=True):
    """A fitted column-wise map `(x - shift) / scale`, with optional clipping.

    Attributes:
        kind: how it was fitted.
        shift, scale: one number a column; `scale` is never 0.
        centre: median of each column in training: a value that really occurs, also of a valve.
        low, high: clipping bounds in raw units for training data, or None.
        clip_live: whether live data is clipped at those bounds too (the paper does; it hides anomalies).
        guard: bound on |scaled value|, so that one wild reading cannot overflow the network.
    """

    kind: Scaling
    shift: tuple[float, ...]
    scale: tuple[Annotated[float, Meta(gt=0)], ...]
    centre: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    clip_live: bool = False
    guard: Annotated[float, Meta(gt=0)] = 20.0

    def check(self) -> None:
        widths = {len(part) for part in (self.shift, self.scale, self.centre, self.low, self.high) if part is not None}
        if len(widths) != 1 or (self.low is None) != (self.high is None):
            raise ValueError("shift, scale, centre, low and high must have one number a column each")

    @property
    def dim(self) -> int:
        """Number of columns, D."""
        return len(self.shift)

    def training(self, values_TD: FloatArray, out_TD: FloatArray | None = None) -> FloatArray:
        """Scale training data: float32 (T, D) -> float32 (T, D), into `out_TD` (which may be the input) if given."""
        return ScalerMap(self, clip=True)(values_TD, out_TD)

    def live(self, values_TD: FloatArray, out_TD: FloatArray | None = None) -> FloatArray:
        """Scale held-out, test or live data, in the same way."""
        return ScalerMap(self, clip=self.clip_live)(values_TD, out_TD)


def ranges_scaler(ranges: Sequence[tuple[float, float]], guard: float = 20.0) -> Scaler:
    """Scale by ranges that no reading moved: shift to the middle, a quarter of the width becomes 1.

    Args:
        ranges: low and high of each tag, low below high, in raw units.
        guard: bound on the scaled value.

    Example:
        >>> scaler = ranges_scaler([(10.0, 30.0)])
        >>> scaler.live(np.float32([[20], [30]])).ravel().tolist()
        [0.0, 2.0]
    """
    middle = tuple((low + high) / 2 for low, high in ranges)
    scale = tuple((high - low) / _SDS_IN_RANGE for low, high in ranges)
    return Scaler(kind="ranges", shift=middle, scale=scale, centre=middle, guard=guard)


class ScalerMap:
    """A scaler with its numbers as arrays; a stream keeps one."""

    def __init__(self, scaler: Scaler, clip: bool) -> None:
        self._shift_D, self._scale_D = np.asarray(scaler.shift), np.asarray(scaler.scale)
        self._guard = scaler.guard
        self._bounds: tuple[FloatArray, FloatArray] | None = None
        if clip and scaler.low is not None and scaler.high is not None:
            self._bounds = np.asarray(scaler.low, np.float32), np.asarray(scaler.high, np.float32)

    def __call__(self, values_TD: FloatArray, out_TD: FloatArray | None = None) -> FloatArray:
        """Clip, shift, scale, guard: float32 (T, D) -> float32 (T, D), computed in float64."""
        scaled_TD = np.empty(values_TD.shape, np.float32) if out_TD is None else out_TD
        for rows in row_blocks(*values_TD.shape):
            scaled_TD[rows] = self.block(values_TD[rows])
        return scaled_TD

    def block(self, values: FloatArray) -> NDArray[np.float64]:
        """The map on a few rows, or on one; float64 of the same shape."""
        if self._bounds is not None:
            values = np.minimum(np.maximum(values, self._bounds[0]), self._bounds[1])
        scaled = values.astype(np.float64)
        np.subtract(scaled, self._shift_D, out=scaled)
        np.divide(scaled, self._scale_D, out=scaled)
        np.maximum(scaled, -self._guard, out=scaled)
        np.minimum(scaled, self._guard, out=scaled)
        return scaled

    def undone(self, values_D: NDArray[np.floating]) -> NDArray[np.float64]:
        """Raw values from scaled ones, float64; what was clipped or guarded stays so."""
        raw: NDArray[np.float64] = values_D.astype(np.float64) * self._scale_D + self._shift_D
        return raw


def fit_scaler(
    train_TD: FloatArray,
    kind: Scaling,
    clip_quantile: float | None = 0.995,
    clip_live: bool = False,
    guard: float = 20.0,
    site: str = "",
) -> Scaler:
    """Fit a scaler on a site's training rows (without gaps), column by column.

    Args:
        train_TD: float32 (T, D), at least one row.
        kind: `standard` (mean, standard deviation), `minmax` (to [0, 1]), `robust` (median, interquartile range in
            standard deviations of a normal distribution) or `none`.
        clip_quantile: training data is clipped to its [1 - q, q] quantiles before fitting; None: not at all.
        clip_live: clip live data at the same bounds (the paper's way).
        guard: bound on the scaled value of live data.
        site: named in errors.

    Raises:
        NothingToLearn: every column is constant.

    A constant column (one that moves by less than a millionth of its level counts, too) keeps scale 1, so that a later
    change of it shows in raw units. A column whose middle half is
    constant has no interquartile range: `robust` takes its standard deviation.
    """
    if kind == "ranges":
        raise NothingToLearn(f"site {site!r} has no public operating ranges at hand.", "Choose another scaling.")
    fitted = [_fit_column(column_T, kind, clip_quantile) for column_T in columns(train_TD)]
    if all(column.constant for column in fitted):
        raise NothingToLearn(f"all {train_TD.shape[1]} tags of site {site!r} are constant in its training data.")
    clipped = clip_quantile is not None
    return Scaler(
        kind=kind,
        shift=tuple(column.shift for column in fitted),
        scale=tuple(column.scale for column in fitted),
        centre=tuple(column.centre for column in fitted),
        low=tuple(column.low for column in fitted) if clipped else None,
        high=tuple(column.high for column in fitted) if clipped else None,
        clip_live=clip_live,
        guard=guard,
    )


class _Column(NamedTuple):
    shift: float
    scale: float
    centre: float
    low: float
    high: float
    constant: bool


def _fit_column(values_T: NDArray[np.float64], kind: Scaling, clip_quantile: float | None) -> _Column:
    least, most = float(values_T.min()), float(values_T.max())
    reach = 1.0 if clip_quantile is None else clip_quantile
    low, quarter, centre, three, high = map(float, np.quantile(values_T, [1 - reach, 0.25, 0.5, 0.75, reach]))
    if high <= low:  # A command that fires in fewer than 1 - q of the rows would be clipped to a constant.
        low, high = least, most
    if clip_quantile is not None:
        np.clip(values_T, low, high, out=values_T)
    shift, scale = _moments(values_T, kind, (quarter, centre, three))
    scale = scale if _moves(scale, shift) else 1.0
    return _Column(shift, scale, centre, low, high, constant=least == most)


def _moments(
    values_T: NDArray[np.float64], kind: Scaling, quartiles: tuple[float, float, float]
) -> tuple[float, float]:
    if kind == "none":
        return 0.0, 1.0
    if kind == "minmax":
        return float(values_T.min()), float(np.ptp(values_T))
    if kind == "robust":
        spread = (quartiles[2] - quartiles[0]) / _SDS_IN_IQR
        return quartiles[1], spread if _moves(spread, quartiles[1]) else float(values_T.std())
    return float(values_T.mean()), float(values_T.std())


def _moves(spread: float, around: float) -> bool:
    """Whether a spread is more than rounding, whatever the unit: a flow may be some 1e-7 m3/s."""
    return spread > max(_LEAST_SPREAD, 1e-6 * abs(around))
