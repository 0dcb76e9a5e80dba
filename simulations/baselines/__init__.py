"""Library baselines. Importing this package registers all of them; docs/baselines.md says what each one is."""

from simulations.baselines import (
    anomaly_transformer,
    centres,
    dagmm,
    forest,
    linear,
    lstm_ae,
    neighbours,
    svm,
    tails,
    tranad,
    usad,
)
from simulations.baselines.base import Baseline, Fitted, Float64Array, find, known, register

__all__ = [
    "Baseline",
    "Fitted",
    "Float64Array",
    "anomaly_transformer",
    "centres",
    "dagmm",
    "find",
    "forest",
    "known",
    "linear",
    "lstm_ae",
    "neighbours",
    "register",
    "svm",
    "tails",
    "tranad",
    "usad",
]
