"""Conformal's threshold, raised while ordinary rows score more than they did at calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shared.thresholds.base import Cut, Normal, Settings, Tracking, register
from shared.thresholds.conformal import conformal

SETTLING = 1000  # scores whose median is looked at
_MAD_TO_SIGMA = 1.4826
_ROUNDING = 1e-12


@register("settled")
def settled(normal: Normal, config: Settings) -> Cut:
    """Conformal's value tau_0; live, `tau = tau_0 + min(max(m - m_0, 0), 2 s_0)`, m the median of the last 1000 scores.

    A plant drifts: a pump wears, a tank is cleaned, and every row scores higher than calibration has seen. Other
    adaptive rules learn from un-alarmed scores only and stand still then, for all are alarmed. The median learns from
    all; half of the last 1000 rows must have risen before it moves, and `2 s_0` (robust standard deviations of normal
    scores) is all that it can be taught: an attack that goes on for long hides no more than that. It never falls.
    """
    cut = conformal(normal, config)
    centre = float(np.median(normal.scores_N))
    spread = _MAD_TO_SIGMA * float(np.median(np.abs(normal.scores_N - centre)))
    if spread <= _ROUNDING * abs(centre):  # Nothing that could move it.
        return cut
    return replace(cut, tracking=Tracking(kind="settled", memory=SETTLING, centre=centre, spread=spread))
