"""`crossplant client thresholds`: every rule on the plant's own held-out normal data, scored by its own model."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from client.agent.config import Plant
from client.agent.site import load_site
from client.training.calibrate import combined
from client.training.infer import score_all
from client.training.judged import judge_scores, judged, window_modes
from client.training.live_rows import live_rows
from client.training.tensors import TensorWindows
from client.training.workspace import Part, Workspace, prepare
from shared.bundle.whole import Bundle, read_bundle
from shared.config import ThresholdConfig
from shared.detectors.adapter import build_for
from shared.disk import replace_file
from shared.errors import BundleInvalid, FileTrouble, MissingExtra, SchemaMismatch
from shared.preprocess import Rows, join_labels, joined_starts
from shared.relations.beside import beside
from shared.scoring import scores_over_time
from shared.series import SiteData
from shared.thresholds.budget import REARM_S, rate_from_scores
from shared.thresholds.compare import Compared, Labelled, Series, compare, series_of_thresholds
from shared.thresholds.worth import hours_lacking
from shared.windows import IntArray, window_starts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from shared.relations import Fitted

_NO_MODE = -1


class Material:
    """What a plant has to compare thresholds on.

    Args:
        site: the plant's data.
        bundle: the plant's model.
        device: where it is scored.

    Attributes:
        alone: whether scores differ from the bundle's own, whose judge was lent what other plants sent: that is not
            kept, so the judge that tells scores of rows it has not seen goes by the plant's rows alone.

    Raises:
        SchemaMismatch: the data has other columns than the bundle.
        BundleInvalid: the data is not that of the bundle any more.
    """

    def __init__(self, site: SiteData, bundle: Bundle, device: torch.device) -> None:
        self._bundle, self._device, self.alone = bundle, device, False
        self._detector = build_for(bundle.recipe, bundle.schema).to(device)
        self._detector.load_weights(bundle.model.weights)
        workspace = _workspace(site, bundle)
        self.period_s = site.schema.period_s * bundle.preprocessor.every
        self.normal = Series(*self._normal(site, workspace), self.period_s)
        self.labelled = None if site.labels_T is None or not len(site.test_TD) else self._test(site)

    def _normal(self, site: SiteData, workspace: Workspace) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores and modes of normal windows, by models that had not seen them: a judge's are fitted once more."""
        bundle = self._bundle
        if bundle.judge is None:
            return self._scored(workspace.holdout)
        live = live_rows(site, workspace, bundle.recipe, None if bundle.relations is None else _relations(site))
        found = judged(self._detector, bundle.model.clusters, live, bundle.recipe)
        own, lent = (judge.models.joint.precision_PP for judge in (found.judge, bundle.judge))
        self.alone = own.shape != lent.shape or not np.allclose(own, lent)
        return found.scores_N, found.modes_N

    def _scored(self, part: Part) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores and modes of a part's windows."""
        recipe, clusters = self._bundle.recipe, self._bundle.model.clusters
        windows = TensorWindows(part, recipe.detector.window, self._device)
        found = score_all(self._detector, windows, recipe.scoring.tail)
        return combined(found, clusters, self._bundle.score), window_modes(found, clusters)

    def _test(self, site: SiteData) -> Labelled | None:
        """Scores of the test rows, each that of the window that ends there."""
        rows = self._bundle.preprocessor.live(np.asarray(site.test_TD, np.float32), site.test_starts)
        window, count = self._bundle.recipe.detector.window, len(rows.values_TD)
        starts_N = window_starts(count, window, 1, rows.starts)
        if not len(starts_N):
            return None
        scores_T, modes_T = self._judged(rows, starts_N)
        every = self._bundle.preprocessor.every
        scores_T = beside(self._bundle.relations, scores_T, site.test_TD, site.test_starts, every)
        labels_T = join_labels(np.asarray(site.labels_T), site.test_starts, every)
        starts = joined_starts(site.test_starts, len(site.test_TD), every)
        return Labelled(Series(scores_T, modes_T, self.period_s), labels_T, starts)

    def _judged(self, rows: Rows, starts_N: IntArray) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores and modes over time."""
        bundle, window, count = self._bundle, self._bundle.recipe.detector.window, len(rows.values_TD)
        if bundle.judge is not None:
            own = (bundle.judge, self._detector, bundle.model.clusters)
            return judge_scores(*own, rows.values_TD, rows.starts, starts_N, bundle.recipe)
        scores_N, modes_N = self._scored(Part(rows.values_TD, starts_N))
        scores_T = scores_over_time(scores_N, starts_N, window, count, recordings=rows.starts)
        if modes_N is None:
            return scores_T, None
        modes_T = np.full(count, _NO_MODE)
        modes_T[starts_N + window - 1] = modes_N
        return scores_T, modes_T


def _relations(site: SiteData) -> Fitted | None:
    """The plant's relations with what they say of its normal rows, fitted once more."""
    from shared.relations import Unfit, fit  # Imports scikit-learn.

    found = fit(np.asarray(site.train_TD, np.float32), site.train_starts, site.schema.period_s)
    return None if isinstance(found, Unfit) else found


