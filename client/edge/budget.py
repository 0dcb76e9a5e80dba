"""The plant's alarm budget, `[alarms] budget_a_day`: so many false alarms a day, from which both thresholds come.

    alpha = alarms a day * windows in an alarm / windows a day      (docs/edge/thresholds.md)

Each model has half of the alarms. How long an alarm is, is known from the held-out scores of both (`Bursts`). A bundle
with a budget is a bundle with other thresholds: conformal ones at these rates, from the held-out scores that it brings.
Whether the plant's normal data can carry the rates, `client.edge.promise` says.
"""

from __future__ import annotations

import math
from dataclasses import replace

from msgspec import structs

from shared.bundle.edge import EdgeBundle
from shared.distribution import Distribution
from shared.local_guard.file import from_bytes, to_bytes
from shared.local_guard.guard import LocalGuard
from shared.thresholds import Threshold
from shared.thresholds.budget import Bursts, rate_for_budget
from shared.thresholds.worth import doubts, least_rate

DAY_S = 86_400.0
_MOST = 0.25  # twice of it is still a share of windows
_ROUNDING = 1e-9


def budgeted(bundle: EdgeBundle, alarms_a_day: float | None) -> EdgeBundle:
    """A bundle whose thresholds are for so many false alarms a day; None: for the rates that it was published with.

    The federated model's threshold beside the guard is the one at its half; the one of the bundle itself, which counts
    where there is no guard, is at the whole.

    Raises:
        BundleInvalid: the guard cannot be read.
    """
    if alarms_a_day is None:
        return bundle
    step_s, figures = bundle.schema.period_s * bundle.preprocessor.every, bundle.calibration
    if bundle.guard is None:
        alpha = _rate(figures.bursts, alarms_a_day, step_s)
        return _with(bundle, alpha, at_rate(bundle.threshold, figures.distribution, figures.effective_size, alpha))
    guard = from_bytes(bundle.guard, f"{bundle.folder}: guard.bin")
    half = _rate(figures.bursts, alarms_a_day / 2, step_s)
    whole, beside = (
        at_rate(bundle.threshold, figures.distribution, figures.effective_size, alpha) for alpha in (2 * half, half)
    )
    found = replace(
        bundle, calibration=structs.replace(figures, beside_guard=beside), guard=_guard(guard, alarms_a_day)
    )
    return _with(found, 2 * half, whole)


def least_budget(bundle: EdgeBundle) -> float | None:
    """The least number of false alarms a day that the normal data behind both models carry; None: no number."""
    figures, step_s = bundle.calibration, bundle.schema.period_s * bundle.preprocessor.every
    found = [_least(figures.distribution.size, figures.effective_size, figures.bursts, step_s)]
    if bundle.guard is None:
        return found[0]
    guard = from_bytes(bundle.guard, f"{bundle.folder}: guard.bin")
    own, step_s = guard.threshold, guard.schema.period_s * guard.preprocessor.every
    found.append(_least(guard.calibration.size, own.effective_size, guard.bursts, step_s))
    return None if None in found else max(2 * one for one in found if one is not None)


def at_rate(own: Threshold, normal: Distribution, effective: float, alpha: float) -> Threshold:
    """A threshold moved to where the conformal one of a rate lies; those of single modes move by as much.

    Args:
        own: the threshold as published.
        normal: scores of held-out normal data.
        effective: how many independent ones they are worth.
        alpha: share of normal windows above it; with too few scores for it, the highest score is taken.
    """
    value, n = score_at(normal, alpha), normal.size
    told = doubts(n, effective, alpha, "holdout")
    return structs.replace(
        own,
        value=value,
        by_mode=tuple(one + value - own.value for one in own.by_mode),
        fitted_on="holdout",
        calibration_size=n,
        effective_size=effective,
        false_alarm_rate=alpha,
        supported_rate=max(math.floor((n + 1) * alpha + _ROUNDING), 1) / (n + 1),
        status="weak" if told else "ok",
        note=" ".join(told),
    )


def score_at(normal: Distribution, alpha: float) -> float:
    """The score of conformal's rank for a rate, as `shared.thresholds.conformal`; the highest where there is none.

    Example:
        >>> import numpy as np
        >>> [score_at(Distribution.of_scores(np.arange(n)), 0.01) for n in (1000, 5)]
        [990.0, 4.0]
    """
    exceed = min(math.floor((normal.size + 1) * alpha + _ROUNDING), normal.size)
    return normal.quantile((normal.size + 1 - max(exceed, 1)) / normal.size)


def _with(bundle: EdgeBundle, alpha: float, threshold: Threshold) -> EdgeBundle:
    return replace(bundle, threshold=threshold, setup=structs.replace(bundle.setup, false_alarm_rate=alpha))


def _guard(guard: LocalGuard, alarms_a_day: float) -> bytes:
    alpha = _rate(guard.bursts, alarms_a_day / 2, guard.schema.period_s * guard.preprocessor.every)
    own = guard.threshold
    return to_bytes(replace(guard, threshold=at_rate(own, guard.calibration, own.effective_size, alpha)))


def _rate(bursts: Bursts | None, alarms_a_day: float, step_s: float) -> float:
    """The rate of a budget; where nobody counted episodes, of episodes of one window: the lowest one."""
    a_day = DAY_S / step_s
    found = rate_for_budget(alarms_a_day, a_day) if bursts is None else bursts.rate_for(alarms_a_day, a_day)
    return min(_MOST, found)


def _least(size: int, effective: float, bursts: Bursts | None, step_s: float) -> float | None:
    rate = least_rate(size, effective)
    return None if bursts is None or rate > _MOST else bursts.budget_for(rate, DAY_S / step_s)
