"""The paper's rule: mean plus so many standard deviations."""

from __future__ import annotations

from shared.thresholds.base import Cut, Normal, Settings, register


@register("mean-sigma")
def mean_sigma(normal: Normal, config: Settings) -> Cut:
    """`tau = mu + k sd` (Khan 2026, doi 10.55529/jaimlnn.61.31.41, with k = 3), sd over n.

    It promises no false alarm rate: up to three times of what was asked for came of it (docs/edge/thresholds.md).
    """
    return Cut(value=float(normal.scores_N.mean() + config.sigmas * normal.scores_N.std()))