def _workspace(site: SiteData, bundle: Bundle) -> Workspace:
    if site.schema.tags != bundle.schema.tags:
        raise SchemaMismatch(f"plant {site.name!r} has other tags than its bundle.", "Publish a bundle for this data.")
    workspace = prepare(site, bundle.recipe)
    if workspace.preprocessor != bundle.preprocessor:
        raise BundleInvalid(
            f"the data of plant {site.name!r} is not what its bundle was made from: what is held out now, it may have "
            "been trained on.",
            "Compare after the next round that calibrates, or give the data back.",
        )
    return workspace


def material(plant: Plant, bundle: Path | None, device: torch.device) -> tuple[Material, Bundle]:
    """Read a plant's data and its bundle (None: the newest that its agent published) and score them.

    Raises:
        DataError: the data cannot be used.
        BundleInvalid: there is no usable bundle.
    """
    found = read_bundle(plant.home / "bundles" / f"{plant.config.name}.bundle" if bundle is None else bundle)
    return Material(load_site(plant), found, device), found


def settings(bundle: Bundle, found: Material, rate: float | None, budget: float | None) -> ThresholdConfig:
    """The recipe's settings with another false alarm rate, or with that of a budget of false alarms a day."""
    changed = {} if rate is None else {"false_alarm_rate": rate}
    if budget is not None:
        asked = rate_from_scores(found.normal.scores_N, budget, found.normal.a_day, _gap(found))
        changed = {"false_alarm_rate": asked, "alarms_a_day": budget}
    return bundle.recipe.threshold.model_copy(update=changed)


def compared(found: Material, bundle: Bundle, config: ThresholdConfig) -> list[Compared]:
    """All rules; see `shared.thresholds.compare`."""
    return compare(found.normal, config, bundle.recipe.detector.window - 1, found.labelled, gap=_gap(found))


def _gap(found: Material) -> int:
    """Windows without an alarm that end one, as when the edge counts alarms."""
    return max(1, round(REARM_S / found.period_s))


def lacking(found: Material, row: Compared, rate: float) -> float:
    """Hours of normal data that the plant lacks for a rate; 0 when it lacks none."""
    threshold = row.threshold
    return hours_lacking(rate, threshold.calibration_size, threshold.effective_size, 3600 / found.period_s)


def write_plot(path: Path, found: Material, rows: list[Compared]) -> None:
    """The held-out scores, and every rule's threshold beside them; those that move, or differ by mode, as they do.

    Raises:
        MissingExtra: matplotlib is not installed.
        FileTrouble: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        cure = "pip install 'crossplant[simulation]', or give --out FILE.json."
        raise MissingExtra("the plot needs the package 'matplotlib'.", cure) from error
    figure = Figure(figsize=(11, 6), layout="constrained")
    _draw(figure.subplots(), found, rows)
    image = BytesIO()
    figure.savefig(image, dpi=110, format="png")
    try:
        replace_file(path, image.getvalue())
    except OSError as error:
        raise FileTrouble(f"{path} cannot be written: {error.strerror or error}.") from error


def _draw(axes: Axes, found: Material, rows: list[Compared]) -> None:
    scores_N = found.normal.scores_N
    hours_N = np.arange(len(scores_N)) * found.period_s / 3600
    axes.plot(hours_N, scores_N, color="0.75", linewidth=0.6, label="held-out normal scores")
    for number, row in enumerate(rows):
        colour, threshold = f"C{number % 10}", row.threshold
        style = ("-", "--", ":")[number // 10 % 3] if threshold.status == "ok" else ":"
        name = f"{threshold.rule}: {threshold.value:.4g}{' (weak)' if threshold.status == 'weak' else ''}"
        if threshold.tracking is None and not threshold.by_mode:
            axes.axhline(threshold.value, color=colour, linestyle=style, linewidth=1.0, label=name)
        else:
            values_N = series_of_thresholds(threshold, found.normal)
            axes.plot(hours_N, values_N, color=colour, linestyle=style, linewidth=1.0, label=name)
    axes.set_xlabel("hours of held-out normal operation")
    axes.set_ylabel("score")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
