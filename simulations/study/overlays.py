"""Ablations: named switches of the default recipe. A new one is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BASE = "crossplant"
"""The default recipe, of which an ablation is a variant: `crossplant:no-entropy`."""

ABLATIONS: dict[str, Mapping[str, Any]] = {
    "no-clustering": {"recipe.clustering.alpha_max": 0.0, "recipe.scoring.entropy_weight": 0.0},
    "no-entropy": {"recipe.scoring.evidence": False, "recipe.scoring.entropy_weight": 0.0},
    "entropy-0.35": {"recipe.scoring.evidence": False, "recipe.scoring.entropy_weight": 0.35},
    "no-lag": {"recipe.lag.on": False},
    "clip-live": {"recipe.preprocess.clip_live": True},
    "no-clip": {"recipe.preprocess.clip_quantile": None},
    "linear-bottleneck": {"recipe.detector.bottleneck": "linear"},
    "plain-score": {"recipe.scoring.evidence": False, "recipe.scoring.standardise": False},
    "no-judge": {"recipe.scoring.evidence": False},
}
"""What each switches off or over, laid over the default recipe."""


def ablations() -> list[str]:
    """Their names as `--detectors` would have them.

    Example:
        >>> ablations()[1]
        'crossplant:no-entropy'
    """
    return [f"{BASE}:{name}" for name in ABLATIONS]
