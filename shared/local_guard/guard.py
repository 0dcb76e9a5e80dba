"""The guard as a plant has it: from raw rows to scores and alarms, fitted once and never updated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shared.config import PreprocessConfig, ThresholdConfig
from shared.errors import NothingToLearn, SchemaMismatch, TooFewRows
from shared.local_guard.lagged import Explanation, LagModel, Values, learn
from shared.preprocess import Preprocessor, Rows, fit_preprocessor
from shared.schema import SensorSchema
from shared.scoring import Float64Array, scores_over_time
from shared.series import BoolArray, FloatArray
from shared.thresholds import Threshold
from shared.thresholds import fit as fit_threshold
from shared.windows import IntArray, window_starts, window_view

_CHUNK = 4096  # windows that are laid out in memory at once
_Recordings = tuple[FloatArray, tuple[int, ...]]


class GuardConfig(BaseModel):
    """What a plant decides about its guard; nothing that a server sends changes it.

    Attributes:
        lags: rows that are looked at together, L, in joined rows.
        holdout: share of each recording, its end, that is kept for the threshold.
        false_alarm_rate: share of normal rows that may alarm. Half of the plant's budget of 1 %: the federated
            detector has the other half.
        preprocess: the guard's own preparation of rows. Training rows are not clipped: a tag that is clipped apart from
            the one it follows would look like a broken relation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lags: Annotated[int, Field(ge=1, le=100)] = 5
    holdout: Annotated[float, Field(ge=0.01, le=0.9)] = 0.2
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] = 0.005
    preprocess: PreprocessConfig = PreprocessConfig(clip_quantile=None)


@dataclass(frozen=True, eq=False)
class LocalGuard:
    """A fitted guard, as a value.

    Attributes:
        schema: the columns that it was fitted on.
        preprocessor: from raw readings to what it sees.
        model: scores and explains prepared windows, (N, W, D).
        threshold: on its scores, in the guard's share of the false alarms.
        fitted_on: windows that the model rests on.

    Example:
        >>> level_T = np.random.default_rng(0).normal(size=600).cumsum()
        >>> rows_TD = np.stack([level_T, 2 * level_T + np.sin(np.arange(600))], axis=1).astype(np.float32)
        >>> guard = fit(rows_TD, SensorSchema(tags=("level", "pressure"), period_s=60))
        >>> rows_TD[500:, 1] += 20  # inside the range of normal readings
        >>> bool(guard.alarms(rows_TD)[500:].all())
        True
    """

    schema: SensorSchema
    preprocessor: Preprocessor
    model: LagModel
    threshold: Threshold
    fitted_on: int

    def score(self, windows_NWD: Values) -> Float64Array:
        """Score windows prepared by `preprocessor`; see `LagModel.score`."""
        return self.model.score(windows_NWD)

    def explain(self, windows_NWD: Values) -> Explanation:
        """Share the scores of prepared windows among the tags; see `LagModel.explain`."""
        return self.model.explain(windows_NWD)

    def score_rows(self, rows_TD: FloatArray, starts: Sequence[int] = (0,)) -> Float64Array:
        """Score raw rows, each together with those before it; a missing reading takes the last one seen.

        Args:
            rows_TD: float32 (T, D), raw, may hold NaN.
            starts: rows at which recordings begin; nothing is looked at across them.

        Returns:
            float64, one a joined row; NaN before the L-th of a recording.

        Raises:
            SchemaMismatch: another number of tags.
        """
        rows, lags = self.preprocessor.live(rows_TD, tuple(starts)), self.model.lags
        count = len(rows.values_TD)
        starts_N = window_starts(count, lags, 1, rows.starts)
        return scores_over_time(_scores(self.model, rows, starts_N), starts_N, lags, count, recordings=rows.starts)

    def alarms(self, rows_TD: FloatArray, starts: Sequence[int] = (0,)) -> BoolArray:
        """Which raw rows alarm, bool, one a joined row. Args and errors as in `score_rows`."""
        return self.threshold.alarms(self.score_rows(rows_TD, starts))

    def stream(self) -> GuardStream:
        """The same, row by row, from the beginning of a recording."""
        return GuardStream(self)


