"""How a run went, round by round: losses, and how far the clusters moved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from server.rounds import ClusterReport, RoundRecord, Status
from simulations.report.canvas import (
    BLUE,
    CLUSTERS,
    ORANGE,
    PURPLE,
    Drawing,
    drawable,
    finish,
    panels,
    plain_ticks,
)
from simulations.report.words import count, significant

_MARKED = 80  # points; more of them need no dots
_APART = len(CLUSTERS)  # clusters that get a colour of their own
_LOG = 20.0  # ratio of the largest to the smallest loss from which a logarithmic axis is clearer
SETTLED = 0.1  # radii
_LETTER = 5.2  # points

Movement = tuple[int, ClusterReport]


def losses(records: Sequence[RoundRecord]) -> Drawing | None:
    """Reconstruction loss (training, held-out) and cluster loss against the round; None without any."""
    train, held, cluster = (_series(records, name) for name in ("train_loss", "holdout_loss", "cluster_loss"))
    cluster[1][cluster[1] == 0] = math.nan  # zero means that it had no weight yet
    if np.isnan(train[1]).all() and np.isnan(held[1]).all():
        return None
    clustered = bool((~np.isnan(cluster[1])).any())
    figure, axes = panels(4.2 if clustered else 3.0, (2.0, 1.0) if clustered else (1.0,))
    _line(axes[0], train, BLUE, "training (mean of the round's last local epoch)")
    _line(axes[0], held, ORANGE, "held-out normal data (the model that the round began with)")
    _spread(axes[0], records)
    axes[0].set_ylabel("reconstruction\nloss")
    _scale(axes[0], np.concatenate([train[1], held[1]]))
    if clustered:
        _line(axes[1], cluster, PURPLE, "cluster loss (KL)")
        axes[1].set_ylabel("cluster\nloss")
        axes[1].set_ylim(bottom=0)
        axes[1].legend(loc="best")
    _dress(axes, records)
    axes[0].legend(loc="best")
    return finish(figure, "losses", _loss_alt(train, held), _loss_caption(records))


def _loss_alt(train: _Series, held: _Series) -> str:
    told = [
        f"{name} from {significant(values[0])} to {significant(values[-1])}"
        for name, values in (("training loss", _known(train)), ("held-out loss", _known(held)))
        if len(values)
    ]
    return f"Line chart of the losses by round: {', '.join(told)}."


def _loss_caption(records: Sequence[RoundRecord]) -> str:
    halted = sum(record.status is not Status.COMMITTED for record in records)
    marks = f" Vertical lines: {count(halted, 'round')} skipped or failed." if halted else ""
    return (
        "Mean squared error in scaled units, weighted over the plants that counted; the tinted band holds the middle 80 % "
        f"of the plants' held-out losses. The cluster loss is drawn from the round in which it first has a weight.{marks}"
    )


_Series = tuple[NDArray[np.int_], NDArray[np.float64]]


def _series(records: Sequence[RoundRecord], name: str) -> _Series:
    """A metric by round number; NaN where a committed round does not have it. Other rounds are left out."""
    kept = [r for r in records if r.status is Status.COMMITTED and name in r.metrics]
    return np.array([r.number for r in kept], int), drawable([r.metrics[name] for r in kept])


def _known(series: _Series) -> NDArray[np.float64]:
    return series[1][~np.isnan(series[1])]


def _line(ax: Axes, series: _Series, colour: str, name: str) -> None:
    if len(_known(series)):
        ax.plot(*series, color=colour, label=name, linewidth=1.6, **_points(len(series[0])))


def _spread(ax: Axes, records: Sequence[RoundRecord]) -> None:
    """The middle 80 % of the plants' held-out losses, where at least five plants told one."""
    bands = []
    for record in records:
        told = drawable(
            [p.metrics["holdout_loss"] for p in record.plants if p.accepted and "holdout_loss" in p.metrics]
        )
        told = told[~np.isnan(told)]
        if len(told) >= 5 and record.status is Status.COMMITTED:
            bands.append((record.number, *np.quantile(told, (0.1, 0.9))))
    if bands:
        rounds_R, low_R, high_R = np.array(bands).T
        ax.fill_between(rounds_R, low_R, high_R, color=ORANGE, alpha=0.15, linewidth=0)


def _scale(ax: Axes, values: NDArray[np.float64]) -> None:
    known = values[~np.isnan(values)]
    if known.min() > 0 and known.max() > _LOG * known.min():
        ax.set_yscale("log")
        plain_ticks(ax)
    elif known.min() >= 0:
        ax.set_ylim(bottom=0)
