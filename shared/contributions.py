"""Which tags a score comes from, and what a score would be without some of them. Pure functions of arrays.

Shapes: W rows of a window, D tags.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.scoring import Float64Array, RobustScale, ScoreScale

Values = NDArray[np.floating[Any]]

_TINY = 1e-8  # as in shared.scoring: what is added to an error before its logarithm
_LEAST = 1e-3  # of the mean high error: below it a tag that is always rebuilt well would outshout all others


def telling(error_D: Values, high_D: Values) -> Float64Array:
    """How much each tag's error tells, float64 (D,), not negative: what orders the tags of an alarm.

    A raw error names the tags that the model always rebuilds badly. What tells is the error beyond what normal data
    has given: tags beyond that come first, by how far they are; the others follow, by their error against it. What was
    measured: docs/edge/alarms.md.

    Args:
        error_D: what each tag adds to a window's error or score, not negative; what is not a number counts as infinite.
        high_D: its highest value on held-out normal data (`Calibration.tag_error_high`, `LocalGuard.most`).

    Example:
        >>> telling(np.array([9.0, 3.0, 0.0]), np.array([8.5, 0.5, 1.0])).tolist()
        [1.5, 3.5, 0.0]
        >>> telling(np.array([4.0, 0.25]), np.array([8.0, 1.0])).round(2).tolist()
        [0.5, 0.25]
    """
    error, high = np.where(np.isnan(error_D), np.inf, error_D.astype(np.float64)), high_D.astype(np.float64)
    against_D = np.minimum(error / np.maximum(high, max(_LEAST * float(high.mean()), _TINY)), 1.0)
    told_D: Float64Array = np.where(error > high, 1.0 + error - high, against_D)
    return told_D


def score_without(score: float, error: float, share: float, scale: ScoreScale) -> float:
    """A window's score had some tags been rebuilt without any error; the entropy of its assignment is left as it is.

    Args:
        score, error: of the window: its score, and the mean squared error in it.
        share: of the error that these tags have, in [0, 1].
        scale: that made the score.

    Returns:
        the score; -inf when nothing is left of an infinite error.

    Example:
        >>> from shared.scoring import RobustScale
        >>> round(score_without(2.0, 1.0, 0.9, ScoreScale(entropy_weight=0, error=RobustScale(median=0, spread=1))), 3)
        -0.303
        >>> score_without(2.0, 2.0, 0.75, ScoreScale(entropy_weight=0))
        0.5
    """
    left = max(0.0, 1.0 - share)
    if not math.isfinite(error) or not math.isfinite(score):
        return score if left > _TINY else -math.inf
    if scale.error is None:
        return score - error * (1.0 - left)
    return score + (math.log(error * left + _TINY) - math.log(error + _TINY)) / scale.error.spread


def judge_scale(spread_C: Float64Array, weight_C: Float64Array) -> ScoreScale:
    """How a judge's score (`shared.evidence`) falls when some tags have no share in it: the scale for `score_without`
    and `clear_level`.

    An approximation. A channel is `ln(v + 0.1) / spread`, v a root mean square over tags: without a share p of it
    `ln v` falls by `-ln(1 - p) / 2`. So, were each channel such and far above ordinary, and p the same in all, the
    score falls by `-ln(1 - p) sum_c w_c / (2 spread_c)`. What trailing means remember is left out.

    Args:
        spread_C, weight_C: of the judge's channels.

    Example:
        >>> scale = judge_scale(np.array([0.25, 0.5]), np.array([0.5, 0.5]))
        >>> round(score_without(6.0, 1.0, 0.5, scale), 3)  # 6 - ln 2 (0.5 / 0.5 + 0.5 / 1)
        4.96
    """
    steepness = float(np.sum(weight_C / (2 * spread_C)))
    return ScoreScale(entropy_weight=0.0, error=RobustScale(median=0.0, spread=1 / steepness))


def clear_level(threshold: float, fraction: float, scale: ScoreScale | None) -> float:
    """The score below which an alarm may clear: that of an error of `fraction` times the error at the threshold.

    A fraction of a standardised score would mean nothing: such a score is a logarithm, and may be negative. So the
    fraction is taken of the error: on a standardised scale `threshold + ln(fraction) / spread`, on a raw one
    `fraction * threshold`.

    Args:
        threshold: where alarms begin.
        fraction: in (0, 1].
        scale: of the scores; None for scores that are errors themselves, such as the local guard's.

    Example:
        >>> from shared.scoring import RobustScale
        >>> round(clear_level(1.0, 0.9, ScoreScale(entropy_weight=0, error=RobustScale(median=0, spread=0.1))), 3)
        -0.054
        >>> clear_level(10.0, 0.9, None)
        9.0
    """
    if scale is None or scale.error is None:
        return threshold * fraction if threshold > 0 else threshold
    return threshold + math.log(fraction) / scale.error.spread


def share_of(tags: Sequence[tuple[str, float]], chosen: frozenset[str]) -> float:
    """Share of the error that some tags have, of those whose share is known; at most 1.

    Example:
        >>> share_of([("LIT101", 0.7), ("FIT101", 0.2)], frozenset({"LIT101", "P101"}))
        0.7
    """
    return min(1.0, math.fsum(share for tag, share in tags if tag in chosen))
