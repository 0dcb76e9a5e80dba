"""Threshold rules. Importing this package registers all of them."""

from shared.thresholds import conformal, mean_sigma, quantile
from shared.thresholds.base import Cut, Threshold, effective_size, fit, known

__all__ = ["Cut", "Threshold", "conformal", "effective_size", "fit", "known", "mean_sigma", "quantile"]
