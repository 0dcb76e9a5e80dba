"""The report's pictures: what ranks, where the threshold cuts, what the network sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.report.canvas import (
    BLUE,
    CLUSTERS,
    INK,
    MUTED,
    ORANGE,
    RED,
    WIDTH_IN,
    Drawing,
    drawable,
    finish,
    label,
)
from shared.metrics.events import spans
from simulations.report.words import number
from simulations.study.contestant import Judged
from simulations.study.curves import Laid, operating, precision_recall, projected

_BINS = 60
_TAGS = 40  # rows of an error map
_COLUMNS = 300


def _row(count: int, height_in: float = 3.4) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def curves(found: Mapping[str, Laid], name: str, told: str) -> Drawing:
    """Precision over recall, and hits over false alarms, a line a detector."""
    figure, (left, right) = _row(2, 3.8)
    for at, (detector, rows) in enumerate(found.items()):
        for ax, (xs_P, ys_P) in ((left, precision_recall(rows)), (right, operating(rows))):
            dash = ("-", "--")[at // len(CLUSTERS) % 2]
            ax.plot(xs_P, ys_P, dash, color=CLUSTERS[at % len(CLUSTERS)], linewidth=1.4, label=label(detector))
    share = float(np.mean([rows.labels_M.mean() for rows in found.values()]))
    left.axhline(share, color=MUTED, linestyle=":", linewidth=1)
    right.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1)
    for ax, x, y in ((left, "recall", "precision"), (right, "normal rows alarmed", "anomalous rows alarmed")):
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x, ylabel=y)
    left.legend(loc="upper right", fontsize=7)
    alt = f"Precision-recall and ROC curves of {len(found)} detectors on {told}."
    caption = (
        f"{told}; rows of all sites end to end by their excess over the site's own threshold. Dotted: a random score."
    )
    return finish(figure, name, alt, caption)


def histograms(found: Mapping[str, Laid], name: str, told: str) -> Drawing:
    """Scores of normal and of anomalous rows around the threshold, a panel a detector."""
    shown = list(found.items())[:8]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(WIDTH_IN, 2.2 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax, (detector, laid) in zip(axes, shown, strict=False):
        _histogram(ax, laid)
        ax.set_title(label(detector))
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    axes[0].legend(fontsize=7)
    alt = f"Histograms of scores of {len(shown)} detectors on {told}, normal and anomalous rows, with the threshold."
    caption = f"{told}: share of rows by score less threshold (dashed); the outermost bins hold what is beyond."
    return finish(figure, name, alt, caption)


def _histogram(ax: Axes, rows: Laid) -> None:
    low, high = np.quantile(rows.excess_M, (0.01, 0.99))
    low, high = min(low, -1e-9), max(high, 1e-9)
    edges = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), _BINS)
    inside_M = np.clip(rows.excess_M, edges[0], edges[-1])
    for kind_M, colour, word in ((~rows.labels_M, BLUE, "normal"), (rows.labels_M, ORANGE, "anomalous")):
        shares, _ = np.histogram(inside_M[kind_M], edges)
        ax.stairs(shares / max(1, kind_M.sum()), edges, color=colour, fill=True, alpha=0.5, label=word)
    ax.axvline(0.0, color=INK, linestyle="--", linewidth=1)


def latents(judged: Judged, name: str, told: str) -> Drawing | None:
    """The latent space in two principal components, by cluster and by label; None without latents."""
    if len(judged.portrait.get("latents_NZ", ())) < 3:
        return None
    plane_N2 = drawable(projected(judged.portrait["latents_NZ"]))
    modes_N = judged.portrait["modes_N"]
    figure, (left, right) = _row(2)
    for mode in np.unique(modes_N):
        dots = plane_N2[modes_N == mode]
        word = f"cluster {mode}" if mode >= 0 else "no clusters"
        left.scatter(dots[:, 0], dots[:, 1], s=5, color=CLUSTERS[int(mode) % len(CLUSTERS)], label=word, linewidths=0)
    left.legend(fontsize=7, markerscale=2)
    left.set_title("by cluster")
    right.set_title("by label")
    if judged.labels_T is not None:
        labels_N = judged.labels_T[judged.portrait["ends_N"]]
        for kind_N, colour, word in ((~labels_N, BLUE, "normal"), (labels_N, RED, "anomalous")):
            dots = plane_N2[kind_N]
            right.scatter(dots[:, 0], dots[:, 1], s=5, color=colour, label=word, linewidths=0)
        right.legend(fontsize=7, markerscale=2)
    alt = f"Latent space of {told} in two dimensions, coloured by cluster and by label."
    return finish(
        figure, name, alt, f"{told}: windows of the test rows, first two principal components of the latents."
    )


def error_map(judged: Judged, tags: Sequence[str], name: str, told: str) -> Drawing | None:
    """How badly each sensor is reconstructed over the test rows; None without such errors."""
    errors_ND = judged.portrait.get("errors_ND")
    if errors_ND is None or not len(errors_ND):
        return None
    order_D = np.argsort(-errors_ND.max(axis=0), kind="stable")[:_TAGS]
    columns = np.unique(np.linspace(0, len(errors_ND), _COLUMNS + 1).astype(np.int64)[:-1])
    map_DC = np.log10(np.maximum.reduceat(errors_ND[:, order_D], columns, axis=0).T + 1e-6)
    figure, (ax,) = _row(1, 1.4 + 0.14 * len(order_D))
    last = int(judged.portrait["ends_N"][-1]) + 1
    first = int(judged.portrait["ends_N"][0])
    picture = ax.imshow(
        drawable(map_DC),
        aspect="auto",
        cmap="cividis",
        extent=(first, last, len(order_D) - 0.5, -0.5),
        interpolation="nearest",
    )
    figure.colorbar(picture, ax=ax, label="log10 of the error", pad=0.01)
    ax.set_yticks(range(len(order_D)), [label(tags[d]) if d < len(tags) else str(d) for d in order_D], fontsize=6)
    ax.grid(visible=False)
    ax.set_xlabel("test row")
    if judged.labels_T is not None:
        for begin, end in spans(judged.labels_T, judged.starts)[:200]:
            ax.plot((begin, end), (-0.9, -0.9), color=RED, linewidth=3, clip_on=False, solid_capstyle="butt")
    alt = f"Reconstruction error by sensor over the test rows of {told}."
    caption = f"{told}: the {len(order_D)} sensors with the largest errors, the worst on top; red: labelled events."
    return finish(figure, name, alt, caption)


def robustness(found: Mapping[str, Mapping[str, float]], clean: Mapping[str, float], name: str, told: str) -> Drawing:
    """Mean AUPRC under each disturbance, a line a detector, a panel a kind of disturbance."""
    kinds = list(dict.fromkeys(word.split()[0] for values in found.values() for word in values))
    figure, axes = _row(len(kinds), 3.2)
    for ax, kind in zip(axes, kinds, strict=True):
        words = list(dict.fromkeys(word for values in found.values() for word in values if word.split()[0] == kind))
        for at, (detector, values) in enumerate(found.items()):
            line = [clean.get(detector, np.nan), *(values.get(word, np.nan) for word in words)]
            ax.plot(range(len(line)), line, marker="o", markersize=3, color=CLUSTERS[at % 10], label=label(detector))
        ax.set_xticks(range(len(words) + 1), ["clean", *(word.split(maxsplit=1)[1] for word in words)])
        ax.set(title=kind, ylim=(0, 1), ylabel="AUPRC")
    axes[0].legend(fontsize=7)
    worst = {detector: number(min(values.values())) for detector, values in found.items() if values}
    alt = f"AUPRC on {told} under disturbed test rows; the lowest: {worst}."
    return finish(figure, name, alt, f"{told}: the fitted detectors on disturbed test rows; nothing was fitted anew.")
