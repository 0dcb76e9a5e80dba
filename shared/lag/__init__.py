"""An exact federated lag model: ridge VAR(p) and lagged Mahalanobis from summed second moments, in one exchange.

    learnt = moments(train_TD, starts, lags=5)              # at each plant; `learnt.vector_Q` crosses the wire
    total = learnt + ...                                     # the sum of all plants is the pooled data's
    mine = with_prior(learnt, total - learnt, n0)            # own data, and n0 rows of the others'
    scorer = calibrated(fit_mahalanobis(mine), fit_var(mine), held_TD)
    scorer.score_rows(test_TD)

What was measured is in docs/lag.md. An edge box needs `VarModel` and `trailing`, for its judge; what fits is imported
at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shared.lag.score import LagScorer, trailing
from shared.lag.var import VarModel

if TYPE_CHECKING:
    from shared.lag.calibrate import calibrated, chosen_trail
    from shared.lag.learn import fit_mahalanobis, fit_var
    from shared.lag.prior import chosen_rows, pieces, with_prior
    from shared.lag.private import private_moments, usual_radius
    from shared.lag.sums import Moments, moments, parse, vector_size

_HOMES = {
    "calibrated": "calibrate",
    "chosen_trail": "calibrate",
    "fit_mahalanobis": "learn",
    "fit_var": "learn",
    "Moments": "sums",
    "moments": "sums",
    "parse": "sums",
    "vector_size": "sums",
    "chosen_rows": "prior",
    "pieces": "prior",
    "with_prior": "prior",
    "private_moments": "private",
    "usual_radius": "private",
}

__all__ = [
    "LagScorer",
    "Moments",
    "VarModel",
    "calibrated",
    "chosen_rows",
    "chosen_trail",
    "fit_mahalanobis",
    "fit_var",
    "moments",
    "parse",
    "pieces",
    "private_moments",
    "trailing",
    "usual_radius",
    "vector_size",
    "with_prior",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"shared.lag.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
