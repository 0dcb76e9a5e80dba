"""From the parts of a window's score to one number, and from windows back to rows.

Shapes: N windows, Z latent coordinates, K clusters, T rows. Everything is float64 NumPy: training, simulation and the
edge use these same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.artefact import Artefact
from shared.errors import NothingToLearn, TooFewRows
from shared.series import BoolArray
from shared.windows import IntArray

if TYPE_CHECKING:
    from shared.config import ScoringConfig

Values = NDArray[np.floating[Any]]
Float64Array = NDArray[np.float64]

_TINY_ERROR = 1e-8  # added before the logarithm; far below any error of a network in float32
_ENTROPY_LIMIT = 5.0  # robust units
_MAD_TO_SIGMA = 1.4826  # of a normal distribution


def student_t_assignments(latents_NZ: Values, centroids_KZ: Values, active_K: BoolArray) -> Float64Array:
    """Soft assignment of windows to clusters, `q_nk ~ (1 + ||z_n - mu_k||^2)^-1`.

    Student's t with one degree of freedom (van der Maaten and Hinton 2008; Xie, Girshick and Farhadi 2016,
    "Unsupervised Deep Embedding for Clustering Analysis", ICML, equation 1), over the active clusters only.

    Args:
        latents_NZ: (N, Z).
        centroids_KZ: (K, Z), in the coordinates of the encoder that made the latents.
        active_K: bool (K,), False masks a cluster.

    Returns:
        float64 (N, K); rows sum to 1, masked clusters are 0. Without any active cluster all is 0, as is the entropy.

    Example:
        >>> z, mu = np.array([[0.0]]), np.array([[0.0], [1.0], [9.0]])
        >>> student_t_assignments(z, mu, np.array([True, True, False])).round(3).tolist()
        [[0.667, 0.333, 0.0]]
    """
    latents = latents_NZ.astype(np.float64)
    squared_KN = np.array([np.sum((latents - mu_Z) ** 2, axis=1) for mu_Z in centroids_KZ.astype(np.float64)])
    kernel_NK = (active_K[:, None] / (1.0 + squared_KN)).T
    total_N1 = kernel_NK.sum(axis=1, keepdims=True)
    q_NK: Float64Array = np.divide(kernel_NK, total_N1, out=np.zeros_like(kernel_NK), where=total_N1 != 0)
    return q_NK


def entropy(q_NK: Values) -> Float64Array:
    """Entropy of each row in nats, `-sum_k q_nk ln q_nk`, with `0 ln 0 = 0`: float64 (N,), in [0, ln K].

    Example:
        >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4).tolist()
        [0.6931, 0.0]
    """
    q = q_NK.astype(np.float64)
    entropy_N: Float64Array = 0.0 - np.sum(q * np.log(np.where(q == 0, 1.0, q)), axis=1)
    return entropy_N


class RobustScale(Artefact, frozen=True, kw_only=True):
    """Median and spread of values on normal data; half of them may be anything before either moves without bound.

    Attributes:
        median: in the unit of the values.
        spread: 1.4826 times the median absolute deviation, i.e. the standard deviation if they were normal; never 0.
    """

    median: float
    spread: Annotated[float, Meta(gt=0)]

    @classmethod
    def fit(cls, values_N: Values, floor: float = 1e-3) -> Self:
        """Fit to normal values, (N,).

        Args:
            values_N: finite, at least one.
            floor: least spread. Differences below it are numerical noise, which must not be blown up to robust units:
                0.001 nats of entropy, or 0.1 % of an error taken as a logarithm.

        Example:
            >>> RobustScale.fit(np.array([1.0, 2.0, 3.0, 4.0, 1000.0]))
            RobustScale(median=3.0, spread=1.4826)
        """
        median = float(np.median(values_N))
        spread = _MAD_TO_SIGMA * float(np.median(np.abs(values_N - median)))
        return cls(median=median, spread=max(spread, floor))

    def apply(self, values_N: Values) -> Float64Array:
        """`(x - median) / spread`: float64, the shape of the input."""
        return (values_N.astype(np.float64) - self.median) / self.spread


class ScoreScale(Artefact, frozen=True, kw_only=True):
    """How one site adds the parts of a score. A property of a model version, a site and its held-out normal data.

    A bundle with a judge (`shared.evidence`) has one all the same, fitted on the network's errors alone: it is what the
    score would be without the judge, for whoever does not know of it. How a judge's score falls is another scale
    (`shared.contributions.judge_scale`).

    Attributes:
        entropy_weight: factor of the entropy part; 0 when there were no clusters.
        error, entropy: robust scales of ln(error + 1e-8) and of the entropy; both None adds the raw parts.
    """

    entropy_weight: Annotated[float, Meta(ge=0)]
    error: RobustScale | None = None
    entropy: RobustScale | None = None

    def combine(self, error_N: Values, entropy_N: Values | None = None) -> Float64Array:
        """One score a window, higher is more anomalous.

        Standardised: `z(ln(error + 1e-8)) + w clip(z(entropy), -5, 5)` with z in robust units of the site's normal
        data, so that neither part swamps the other. Raw: `error + w entropy` (Khan 2026, doi 10.55529/jaimlnn.61.31.41,
        with w = 0.35).

        Args:
            error_N: reconstruction error >= 0, (N,).
            entropy_N: entropy of the assignments in nats, (N,); not needed when `entropy_weight` is 0.

        Returns:
            float64 (N,) without NaN: a window whose parts are not numbers gets +inf, for it is not known to be normal.

        Raises:
            ValueError: the entropy is needed and not given.

        Example:
            >>> ScoreScale(entropy_weight=0.5).combine(np.array([1.0]), np.array([0.2])).tolist()
            [1.1]
        """
        score_N = _log_error(error_N, self.error)
        if self.entropy_weight > 0:
            if entropy_N is None:
                raise ValueError("this scale weighs the entropy of the assignments, but none was given")
            score_N = score_N + self.entropy_weight * _clipped(entropy_N, self.entropy)
        return np.where(np.isnan(score_N), np.inf, score_N)


def _log_error(error_N: Values, scale: RobustScale | None) -> Float64Array:
    return (
        error_N.astype(np.float64) if scale is None else scale.apply(np.log(error_N.astype(np.float64) + _TINY_ERROR))
    )


def _clipped(entropy_N: Values, scale: RobustScale | None) -> Float64Array:
    if scale is None:
        return entropy_N.astype(np.float64)
    return np.clip(scale.apply(entropy_N), -_ENTROPY_LIMIT, _ENTROPY_LIMIT)


def fit_score_scale(error_N: Values, entropy_N: Values | None, config: ScoringConfig) -> ScoreScale:
    """Fit the scale of a site's scores to its held-out normal windows.

    Args:
        error_N: reconstruction error >= 0, (N,).
        entropy_N: entropy in nats, (N,), or None before there are clusters: then the entropy has no weight.
        config: weight of the entropy, and whether to standardise.

    Raises:
        TooFewRows: no window.
        NothingToLearn: an error or entropy is not a finite number.

    Example:
        >>> from shared.config import ScoringConfig
        >>> fit_score_scale(np.array([1.0, 1.0, 1.0]), None, ScoringConfig()).combine(np.array([1.0])).tolist()
        [0.0]
    """
    check_calibration(error_N, "errors")
    if entropy_N is not None:
        check_calibration(entropy_N, "entropies")
    weight = 0.0 if entropy_N is None else config.entropy_weight
    if not config.standardise:
        return ScoreScale(entropy_weight=weight)
    error = RobustScale.fit(np.log(error_N.astype(np.float64) + _TINY_ERROR))
    return ScoreScale(
        entropy_weight=weight, error=error, entropy=None if entropy_N is None else RobustScale.fit(entropy_N)
    )


def check_calibration(values_N: Values, what: str) -> None:
    """See that there is something to calibrate on.

    Raises:
        TooFewRows: there is no window.
        NothingToLearn: a value is NaN or infinite.
    """
    if not len(values_N):
        raise TooFewRows("there is no normal window to calibrate on.")
    bad = int(np.sum(~np.isfinite(values_N)))
    if bad:
        cause = f"{bad} of {len(values_N)} calibration {what} are not finite numbers: the model has diverged."
        raise NothingToLearn(cause, "Lower recipe.training.learning_rate, or go back to an earlier round.")


def scores_over_time(
    scores_N: Values, starts_N: IntArray, window: int, rows: int, hold: int = 1, recordings: Sequence[int] = (0,)
) -> Float64Array:
    """Put each window's score on its last row, so that no row knows its future.

    Args:
        scores_N: (N,).
        starts_N: int64 (N,), first rows of the windows, ascending (`shared.windows.window_starts`).
        window: window length W, in samples.
        rows: length of the series, T.
        hold: rows for which a score stays in force, its own included: give the stride of the windows to leave no holes.
        recordings: rows at which recordings begin; no score is held beyond its own recording.

    Returns:
        float64 (T,); NaN where no score is in force.

    Example:
        >>> scores_over_time(np.array([5.0, 6.0]), np.array([0, 2]), window=2, rows=5, hold=2).tolist()
        [nan, 5.0, 5.0, 6.0, 6.0]
    """
    lasts_N = starts_N + (window - 1)
    ends_N = np.array([*recordings[1:], rows])[np.searchsorted(recordings, lasts_N, side="right") - 1]
    until_N = np.minimum(lasts_N + hold, ends_N)
    rows_T = np.arange(rows)
    latest_T = np.searchsorted(lasts_N, rows_T, side="right") - 1  # the newest window to have ended; -1: none yet
    scores_T = np.full(rows, np.nan)
    held_T = latest_T >= 0
    held_T[held_T] = rows_T[held_T] < until_N[latest_T[held_T]]
    scores_T[held_T] = scores_N[latest_T[held_T]]
    return scores_T
