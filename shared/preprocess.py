"""From raw readings to what a detector sees: fill gaps, scale, guard. Fitted on training data only.

A fitted `Scaler` is a small serialisable value; the edge applies it row by row with the same result as in batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import NothingToLearn
from shared.series import FloatArray, Repair

Scaling = Literal["standard", "minmax", "none"]


def fill_gaps(
    values_TD: FloatArray, starts: tuple[int, ...] = (0,), first: Sequence[float] | FloatArray | None = None
) -> tuple[FloatArray, int]:
    """Replace every missing value (NaN or infinite) by the last value seen in its column and recording.

    Args:
        values_TD: float32 (T, D).
        starts: rows at which recordings begin.
        first: what a leading gap takes, one number a column: test and live data cannot know what follows. None: the
            first value that follows in the recording, else the column's first one anywhere, else 0; training only.

    Returns:
        float32 (T, D) without gaps (the input itself when it had none), and how many cells were filled.
    """
    missing_TD = ~np.isfinite(values_TD)
    filled = int(missing_TD.sum())
    if not filled:
        return values_TD, 0
    ends = [*starts[1:], len(values_TD)]
    pieces: list[FloatArray] = []
    fallback_D = _first_values(values_TD) if first is None else np.asarray(first, np.float32)
    for values, missing in ((values_TD[a:b], missing_TD[a:b]) for a, b in zip(starts, ends, strict=True)):
        pieces.append(_fill(values, missing, _first_values(values, fallback_D) if first is None else fallback_D))
    return np.concatenate(pieces), filled


def _first_values(values_TD: FloatArray, otherwise: FloatArray | float = 0.0) -> FloatArray:
    """The first number of each column, float32 (D,); `otherwise` where there is none."""
    known_TD = np.isfinite(values_TD)
    if not len(values_TD):
        return np.broadcast_to(np.asarray(otherwise, np.float32), values_TD.shape[1:])
    first_D = np.take_along_axis(values_TD, known_TD.argmax(axis=0)[None], axis=0)[0]
    return np.where(known_TD.any(axis=0), first_D, np.asarray(otherwise, np.float32))


def _fill(values_TD: FloatArray, missing_TD: NDArray[np.bool_], leading_D: FloatArray) -> FloatArray:
    rows_T = np.arange(len(values_TD))[:, None]
    last_TD = np.maximum.accumulate(np.where(missing_TD, -1, rows_T), axis=0)
    carried_TD = np.take_along_axis(values_TD, np.maximum(last_TD, 0), axis=0)
    filled: FloatArray = np.where(last_TD < 0, leading_D, carried_TD)
    return filled


class Scaler(BaseModel):
    """A fitted column-wise map `(x - shift) / scale`, with optional clipping.

    Attributes:
        kind: how it was fitted.
        shift, scale: one number a column; `scale` is never 0.
        low, high: clipping bounds in raw units for training data, or None.
        clip_live: whether live data is clipped at those bounds too (the paper does; it hides anomalies).
        guard: bound on |scaled value| for live data, so that one wild reading cannot overflow the network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Scaling
    shift: tuple[float, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    clip_live: bool = False
    guard: Annotated[float, Field(gt=0)] = 20.0

    def training(self, values_TD: FloatArray) -> FloatArray:
        """Scale training data: float32 (T, D) -> float32 (T, D)."""
        return self._apply(self._clip(values_TD))

    def live(self, values_TD: FloatArray) -> FloatArray:
        """Scale held-out, test or live data: float32 (T, D) -> float32 (T, D)."""
        return self._apply(self._clip(values_TD) if self.clip_live else values_TD)

    def _clip(self, values_TD: FloatArray) -> FloatArray:
        if self.low is None or self.high is None:
            return values_TD
        low_D, high_D = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        clipped_TD: FloatArray = np.clip(values_TD, low_D, high_D)
        return clipped_TD

    def _apply(self, values_TD: FloatArray) -> FloatArray:
        scaled_TD = (values_TD.astype(np.float64) - np.asarray(self.shift)) / np.asarray(self.scale)
        guarded_TD: FloatArray = np.clip(scaled_TD, -self.guard, self.guard).astype(np.float32)
        return guarded_TD


def fit_scaler(
    train_TD: FloatArray,
    kind: Scaling,
    clip_quantile: float | None = 0.995,
    clip_live: bool = False,
    guard: float = 20.0,
    site: str = "",
) -> Scaler:
    """Fit a scaler on a site's training rows (without gaps).

    Args:
        train_TD: float32 (T, D).
        kind: `standard` (mean, standard deviation), `minmax` (to [0, 1]) or `none`.
        clip_quantile: training data is clipped to its [1 - q, q] quantiles before fitting; None: not at all.
        clip_live: clip live data at the same bounds (the paper's way).
        guard: bound on the scaled value of live data.
        site: named in errors.

    Raises:
        NothingToLearn: every column is constant.

    A constant column keeps scale 1, so that a later change of it shows in raw units.
    """
    values = train_TD.astype(np.float64)
    spread_D = values.max(axis=0) - values.min(axis=0)
    if not (spread_D > 0).any():
        raise NothingToLearn(f"all {train_TD.shape[1]} tags of site {site!r} are constant in its training data.")
    low_D = high_D = None
    if clip_quantile is not None:
        low_D, high_D = np.quantile(values, [1 - clip_quantile, clip_quantile], axis=0)
        # Commands that fire in fewer than 1 - q of the rows would be clipped to a constant: keep their range.
        rare_D = high_D <= low_D
        low_D, high_D = np.where(rare_D, values.min(axis=0), low_D), np.where(rare_D, values.max(axis=0), high_D)
        values = np.clip(values, low_D, high_D)
    shift_D, scale_D = _moments(values, kind)
    scale_D = np.where(scale_D > 1e-6 * np.maximum(1.0, np.abs(shift_D)), scale_D, 1.0)
    return Scaler(
        kind=kind,
        shift=tuple(shift_D.tolist()),
        scale=tuple(scale_D.tolist()),
        low=None if low_D is None else tuple(low_D.tolist()),
        high=None if high_D is None else tuple(high_D.tolist()),
        clip_live=clip_live,
        guard=guard,
    )


def _moments(values_TD: NDArray[np.float64], kind: Scaling) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if kind == "standard":
        return values_TD.mean(axis=0), values_TD.std(axis=0)
    if kind == "minmax":
        return values_TD.min(axis=0), values_TD.max(axis=0) - values_TD.min(axis=0)
    return np.zeros(values_TD.shape[1]), np.ones(values_TD.shape[1])


def constant_tags(train_TD: FloatArray, tags: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns that never change."""
    same_D = train_TD.max(axis=0) == train_TD.min(axis=0)
    return tuple(tag for tag, same in zip(tags, same_D, strict=True) if same)


def gap_repair(site: str, part: str, filled: int) -> tuple[Repair, ...]:
    """The repair note for `filled` cells, or nothing."""
    return (Repair(site, f"missing or infinite {part} readings, last value carried forward", filled),) if filled else ()
