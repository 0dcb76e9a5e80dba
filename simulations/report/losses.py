"""How well the plants were learnt, round by round."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from server.report.canvas import BLUE, MUTED, ORANGE, PURPLE, Drawing, drawable, finish, panels, plain_ticks
from server.rounds import RoundRecord, Status
from simulations.report.roundaxis import dress, marker
from simulations.report.words import count, significant

_LOG = 20.0  # ratio of the largest to the smallest loss from which a logarithmic axis is clearer
_SEVERAL = 5  # plants
_TOGETHER = 15  # rounds

_Series = tuple[NDArray[np.int_], NDArray[np.float64]]


def losses(records: Sequence[RoundRecord], noise: float = 0.0) -> Drawing | None:
    """Reconstruction loss (training, held-out) and cluster loss against the round; None without any.

    Args:
        records: finished rounds.
        noise: standard deviation of what differential privacy adds to a round's training loss; 0 without.
    """
    train, held, cluster = (_series(records, name) for name in ("train_loss", "holdout_loss", "cluster_loss"))
    cluster[1][cluster[1] == 0] = math.nan  # zero means that it had no weight yet
    if not len(_known(train)) and not len(_known(held)):
        return None
    clustered = len(_known(cluster)) > 0
    figure, axes = panels(4.2 if clustered else 3.0, (2.0, 1.0) if clustered else (1.0,))
    if noise:
        _line(axes[0], train, MUTED, _NOISED)
        _line(axes[0], _smoothed(train), BLUE, f"its mean over {_TOGETHER} rounds")
    else:
        _line(axes[0], train, BLUE, "training (mean of the round's last local epoch)")
    _line(axes[0], held, ORANGE, "held-out normal data (the model that the round began with)")
    _spread(axes[0], records)
    _scale(axes[0], np.concatenate([_known(train), _known(held)]))
    axes[0].set_ylabel("reconstruction\nloss")
    if clustered:
        _line(axes[1], cluster, PURPLE, "cluster loss (KL)")
        _scale(axes[1], _known(cluster))
        axes[1].set_ylabel("cluster\nloss")
        axes[1].legend(loc="best")
    dress(axes, records)
    axes[0].legend(loc="best")
    return finish(figure, "losses", _alt(train, held), _noised(noise) if noise else _caption(records))


_NOISED = "training, with the noise of differential privacy"
HELD_BACK = (
    "There is no curve of held-out data: a loss on it would be one more release, which no budget is kept for. "
    "The cluster loss stays at the plants as well."
)
"""Why curves are missing under local differential privacy."""


def _smoothed(series: _Series) -> _Series:
    """Means over `_TOGETHER` values in a row, each at the round of the last of them; nothing of fewer."""
    rounds_R, values_R = series
    if len(values_R) < _TOGETHER:
        return rounds_R[:0], values_R[:0]
    return rounds_R[_TOGETHER - 1 :], np.convolve(values_R, np.full(_TOGETHER, 1 / _TOGETHER), "valid")


def _noised(noise: float) -> str:
    return (
        "Mean of the sampled records' losses at the model that the round began with, in scaled units, each record's "
        f"cut at the cap. What is drawn is noised, with a standard deviation of {significant(noise, 2)}: neighbouring "
        "rounds differ by chance, and values may be negative. The mean divides by the declared size, a power of "
        f"two, so that it lies up to twice too high. {HELD_BACK}"
    )


def _alt(train: _Series, held: _Series) -> str:
    told = [
        f"{name} from {significant(values[0])} to {significant(values[-1])}"
        for name, values in (("training loss", _known(train)), ("held-out loss", _known(held)))
        if len(values)
    ]
    return f"Line chart of the losses by round: {', '.join(told)}."


def _caption(records: Sequence[RoundRecord]) -> str:
    halted = sum(record.status is not Status.COMMITTED for record in records)
    marks = f" Dotted lines: {count(halted, 'round')} skipped or failed." if halted else ""
    return (
        "Mean squared error in scaled units, weighted over the plants that counted; the tinted band holds the middle "
        "80 % of the plants' held-out losses. The cluster loss is drawn from the round in which it first has a weight."
        f"{marks}"
    )


def _series(records: Sequence[RoundRecord], name: str) -> _Series:
    """A metric of the committed rounds that have it, by round number."""
    kept = [r for r in records if r.status is Status.COMMITTED and name in r.metrics]
    return np.array([r.number for r in kept], int), drawable([r.metrics[name] for r in kept])


def _known(series: _Series) -> NDArray[np.float64]:
    return series[1][~np.isnan(series[1])]


def _line(ax: Axes, series: _Series, colour: str, name: str) -> None:
    if len(_known(series)):
        ax.plot(*series, color=colour, label=name, linewidth=1.6, marker=marker(len(series[0])), markersize=3)


def _spread(ax: Axes, records: Sequence[RoundRecord]) -> None:
    """The middle 80 % of the plants' held-out losses, where several plants told one."""
    bands = []
    for record in records:
        told = _told(record)
        if len(told) >= _SEVERAL and record.status is Status.COMMITTED:
            bands.append((record.number, *np.quantile(told, (0.1, 0.9))))
    if bands:
        rounds_R, low_R, high_R = np.array(bands).T
        ax.fill_between(rounds_R, low_R, high_R, color=ORANGE, alpha=0.15, linewidth=0)


def _told(record: RoundRecord) -> NDArray[np.float64]:
    """The held-out losses of a round's plants."""
    losses_P = drawable([p.metrics.get("holdout_loss", math.nan) for p in record.plants if p.accepted])
    return losses_P[~np.isnan(losses_P)]


def _scale(ax: Axes, known: NDArray[np.float64]) -> None:
    if known.min() > 0 and known.max() > _LOG * known.min():
        ax.set_yscale("log")
        plain_ticks(ax)
    elif known.min() >= 0:
        ax.set_ylim(bottom=0)
