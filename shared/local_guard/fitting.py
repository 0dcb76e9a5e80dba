"""Fitting a guard, at the plant's agent; never on the edge box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shared.config import PreprocessConfig, ThresholdConfig
from shared.distribution import Distribution
from shared.errors import NothingToLearn, SchemaMismatch, TooFewRows
from shared.local_guard.guard import LocalGuard, chunks, window_scores
from shared.local_guard.lagged import LagModel, learn
from shared.preprocess import Preprocessor, Rows, fit_preprocessor
from shared.schema import SensorSchema
from shared.series import FloatArray
from shared.thresholds import fit as fit_threshold
from shared.thresholds.budget import REARM_S, Bursts
from shared.windows import IntArray, window_starts

_EXPLAINED = 20_000  # windows: a few seconds
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
    model = learn(chunks(train, train_N, config.lags))
    settings = ThresholdConfig(false_alarm_rate=config.false_alarm_rate)
    scores_N = window_scores(model, held, held_N)
    threshold = fit_threshold("conformal", scores_N, settings)
    bursts = Bursts.of_scores(scores_N, max(1, round(REARM_S / (schema.period_s * config.preprocess.every))))
    most = _most(model, held, held_N)
    return LocalGuard(schema, prepared, model, threshold, Distribution.of_scores(scores_N), len(train_N), bursts, most)


def _most(model: LagModel, held: Rows, held_N: IntArray) -> tuple[float, ...]:
    """What each tag contributes at most to a score of normal rows, (D,); of many windows some are looked at."""
    some_N = held_N[:: -(-len(held_N) // _EXPLAINED)]
    found = [model.explain(chunk).contribution_ND.max(axis=0) for chunk in chunks(held, some_N, model.lags)]
    return tuple(np.max(found, axis=0).tolist())


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
