"""A fitted preprocessor: all steps from raw rows to what a network sees, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta

from shared.artefact import Artefact
from shared.errors import NothingToLearn, SchemaMismatch, TooFewRows
from shared.preprocess.fill import fill_live, fill_training
from shared.preprocess.filters import muted_columns
from shared.preprocess.resample import Join, join_rows
from shared.preprocess.rolling import Rolling, roll
from shared.preprocess.scale import Scaler, fit_scaler
from shared.preprocess.stream import Stream
from shared.series import BoolArray, FloatArray
from shared.windows import IntArray

if TYPE_CHECKING:
    from shared.config import PreprocessConfig


@dataclass(frozen=True)
class Rows:
    """Rows ready to be cut into windows.

    Attributes:
        values_TD: float32 (T, D), nobody else's.
        imputed_TD: bool (T, D), True where nothing was measured and the value stands in for a reading; read-only.
        starts: rows at which recordings begin.
    """

    values_TD: FloatArray
    imputed_TD: BoolArray
    starts: tuple[int, ...]


class Preprocessor(Artefact, frozen=True, kw_only=True):
    """Everything that happens to a reading before a network sees it, fitted on a site's training rows.

    Attributes:
        scaler: the last map; it also says what a gap at the start of a recording takes (`first`).
        every, join: rows that become one, and how.
        fill_limit: longest gap of training data that is carried over, in joined rows.
        rolling: rolling standardisation before scaling, or None.
        muted: columns that are 0 in the end, ascending.
        unknown: columns without any training value, ascending; 0 in the end, too: nothing tells their unit.

    Example:
        >>> scaler = Scaler(kind="standard", shift=(10.0,), scale=(2.0,), centre=(10.0,))
        >>> Preprocessor(scaler=scaler).live(np.float32([[12], [np.nan], [8]])).values_TD.ravel().tolist()
        [1.0, 1.0, -1.0]
    """

    scaler: Scaler
    every: Annotated[int, Meta(ge=1)] = 1
    join: Join = "median"
    fill_limit: Annotated[int, Meta(ge=0)] = 60
    rolling: Rolling | None = None
    muted: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    unknown: tuple[Annotated[int, Meta(ge=0)], ...] = ()

    def check(self) -> None:
        if self.rolling is not None and len(self.rolling.shift) != self.dim:
            raise ValueError(f"rolling has {len(self.rolling.shift)} columns, scaler {self.dim}")
        if any(column >= self.dim for column in (*self.muted, *self.unknown)):
            raise ValueError(f"muted and unknown must be columns below {self.dim}")

    @property
    def dim(self) -> int:
        """Number of columns, D."""
        return self.scaler.dim

    @property
    def silent(self) -> list[int]:
        """Columns that are 0 whatever they read: `muted` and `unknown` together, ascending."""
        return sorted({*self.muted, *self.unknown})

    @property
    def first(self) -> tuple[float, ...]:
        """What a gap at the start of a live recording takes: the median of each column's raw training values."""
        return self.rolling.first if self.rolling else self.scaler.centre

    def training(self, rows_TD: FloatArray, starts: tuple[int, ...] = (0,)) -> Rows:
        """Prepare training rows, which may be looked at as a whole: float32 (T, D), raw; left as they are.

        Raises:
            SchemaMismatch: another number of columns.
        """
        joined_TD, begins = join_rows(self._checked(rows_TD), starts, self.every, self.join)
        values_TD = np.array(joined_TD, np.float32)
        imputed_TD, _ = fill_training(values_TD, begins, self.fill_limit)
        if self.rolling:
            roll(values_TD, begins, self.rolling)
        self.scaler.training(values_TD, out_TD=values_TD)
        values_TD[:, self.silent] = 0
        return Rows(values_TD, imputed_TD, begins)

    def live(self, rows_TD: FloatArray, starts: tuple[int, ...] = (0,)) -> Rows:
        """Prepare held-out, test or live rows, none of which knows a later one: float32 (T, D), raw; left as they are.

        The same bits as `stream` gives, begun anew at each start.

        Raises:
            SchemaMismatch: another number of columns.
        """
        return self.live_joined(*join_rows(self._checked(rows_TD), starts, self.every, self.join))

    def live_joined(self, joined_TD: FloatArray, starts: tuple[int, ...] = (0,)) -> Rows:
        """`live`, for rows that are joined already."""
        values_TD = np.array(joined_TD, np.float32)
        imputed_TD = fill_live(values_TD, starts, self.first)
        if self.rolling:
            roll(values_TD, starts, self.rolling)
        self.scaler.live(values_TD, out_TD=values_TD)
        values_TD[:, self.silent] = 0
        return Rows(values_TD, imputed_TD, starts)

    def _checked(self, rows_TD: FloatArray) -> FloatArray:
        if rows_TD.ndim != 2 or rows_TD.shape[1] != self.dim:
            raise SchemaMismatch(f"rows of shape {rows_TD.shape} came, the model was fitted on {self.dim} tags.")
        return rows_TD

    def stream(self) -> Stream:
        """The same, sample by sample, from the beginning of a recording."""
        return Stream(self)

    def imputed_share(self, imputed_TD: BoolArray, starts_N: IntArray, window: int) -> FloatArray:
        """Share of each window's readings that stand in for missing ones; muted and unknown columns do not count.

        Args:
            imputed_TD: bool (T, D), of `Rows`.
            starts_N: first rows of the windows.
            window: their length W.

        Returns:
            float32 (N,), 0 to 1.
        """
        counted = np.setdiff1d(np.arange(self.dim), self.silent)
        cells_T = np.zeros(len(imputed_TD) + 1, np.int64)
        for d in counted:
            cells_T[1:] += imputed_TD[:, d]
        np.cumsum(cells_T, out=cells_T)
        share_N = (cells_T[starts_N + window] - cells_T[starts_N]) / (window * max(1, len(counted)))
        return share_N.astype(np.float32)


