"""The guard as a plant has it: from raw rows to scores and alarms, fitted once and never updated.

Lean: an edge box imports this. Fitting, which needs pydantic, is `shared.local_guard.fitting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shared.distribution import Distribution
from shared.local_guard.lagged import Explanation, LagModel, Values
from shared.preprocess import Preprocessor, Rows
from shared.schema import SensorSchema
from shared.scoring import Float64Array, scores_over_time
from shared.series import BoolArray, FloatArray
from shared.thresholds import Threshold
from shared.thresholds.budget import Bursts
from shared.windows import IntArray, window_starts, window_view

_CHUNK = 4096  # windows that are laid out in memory at once


@dataclass(frozen=True, eq=False)
class LocalGuard:
    """A fitted guard, as a value.

    Attributes:
        schema: the columns that it was fitted on.
        preprocessor: from raw readings to what it sees.
        model: scores and explains prepared windows, (N, W, D).
        threshold: on its scores, in the guard's share of the false alarms.
        calibration: scores of normal rows that the model never saw; `calibration.p_value(score)`.
        fitted_on: windows that the model rests on.
        bursts: how those scores come in episodes; None: of a guard that an older version fitted.
        most: what each tag contributed at most to the scores of those rows, (D,); empty: of an older version.

    Example:
        >>> from shared.local_guard import fit
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
    calibration: Distribution
    fitted_on: int
    bursts: Bursts | None = None
    most: tuple[float, ...] = ()

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
        return scores_over_time(
            window_scores(self.model, rows, starts_N), starts_N, lags, count, recordings=rows.starts
        )

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

    def restart(self) -> None:
        """Forget everything: the next row begins a recording."""
        self._rows.restart()
        self._missing = len(self.window_LD)

    def raw(self, prepared_D: Values) -> Float64Array:
        """Undo the preparation, with the units of the newest row: float64 (D,), in the tags' units."""
        return self._rows.raw(prepared_D)

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


def chunks(rows: Rows, starts_N: IntArray, lags: int) -> Iterator[FloatArray]:
    """Windows of L rows, float32 (n, L, D), never all of them in memory."""
    for first in range(0, len(starts_N), _CHUNK):
        yield window_view(rows.values_TD, lags)[starts_N[first : first + _CHUNK]]


def window_scores(model: LagModel, rows: Rows, starts_N: IntArray) -> Float64Array:
    """Scores of the windows that begin at the given rows, float64 (N,)."""
    return np.concatenate([np.empty(0), *(model.score(chunk) for chunk in chunks(rows, starts_N, model.lags))])
