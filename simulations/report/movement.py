"""How far the clusters moved at each refresh, and how much of the data each holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from server.report.canvas import BLUE, CLUSTERS, INK, MUTED, ORANGE, PURPLE, Drawing, drawable, finish, panels
from server.rounds import ClusterReport, RoundRecord, Status
from simulations.report.roundaxis import dress, marker
from simulations.report.words import count, number

SETTLED = 0.1  # radii
_APART = len(CLUSTERS)  # clusters that get a colour of their own
_CAPTION = (
    "Displacement: how far a refresh moved each centroid, in radii of the latent cloud; a last refresh below 0.1 "
    "(dashed) means that they have settled under the final encoder. Occupancy: share of the segments in each cluster. "
    "Effective number: exp(entropy) of the occupancy; at 1, everything is in one cluster, and clustering says nothing."
)

Movement = tuple[int, ClusterReport]
_Rounds = NDArray[np.int_]
_Values = NDArray[np.float64]


_NOISED = " Sums and counts are noised: a refresh moves centroids by chance too, and more the fewer records there are."


def clusters(records: Sequence[RoundRecord], noised: bool = False) -> Drawing | None:
    """Displacement, occupancy and effective number of the clusters; None when no refresh is known."""
    moves = movements(records)
    if not moves:
        return None
    rounds_R = np.array([round_number for round_number, _ in moves])
    figure, axes = panels(6.0, (1.2, 1.2, 0.8))
    _displacement(axes[0], rounds_R, drawable([report.displacement for _, report in moves]))
    _occupancy(axes[1], rounds_R, drawable([report.mass for _, report in moves]))
    _effective(axes[2], rounds_R, [report for _, report in moves])
    dress(axes, [record for record in records if record.number >= rounds_R[0]])
    last = moves[-1][1]
    alt = (
        f"Three charts by round. The last refresh moved the clusters by {number(last_move(records))} radii at most; "
        f"{sum(last.active)} of {count(len(last.mass), 'cluster')} are active, and the data uses "
        f"{number(last.effective, 1)} of them."
    )
    return finish(figure, "clusters", alt, _CAPTION + (_NOISED if noised else ""))


def movements(records: Sequence[RoundRecord]) -> list[Movement]:
    """Committed refreshes of the final clusters: seeding, which changes their number, is left out."""
    reports = [(r.number, r.clusters) for r in records if r.clusters and r.status is Status.COMMITTED]
    if not reports:
        return []
    final = len(reports[-1][1].mass)
    return [after for before, after in pairwise(reports) if len(before[1].mass) == len(after[1].mass) == final]


def last_move(records: Sequence[RoundRecord]) -> float:
    """How far the last refresh moved the centroid that moved furthest, in radii; NaN without any."""
    moved = [radii for _, report in movements(records)[-1:] for radii in report.displacement if not math.isnan(radii)]
    return max(moved, default=math.nan)


def _displacement(ax: Axes, rounds_R: _Rounds, radii_RK: _Values) -> None:
    """One line a cluster; with many clusters, the furthest and the median."""
    dots = marker(len(rounds_R))
    if radii_RK.shape[1] <= _APART:
        for k in range(radii_RK.shape[1]):
            ax.plot(rounds_R, radii_RK[:, k], color=CLUSTERS[k], linewidth=1.2, marker=dots, markersize=3)
    else:
        known_RK = np.nan_to_num(radii_RK)
        ax.plot(rounds_R, known_RK.max(axis=1), color=BLUE, label="the furthest", marker=dots, markersize=3)
        ax.plot(rounds_R, np.median(known_RK, axis=1), color=ORANGE, label="the median", marker=dots, markersize=3)
        ax.legend(loc="best")
    ax.axhline(SETTLED, color=MUTED, linestyle="--", linewidth=1)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("displacement\n(radii)")


def _occupancy(ax: Axes, rounds_R: _Rounds, mass_RK: _Values) -> None:
    names, mass_RK = _largest(np.nan_to_num(mass_RK))
    if len(rounds_R) == 1:
        edges_R, mass_RK = rounds_R[0] + np.array([-0.4, 0.4]), np.repeat(mass_RK, 2, axis=0)
    else:
        edges_R = rounds_R.astype(np.float64)
    ax.stackplot(edges_R, mass_RK.T, colors=CLUSTERS, labels=names, edgecolor=INK, linewidth=0.3)
    ax.set_ylim(0, max(1.0, float(mass_RK.sum(axis=1).max())))
    ax.set_ylabel("occupancy\n(share)")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="cluster")


def _largest(mass_RK: _Values) -> tuple[list[str], _Values]:
    """As many clusters as there are colours: the largest at the end of the run, and the rest together."""
    k = mass_RK.shape[1]
    if k <= _APART:
        return [str(i + 1) for i in range(k)], mass_RK
    chosen = np.sort(np.argsort(-mass_RK[-1], kind="stable")[: _APART - 1])
    rest_R = np.delete(mass_RK, chosen, axis=1).sum(axis=1)
    return [*(str(i + 1) for i in chosen), "others"], np.column_stack([mass_RK[:, chosen], rest_R])


def _effective(ax: Axes, rounds_R: _Rounds, reports: Sequence[ClusterReport]) -> None:
    effective_R = drawable([report.effective for report in reports])
    active_R = [sum(report.active) for report in reports]
    ax.plot(rounds_R, effective_R, color=PURPLE, label="effective", marker=marker(len(rounds_R)), markersize=3)
    ax.plot(rounds_R, active_R, color=MUTED, linestyle="--", linewidth=1, label="active")
    ax.set_ylim(0, max([1, *active_R]) * 1.15)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_ylabel("clusters\nin use")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
