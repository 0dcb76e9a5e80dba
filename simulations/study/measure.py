"""Labels meet scores here, and only here: after scores and thresholds of a cell are fixed and on the disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shared.metrics.bootstrap import resampled_average_precision
from shared.metrics.pooled import Scored, pooled
from shared.metrics.summary import Evaluation, evaluate
from shared.series import BoolArray, SiteData
from simulations.study.cells import Outcome
from simulations.study.contestant import Float64Array, Judged
from simulations.study.plan import Cell

METRICS = (
    "auprc",
    "auroc",
    "vus_pr",
    "f1_at_threshold",
    "f1_best",
    "event_recall",
    "false_alarms_per_day",
    "delay_s",
)
FIELDS = ("dataset", "site", "detector", "mode", "seed", *METRICS, "train_s", "peak_mb")
"""Of a row of results.json, in order; frozen by tests/contract/test_study_results.py."""

Labels = Mapping[str, BoolArray | None]
"""By site; None where a site has no labels."""


@dataclass(frozen=True)
class Measured:
    """One site of one cell.

    Attributes:
        cell, site: which.
        found: every figure; None where the site has no labelled test rows, or could not be fitted.
        variants: AUPRC under each disturbance.
        resampled_R: AUPRC of resampled events, float64 (R,), the same draws for every cell; empty with few events.
        train_s, peak_mb, score_us, wire_bytes: what it cost; NaN where it could not be fitted.
        error: why there is nothing; empty when there is.
    """

    cell: Cell
    site: str | None
    found: Evaluation | None = None
    variants: Mapping[str, float] | None = None
    resampled_R: Float64Array = field(default_factory=lambda: np.empty(0))
    train_s: float = math.nan
    peak_mb: float = math.nan
    score_us: float = math.nan
    wire_bytes: int = 0
    error: str = ""

    def row(self) -> dict[str, Any]:
        """As results.json has it: exactly `FIELDS`, null where a figure is not defined."""
        cell = self.cell
        head = {"dataset": cell.dataset, "site": self.site, "detector": cell.detector, "mode": cell.mode}
        figures = {name: math.nan if self.found is None else getattr(self.found, name) for name in METRICS}
        cost = {"train_s": self.train_s, "peak_mb": self.peak_mb}
        return {**head, "seed": cell.seed, **{name: _json(value) for name, value in {**figures, **cost}.items()}}


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def labels_of(sites: Sequence[SiteData]) -> dict[str, BoolArray | None]:
    """The labels of sites, by name."""
    return {site.name: None if site.labels_T is None else np.asarray(site.labels_T) for site in sites}


def labelled(judged: Judged, labels: Labels) -> Judged:
    """With its labels, where it has some."""
    return replace(judged, labels_T=labels.get(judged.site))


def measured(outcome: Outcome, labels: Labels) -> list[Measured]:
    """Every site of a cell: those that were judged, and those that were left out or have nothing to be judged on."""
    found = [_one(outcome.cell, labelled(one, labels)) for one in outcome.judged]
    found += [Measured(outcome.cell, one.site, error=one.why) for one in outcome.left]
    there = {one.site for one in found}
    found += [Measured(outcome.cell, name, error="no test rows") for name in labels if name not in there]
    order = {name: at for at, name in enumerate(labels)}
    return sorted(found, key=lambda one: order.get(one.site or "", len(order)))


def _one(cell: Cell, judged: Judged) -> Measured:
    found, variants, resampled_R = None, {}, np.empty(0)
    if judged.labels_T is not None:
        resampled_R = resampled_average_precision(judged.scores_T, judged.labels_T, judged.starts)
        fixed = (judged.labels_T, judged.thresholds_T, judged.period_s, judged.starts)
        found = evaluate(judged.scores_T, *fixed)
        variants = {name: _auprc(scores_T, judged.labels_T) for name, (scores_T, _) in judged.variants.items()}
    return Measured(
        cell,
        judged.site,
        found,
        variants,
        resampled_R,
        train_s=judged.train_s,
        peak_mb=judged.peak_mb,
        score_us=judged.score_us,
        wire_bytes=judged.wire_bytes,
    )


def _auprc(scores_T: np.ndarray[Any, Any], labels_T: BoolArray) -> float:
    from shared.metrics.pointwise import average_precision

    known_T = ~np.isnan(scores_T)
    return average_precision(scores_T[known_T], labels_T[known_T])


def end_to_end(outcome: Outcome, labels: Labels) -> Evaluation | None:
    """All sites of a cell as one, see `shared.metrics.pooled`; None with less than two labelled sites."""
    scored = []
    for one in (labelled(one, labels) for one in outcome.judged):
        if one.labels_T is not None:
            scored.append(Scored(one.scores_T, one.labels_T, one.thresholds_T, one.period_s, one.starts))
    return pooled(scored) if len(scored) > 1 else None
