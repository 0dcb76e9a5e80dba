"""A site's score over its test data, and all sites' ranking side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from server.report.canvas import (
    BLUE,
    EVENT,
    INK,
    MUTED,
    ORANGE,
    RED,
    Drawing,
    drawable,
    finish,
    label,
    panels,
    plain_ticks,
)
from shared.metrics.events import event_recall, spans
from shared.series import BoolArray
from simulations.evaluate import SiteResult
from simulations.report.material import SHOWN, Material
from simulations.report.words import count, duration, number, significant

_BUCKETS = 900  # about one a pixel
_BUCKETS_IN_ALL = 30_000  # over all sites: with many of them each drawing gets coarser
_RECORDINGS = 200  # starts that are marked at most
_PEAK = 25.0  # times the usual spread of the score: from here on the axis is bent


def timeline(result: SiteResult, index: int, sites: int) -> Drawing | None:
    """Score, threshold, alarms and labelled events of one site; None when it has no score."""
    if np.isnan(result.scores_T).all():
        return None
    scores_T = _topped(result.scores_T)
    edges_B = buckets(len(scores_T), sites)
    figure, (score, strips) = panels(2.3, (4.0, 1.0), None)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.97, bottom=0.18, hspace=0.22)
    rows, envelope = downsample(scores_T, edges_B)
    score.plot(rows, envelope, color=BLUE, linewidth=0.7)
    score.axhline(float(drawable(result.bundle.threshold.value)), color=INK, linestyle="--", linewidth=1)
    score.set_ylabel("score")
    _bend(score, scores_T, result.bundle.threshold.value)
    _strips(score, strips, result, edges_B)
    for start in result.starts[1:_RECORDINGS]:
        score.axvline(start, color=MUTED, linewidth=0.6, linestyle=":")
    strips.set_xlim(0, len(scores_T))
    strips.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    strips.set_xlabel("test row")
    return finish(figure, f"site-{index}", _alt(result), _caption(result))


def _topped(scores_T: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Scores that can be drawn: infinite ones lie as high as the highest other."""
    finite_T = np.isfinite(scores_T)
    low, high = (scores_T[finite_T].min(), scores_T[finite_T].max()) if finite_T.any() else (0.0, 1.0)
    return drawable(np.clip(scores_T, low, high))


def _strips(score: Axes, strips: Axes, result: SiteResult, edges_B: NDArray[np.int_]) -> None:
    """Alarms and events as two strips under the score, so that both can be seen without telling colours apart."""
    _bars(strips, result.bundle.threshold.alarms(result.scores_T), edges_B, 0.0, RED)
    if result.labels_T is not None:
        _bars(strips, result.labels_T, edges_B, 1.0, ORANGE)
        for first, end in _merged(result.labels_T, edges_B):
            score.axvspan(first, end, color=EVENT, linewidth=0, zorder=-1)
    strips.set_ylim(1.9, -0.1)
    strips.set_yticks([0.4, 1.4], ["alarms", "events" if result.labels_T is not None else "no labels"])
    strips.tick_params(axis="y", length=0)
    strips.grid(visible=False)


def _bars(ax: Axes, rows_T: BoolArray, edges_B: NDArray[np.int_], top: float, colour: str) -> None:
    ranges = [(first, end - first) for first, end in _merged(rows_T, edges_B)]
    ax.broken_barh(ranges, (top, 0.8), facecolors=colour, edgecolors=colour, linewidth=0.6)


def _merged(rows_T: BoolArray, edges_B: NDArray[np.int_]) -> list[tuple[int, int]]:
    """Row ranges in which something is true, at the resolution of the drawing: what is shorter still shows."""
    return [(int(edges_B[a]), int(edges_B[b])) for a, b in spans(np.logical_or.reduceat(rows_T, edges_B[:-1]))]


