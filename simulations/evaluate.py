"""What each site's bundle finds in its labelled test data. Labels are read here, after training, and only here."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.agent.local import plant_folders
from client.ingest.folder import read_site
from client.training.calibrate import window_entropy
from client.training.infer import score_all
from client.training.judged import judge_scores, window_modes
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.bundle.whole import Bundle, read_bundle
from shared.detectors.adapter import build_for
from shared.errors import BundleInvalid, DataError
from shared.metrics.pooled import Scored, pooled
from shared.metrics.summary import Evaluation, evaluate
from shared.preprocess import join_labels, joined_starts
from shared.relations.beside import beside
from shared.scoring import scores_over_time
from shared.series import SiteData
from shared.thresholds import followed
from shared.windows import IntArray, window_starts


@dataclass(frozen=True)
class SiteResult:
    """One site's outcome.

    Attributes:
        site, group: name and subsystem.
        train_rows, test_rows: rows of data, before any are joined.
        bundle: what the site scores with.
        scores_T: float32 (S,), one a joined row; NaN where no full window ends, empty without test data.
        thresholds_T: float64 (S,), what a score must exceed to be alarmed; it may differ by operating mode.
        labels_T: bool (S,), None without labels.
        starts: joined rows at which test recordings begin.
        evaluation: None without labelled test data.
        period_s: seconds a joined row.
    """

    site: str
    group: str
    train_rows: int
    test_rows: int
    bundle: Bundle
    scores_T: NDArray[np.floating[Any]]
    thresholds_T: NDArray[np.float64]
    labels_T: NDArray[np.bool_] | None
    starts: tuple[int, ...]
    evaluation: Evaluation | None
    period_s: float

    def to_dict(self) -> dict[str, Any]:
        """The figures, without the series, as plain JSON values."""
        threshold = self.bundle.threshold
        head = {"site": self.site, "group": self.group, "train_rows": self.train_rows, "test_rows": self.test_rows}
        metrics = self.evaluation.to_dict() if self.evaluation else None
        made = self.bundle.provenance
        model = {"origin": made.origin, "holdout_loss": dict(made.compared)}
        return {**head, "model": model, "threshold": threshold.as_dict(), "metrics": metrics}


def evaluate_sites(
    plants: Path, bundles: Path, device: torch.device, workers: int
) -> tuple[tuple[SiteResult, ...], tuple[str, ...]]:
    """Score every site's test data with the site's own bundle, a few sites at a time.

    Returns:
        one result a site that has a usable bundle, and a sentence for each of the others.

    Raises:
        BundleInvalid: no site has one.
    """

    def one(folder: Path) -> SiteResult | str:
        try:
            return evaluate_site(read_site(folder), read_bundle(bundles / f"{folder.name}.bundle"), device)
        except (DataError, BundleInvalid) as error:
            return f"{folder.name}: not measured: {error.code} {error.cause}"

    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(one, plant_folders(plants)))
    results = tuple(item for item in found if not isinstance(item, str))
    unmeasured = tuple(item for item in found if isinstance(item, str))
    if not results:
        raise BundleInvalid(f"no site has a usable bundle in {bundles}. {' '.join(unmeasured[:3])}", "Start a new run.")
    return results, unmeasured


def evaluate_site(site: SiteData, bundle: Bundle, device: torch.device) -> SiteResult:
    """Score one site's test rows and compare them with its labels."""
    scores_T, modes_T = _judged(site, bundle, device)
    thresholds_T = followed(bundle.threshold, scores_T, modes_T)
    every = bundle.preprocessor.every
    starts, period_s = joined_starts(site.test_starts, len(site.test_TD), every), site.schema.period_s * every
    labels_T = None if site.labels_T is None else join_labels(np.asarray(site.labels_T), site.test_starts, every)
    evaluation = None
    if labels_T is not None and len(scores_T):
        evaluation = evaluate(scores_T, labels_T, thresholds_T, period_s, starts)
    return SiteResult(
        site=site.name,
        group=site.group,
        train_rows=len(site.train_TD),
        test_rows=len(site.test_TD),
        bundle=bundle,
        scores_T=scores_T,
        thresholds_T=thresholds_T,
        labels_T=labels_T,
        starts=starts,
        evaluation=evaluation,
        period_s=period_s,
    )


def score_rows(site: SiteData, bundle: Bundle, device: torch.device) -> NDArray[np.floating[Any]]:
    """The score of every joined test row: that of the window that ends there, float (S,), NaN where none does.

    Windows of missing readings are scored like any other: what stands in for a reading is what the site would see live.
    """
    return _judged(site, bundle, device)[0]


def _judged(site: SiteData, bundle: Bundle, device: torch.device) -> tuple[NDArray[np.floating[Any]], IntArray | None]:
    """Scores as `score_rows` gives them, and each row's mode, int64 (S,), -1 for none; None without clusters."""
    if len(site.test_TD) == 0:
        return np.empty(0, np.float64), None
    rows = bundle.preprocessor.live(np.asarray(site.test_TD, np.float32), site.test_starts)
    window, count = bundle.recipe.detector.window, len(rows.values_TD)
    starts_N = window_starts(count, window, 1, rows.starts)
    detector = build_for(bundle.recipe, site.schema).to(device)
    detector.load_weights(bundle.model.weights)
    if bundle.judge is not None:
        clusters, recipe = bundle.model.clusters, bundle.recipe
        judge_T, modes_T = judge_scores(bundle.judge, detector, clusters, rows.values_TD, rows.starts, starts_N, recipe)
        every = bundle.preprocessor.every
        return beside(bundle.relations, judge_T, site.test_TD, site.test_starts, every), modes_T
    windows = TensorWindows(Part(rows.values_TD, starts_N), window, device)
    scores = score_all(detector, windows, bundle.recipe.scoring.tail)
    combined_N = bundle.score.combine(scores.error_N, window_entropy(scores, bundle.model.clusters))
    scores_T = scores_over_time(combined_N, starts_N, window, count, recordings=rows.starts)
    modes_N = window_modes(scores, bundle.model.clusters)
    if modes_N is None:
        return scores_T, None
    modes_T = np.full(count, -1, np.int64)
    modes_T[starts_N + (window - 1)] = modes_N
    return scores_T, modes_T


def result_rows(results: tuple[SiteResult, ...]) -> list[dict[str, Any]]:
    """One plain dictionary a site."""
    return [result.to_dict() for result in results]


def pooled_evaluation(results: Sequence[SiteResult]) -> Evaluation | None:
    """All measured sites laid end to end, see `shared.metrics.pooled`; None when no site was measured."""
    return pooled(
        [
            Scored(result.scores_T, result.labels_T, result.thresholds_T, result.period_s, result.starts)
            for result in results
            if result.evaluation is not None and result.labels_T is not None
        ]
    )


def evaluations(results: tuple[SiteResult, ...]) -> list[Evaluation]:
    """The evaluations of the sites that have one."""
    return [result.evaluation for result in results if result.evaluation is not None]