class GuardStream:
    """A guard applied row by row. Its state is arrays: `copy.deepcopy` takes a snapshot that goes on by itself.

    Attributes:
        window_LD: float32 (L, D), the newest prepared rows, oldest first; `guard.explain(stream.window_LD[None])`.
    """

    def __init__(self, guard: LocalGuard) -> None:
        self._model, self._rows = guard.model, guard.preprocessor.stream()
        self.window_LD: FloatArray = np.zeros((guard.model.lags, guard.model.dim), np.float32)
        self._missing = guard.model.lags

    def step(self, row_D: Sequence[float] | Values) -> float | None:
        """Take one raw row; its score, or None while rows are being joined or fewer than L were seen.

        Raises:
            SchemaMismatch: the row has another number of values; nothing was taken from it.
        """
        prepared_D = self._rows.step(row_D)
        if prepared_D is None:
            return None
        self.window_LD[:-1] = self.window_LD[1:]
        self.window_LD[-1] = prepared_D
        self._missing = max(0, self._missing - 1)
        return None if self._missing else float(self._model.score(self.window_LD[None])[0])


def fit(
    rows_TD: FloatArray, schema: SensorSchema, starts: Sequence[int] = (0,), config: GuardConfig | None = None
) -> LocalGuard:
    """Fit a guard to a plant's own normal rows; the threshold to the end of each recording, which the model never saw.

    Args:
        rows_TD: float32 (T, D), raw, normal operation; may hold NaN. Left as they are.
        schema: their columns.
        starts: rows at which recordings begin; no window straddles two.
        config: the plant's choice.

    Raises:
        SchemaMismatch: the rows have another number of columns.
        TooFewRows: fewer than two windows to learn from, or none to set the threshold on.
        NothingToLearn: every tag is constant, empty or muted.
    """
    config = config or GuardConfig()
    if rows_TD.ndim != 2 or rows_TD.shape[1] != schema.dim:
        raise SchemaMismatch(f"rows of shape {rows_TD.shape} came for {schema.dim} tags.")
    (train_TD, train_starts), (held_TD, held_starts) = _split(np.asarray(rows_TD, np.float32), starts, config)
    prepared, _ = fit_preprocessor(train_TD, train_starts, config.preprocess)
    train, held = prepared.training(train_TD, train_starts), prepared.live(held_TD, held_starts)
    train_N, held_N = _measured(train, prepared, config), _measured(held, prepared, config)
    if len(train_N) < 2 or not len(held_N):
        cause = f"the guard has {len(train_N)} windows of {config.lags} rows to learn from and {len(held_N)} held out"
        raise TooFewRows(f"{cause}; it needs 2 and 1.", "Give it more normal rows, or fewer lags.")
    if not train.values_TD.any():
        raise NothingToLearn("none of the guard's tags moves in its training rows.")
    model = learn(_chunks(train, train_N, config.lags))
    settings = ThresholdConfig(false_alarm_rate=config.false_alarm_rate)
    threshold = fit_threshold("conformal", _scores(model, held, held_N), settings)
    return LocalGuard(schema, prepared, model, threshold, len(train_N))


def _split(rows_TD: FloatArray, starts: Sequence[int], config: GuardConfig) -> tuple[_Recordings, _Recordings]:
    """Recordings cut in two; one whose end would be too short to score is learnt from whole."""
    least = config.lags * config.preprocess.every
    train, held = [], []
    for begin, end in zip(starts, [*starts[1:], len(rows_TD)], strict=True):
        kept = round((end - begin) * (1 - config.holdout))
        kept = kept if end - begin - kept >= least else end - begin
        train.append(rows_TD[begin : begin + kept])
        if begin + kept < end:
            held.append(rows_TD[begin + kept : end])
    return _laid(train), _laid(held)


def _laid(pieces: list[FloatArray]) -> _Recordings:
    if not pieces:
        raise TooFewRows("no recording is long enough to hold its end out for the guard's threshold.")
    lengths = [0, *(len(piece) for piece in pieces[:-1])]
    return np.concatenate(pieces), tuple(int(n) for n in np.cumsum(lengths))


def _measured(rows: Rows, prepared: Preprocessor, config: GuardConfig) -> IntArray:
    """First rows of the windows whose readings are not mostly missing."""
    starts_N = window_starts(len(rows.values_TD), config.lags, 1, rows.starts)
    return starts_N[prepared.imputed_share(rows.imputed_TD, starts_N, config.lags) <= config.preprocess.max_imputed]


def _chunks(rows: Rows, starts_N: IntArray, lags: int) -> Iterator[FloatArray]:
    """Windows of L rows, float32 (n, L, D), never all of them in memory."""
    for first in range(0, len(starts_N), _CHUNK):
        yield window_view(rows.values_TD, lags)[starts_N[first : first + _CHUNK]]


def _scores(model: LagModel, rows: Rows, starts_N: IntArray) -> Float64Array:
    return np.concatenate([np.empty(0), *(model.score(chunk) for chunk in _chunks(rows, starts_N, model.lags))])
