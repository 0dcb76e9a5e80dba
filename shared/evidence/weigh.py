"""How much each channel counts, by what it knows of normal rows; no label, and nothing chosen per data set.

A model that cannot tell one normal row from another tells an anomaly from neither. What a channel is worth is the share
of normal variation that it accounts for, squared:

    joint, steps  (1 - 1 / A)^2 each, A analogue tags: relations need two
    shapes        (1 - d)^2 together, d the usual distance of an unseen course from the nearest known one
    network       (1 - r)^2 together, r the usual residual of an unseen row, both in standard deviations
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.evidence.kinds import Kinds
from shared.evidence.models import QUIET, STEP_TRAILS, Models
from shared.scoring import Float64Array
from shared.windows import IntArray

if TYPE_CHECKING:
    from shared.evidence.fit import Normal

NETWORKED = ("network", "rebuilt")
_TRAIL = {**{f"step {m}": m for m in STEP_TRAILS}, "network": 4, "rebuilt": 12}  # rows
_USUAL_COURSE = 20  # rows: the length nearest to it tells how well courses are known
_LEAST = 1e-3  # no channel is silenced


def trails(models: Models) -> IntArray:
    """Rows of each channel's own trailing mean, int64 (C,)."""
    return np.array([_TRAIL.get(name, 1) for name in models.channels])


def skills(models: Models, median_C: Float64Array, kinds: Kinds, normal: Normal) -> Float64Array:
    """Weights of the channels, float64 (C,), adding up to 1.

    Args:
        models: fitted.
        median_C: of each channel's logarithm on unseen normal rows.
        kinds, normal: of the plant.
    """
    names, analogue = models.channels, max(int(kinds.analogue_D.sum()), 1)
    lagged, lengths = (1 - 1 / analogue) ** 2, models.shape.lengths
    weights = dict.fromkeys(("joint", *(f"step {m}" for m in STEP_TRAILS)), lagged)
    weights |= dict.fromkeys(NETWORKED, _network_skill(normal) / len(NETWORKED))
    told = min(lengths, key=lambda w: abs(w - _USUAL_COURSE))
    shaped = _shape_skill(float(median_C[names.index(f"shape {told}")]), kinds) / len(lengths)
    weights |= {f"shape {w}": shaped for w in lengths}
    weight_C: Float64Array = np.array([weights[name] + _LEAST for name in names])
    weight_C /= weight_C.sum()
    return weight_C


def _shape_skill(median: float, kinds: Kinds) -> float:
    """Tags that never move are known perfectly; what counts is how the moving ones do."""
    moving, shaped = int(kinds.analogue_D.sum()), int(kinds.shaped_D.sum())
    if not shaped:
        return 0.0
    usual = max(float(np.exp(median)) - QUIET, 0.0) * np.sqrt(shaped / max(moving, 1))
    return float(max(0.0, 1 - usual) ** 2)


def _network_skill(normal: Normal) -> float:
    if normal.residual_TD is None:
        return 0.0
    counted_T = normal.scored_T if normal.unseen_T is None else normal.scored_T & normal.unseen_T
    rows_ND, residual_ND = normal.rows_TD[counted_T], normal.residual_TD[counted_T]
    if not len(rows_ND):
        return 0.0
    spread_D = rows_ND.std(axis=0)
    moving_D = spread_D > 0
    if not moving_D.any():
        return 0.0
    share_D = np.sqrt(np.square(residual_ND[:, moving_D]).mean(axis=0)) / spread_D[moving_D]
    return float(np.mean(np.maximum(0.0, 1 - share_D)) ** 2)