def fit_preprocessor(
    train_TD: FloatArray, starts: tuple[int, ...], config: PreprocessConfig, site: str = ""
) -> tuple[Preprocessor, Rows]:
    """Fit a preprocessor on raw training rows, and prepare them.

    Args:
        train_TD: float32 (T, D), left as it is; may hold NaN and infinities.
        starts: rows at which recordings begin.
        config: what to do.
        site: named in errors.

    Returns:
        the preprocessor, and what its `training` gives for these rows.

    Raises:
        NothingToLearn: every column is constant, empty or muted.
        TooFewRows: there are none, or less than `every`.
    """
    joined_TD, begins = join_rows(train_TD, starts, config.every, config.join)
    values_TD = np.array(joined_TD, np.float32)
    imputed_TD, _ = fill_training(values_TD, begins, config.fill_limit)
    return fit_filled(values_TD, imputed_TD, begins, config, site), Rows(values_TD, imputed_TD, begins)


def fit_filled(
    values_TD: FloatArray,
    imputed_TD: BoolArray,
    starts: tuple[int, ...],
    config: PreprocessConfig,
    site: str = "",
    scaler: Scaler | None = None,
) -> Preprocessor:
    """`fit_preprocessor` for rows that are joined and filled already: prepared in place, without a second copy.

    With a `scaler`, that one is taken instead of a fitted one.
    """
    if not len(values_TD):
        raise TooFewRows(f"site {site!r} has less than {config.every} training rows in a recording, to make one.")
    rolling = None
    if config.rolling is not None:
        units = fit_scaler(values_TD, "standard", config.clip_quantile, site=site)
        rolling = Rolling(rows=config.rolling, shift=units.shift, scale=units.scale, first=units.centre)
        roll(values_TD, starts, rolling)
    if scaler is None:
        scaler = fit_scaler(values_TD, config.scaling, config.clip_quantile, config.clip_live, config.guard, site)
    scaler.training(values_TD, out_TD=values_TD)
    muted = muted_columns(values_TD, config.min_variance, config.max_correlation)
    if len(muted) == scaler.dim:
        cause = f"none of the {scaler.dim} tags of site {site!r} varies by more than recipe.preprocess.min_variance."
        raise NothingToLearn(cause, f"Set it below {config.min_variance}, or leave the site out.")
    values_TD[:, muted] = 0
    return Preprocessor(
        scaler=scaler,
        every=config.every,
        join=config.join,
        fill_limit=config.fill_limit,
        rolling=rolling,
        muted=muted,
        unknown=tuple(np.flatnonzero(imputed_TD.all(axis=0)).tolist()) if len(imputed_TD) else (),
    )
