"""Test rows made worse, to see how scores bear it: noise, missing readings, drift. No label is looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared.series import FloatArray

Disturbance = Callable[[FloatArray, FloatArray, np.random.Generator], FloatArray]
"""(test rows (T, D), standard deviation of each tag in training (D,), random numbers) -> disturbed rows."""


def noise(decibels: float) -> Disturbance:
    """White noise, so many decibels below each tag's variance in training."""

    def disturb(test_TD: FloatArray, spread_D: FloatArray, rng: np.random.Generator) -> FloatArray:
        amplitude_D = spread_D * 10 ** (-decibels / 20)
        return (test_TD + rng.standard_normal(test_TD.shape, np.float32) * amplitude_D).astype(np.float32)

    return disturb


def missing(share: float) -> Disturbance:
    """Readings that are missing, each by itself."""

    def disturb(test_TD: FloatArray, spread_D: FloatArray, rng: np.random.Generator) -> FloatArray:
        lost_TD = rng.random(test_TD.shape, np.float32) < share
        return np.where(lost_TD, np.float32(np.nan), test_TD).astype(np.float32)

    return disturb


def drift(spreads: float) -> Disturbance:
    """Every tag moves away in a line, up or down, by so many standard deviations over the test rows."""

    def disturb(test_TD: FloatArray, spread_D: FloatArray, rng: np.random.Generator) -> FloatArray:
        way_D = spreads * spread_D * rng.choice(np.array([-1, 1], np.float32), test_TD.shape[1])
        moved_TD: FloatArray = test_TD + np.linspace(0, 1, len(test_TD), dtype=np.float32)[:, None] * way_D
        return moved_TD

    return disturb


DISTURBANCES: dict[str, Disturbance] = {
    **{f"noise {decibels} dB": noise(decibels) for decibels in (40, 30, 20, 10)},
    **{f"missing {share} %": missing(share / 100) for share in (5, 10, 20)},
    **{f"drift {spreads} sd": drift(spreads) for spreads in (0.5, 1.0)},
}
"""By name, in the order of the curves."""


def disturbed(name: str, train_TD: FloatArray, test_TD: FloatArray, seed: int) -> FloatArray:
    """Test rows under a disturbance; the same seed disturbs every contestant alike.

    Args:
        name: of `DISTURBANCES`.
        train_TD: raw training rows (R, D), which tell each tag's spread.
        test_TD: raw test rows (T, D), left as they are.
        seed: of the random numbers.
    """
    known_TD = np.ma.masked_invalid(train_TD)
    spread_D = np.ma.filled(known_TD.std(axis=0, dtype=np.float64), 0.0).astype(np.float32)
    found_TD: FloatArray = DISTURBANCES[name](test_TD, spread_D, np.random.default_rng([seed, *name.encode()]))
    return found_TD
