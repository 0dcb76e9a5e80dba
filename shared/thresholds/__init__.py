"""Threshold rules. Importing this package registers all of them."""

from shared.thresholds import (
    conformal,
    context,
    daily,
    dspot,
    ensemble,
    ewma,
    mean_sigma,
    mixture,
    moving_percentile,
    pot,
    quantile,
    settled,
)
from shared.thresholds.base import Cut, Normal, Settings, Threshold, Tracker, Tracking, fit, known
from shared.thresholds.live import fit_live
from shared.thresholds.tracking import followed, resume, start
from shared.thresholds.worth import check_rate, effective_size

__all__ = [
    "Cut",
    "Normal",
    "Settings",
    "Threshold",
    "Tracker",
    "Tracking",
    "check_rate",
    "conformal",
    "context",
    "daily",
    "dspot",
    "effective_size",
    "ensemble",
    "ewma",
    "fit",
    "fit_live",
    "followed",
    "known",
    "mean_sigma",
    "mixture",
    "moving_percentile",
    "pot",
    "quantile",
    "resume",
    "settled",
    "start",
]