def buckets(rows: int, sites: int) -> NDArray[np.int_]:
    """Edges that cut rows into buckets of equal size, one a pixel when there are few sites: int (B + 1,)."""
    wanted = min(_BUCKETS, max(150, _BUCKETS_IN_ALL // max(1, sites)))
    return np.unique(np.linspace(0, rows, min(rows, wanted) + 1).astype(int))


def downsample(
    scores_T: NDArray[np.float64], edges_B: NDArray[np.int_]
) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """Smallest and largest score of each bucket, in turn: every peak stays. NaN where a bucket has no score.

    Example:
        >>> downsample(np.array([1.0, 9.0, 2.0, np.nan]), np.array([0, 2, 4]))[1]
        array([1., 9., 2., 2.])
    """
    starts_B = edges_B[:-1]
    if len(starts_B) == len(scores_T):
        return starts_B, scores_T
    envelope_B2 = np.column_stack([np.fmin.reduceat(scores_T, starts_B), np.fmax.reduceat(scores_T, starts_B)])
    return np.repeat(starts_B, 2), envelope_B2.ravel()


def _bend(ax: Axes, scores_T: NDArray[np.float64], threshold: float) -> None:
    """Bend the axis when the peaks would press all else to the ground: linear below the threshold, then logarithmic."""
    low, median, high = np.nanquantile(scores_T, (0.1, 0.5, 0.9))
    usual = max(high - low, abs(threshold - median))
    if usual > 0 and float(np.nanmax(np.abs(scores_T - median))) > _PEAK * usual:
        ax.set_yscale("symlog", linthresh=max(usual, abs(threshold)))
        plain_ticks(ax)
    else:
        ax.yaxis.set_major_locator(MaxNLocator(5))


def _alt(result: SiteResult) -> str:
    alarms_T = result.bundle.threshold.alarms(result.scores_T)
    rows, alarmed = count(len(result.scores_T), "test row"), int(alarms_T.sum())
    told = f"Score of {result.site} over {rows}, {alarmed:,} of them alarmed"
    if result.labels_T is None:
        return f"{told}; there are no labels."
    events = len(spans(result.labels_T, result.starts))
    noticed = round(event_recall(alarms_T, result.labels_T, result.starts) * events) if events else 0
    return f"{told}; {noticed} of {count(events, 'labelled event')} noticed."


def _caption(result: SiteResult) -> str:
    pieces = len(result.starts)
    cuts = f" Dotted lines: beginnings of {count(pieces, 'recording')}." if pieces > 1 else ""
    unscored = int(np.isnan(result.scores_T).sum())
    gaps = f" {count(unscored, 'row')} without a score, where no full window ends." if unscored else ""
    threshold = significant(result.bundle.threshold.value, 4)
    infinite = int(np.isinf(result.scores_T).sum())
    tops = f" {count(infinite, 'row')} with an infinite score, drawn at the top." if infinite else ""
    return f"Threshold {threshold} (dashed); a row is {duration(result.period_s)}.{cuts}{gaps}{tops}"


def ranking(material: Material) -> Drawing | None:
    """AUPRC of each site beside what a random score would reach; None when it is defined for none."""
    known = [(r.site, e) for r, e in material.measured if not math.isnan(e.auprc)]
    ordered = sorted(known, key=lambda pair: -pair[1].auprc)
    drawn = ordered[:SHOWN]
    if not drawn:
        return None
    figure, (ax,) = panels(0.9 + 0.23 * len(drawn), (1.0,))
    _ranking_bars(ax, [e.auprc for _, e in drawn], [e.anomaly_share for _, e in drawn])
    ax.set_yticks(range(len(drawn)), [label(site) for site, _ in drawn])
    above = sum(e.auprc > e.anomaly_share for _, e in known)
    best, worst = ordered[0], ordered[-1]
    alt = (
        f"Bar chart of AUPRC by site: {above} of {count(len(known), 'site')} above chance; best {best[0]} with "
        f"{number(best[1].auprc)}, worst {worst[0]} with {number(worst[1].auprc)}."
    )
    left = f" The {len(drawn)} best of {len(known)} sites." if len(drawn) < len(known) else ""
    caption = f"Only what is right of the mark was learnt: a random score reaches the share of anomalous rows.{left}"
    return finish(figure, "ranking", alt, caption)


def _ranking_bars(ax: Axes, auprc: Sequence[float], chance: Sequence[float]) -> None:
    rows = range(len(auprc))
    ax.barh(rows, auprc, height=0.62, color=BLUE, alpha=0.75, label="AUPRC")
    ax.vlines(
        chance, [y - 0.42 for y in rows], [y + 0.42 for y in rows], color=RED, linewidth=2.2, label="random score"
    )
    ax.set_xlim(0, 1)
    ax.set_ylim(len(auprc) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("AUPRC")
    ax.legend(loc="lower right")
