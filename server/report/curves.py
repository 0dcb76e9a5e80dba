"""The report's pictures: each as inline SVG, and as PNG for a presentation."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from server.console.figures import metric, number
from server.report.canvas import (
    BLUE,
    CLUSTERS,
    GRID,
    INK,
    MUTED,
    ORANGE,
    Drawing,
    drawable,
    finish,
    house_style,
    label,
    panels,
    plain_ticks,
)
from server.report.material import Material
from server.store.reading import RoundLine, Series

_LOG = 20.0  # ratio of the largest to the smallest value from which a logarithmic axis is clearer
_LINES = len(CLUSTERS)  # plants with a colour of their own
_MARKED = 80  # points of a line; more of them need no dots
_DPI = 144


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: of its PNG file, without the ending.
        title: its heading.
        drawing: for the page.
        png: for everything else, on white.
    """

    name: str
    title: str
    drawing: Drawing
    png: bytes


def pictures(material: Material) -> tuple[Picture, ...]:
    """All that there is something to draw for."""
    with house_style():
        return tuple(_pictures(material))


def _pictures(material: Material) -> Iterator[Picture]:
    losses = [material.curves[name] for name in ("holdout_loss", "train_loss") if name in material.curves]
    if any(_known(series) for series in losses):
        yield _losses(losses)
    told = {plant: series for plant, series in material.losses.items() if len(_known(series)) > 1}
    if told:
        yield _plants(told)
    for name, colour in (("auprc", BLUE), ("false_alarms_per_day", ORANGE)):
        if name in material.curves and _known(material.curves[name]):
            yield _one(material.curves[name], colour)
    if material.rounds:
        yield _participation(material.rounds)


def _losses(losses: Sequence[Series]) -> Picture:
    figure, (ax,) = panels(3.2, (1.0,))
    words = {"holdout_loss": "held-out normal data", "train_loss": "training"}
    for series, colour in zip(losses, (ORANGE, BLUE), strict=False):
        _line(ax, series, colour, words[series.metric])
    _dress(ax, "loss", [value for series in losses for value in _known(series)])
    ax.legend(loc="best")
    alt = f"Line chart: {'; '.join(f'{words[s.metric]} {_course(s)}' for s in losses if _known(s))}."
    caption = (
        "Mean over the plants, in units of each plant's scaled readings. Lower is better. Held-out data is normal data "
        "that plants keep out of training; it tells of the model that the round began with."
    )
    return _picture(figure, "loss", "How well the model fits all plants", alt, caption)


def _plants(losses: Mapping[str, Series]) -> Picture:
    figure, (ax,) = panels(3.6, (1.0,))
    order = sorted(losses, key=lambda plant: _known(losses[plant])[-1], reverse=True)
    for position, plant in enumerate(order):
        named = position < _LINES
        look = (CLUSTERS[position], label(plant), 1.4) if named else (GRID, "", 0.8)
        _line(ax, losses[plant], *look, above=named)
    _dress(ax, "loss on held-out\nnormal data", [value for series in losses.values() for value in _known(series)])
    figure.legend(loc="outside right upper")
    told = "; ".join(f"{label(plant)} {_course(losses[plant])}" for plant in order[:_LINES])
    rest = f" The {len(order) - _LINES:,} others are thin and grey." if len(order) > _LINES else ""
    caption = f"Each plant on its own held-out normal data, those that are fitted worst first.{rest} Lower is better."
    return _picture(
        figure, "plants", "How well it fits each plant", f"Line chart of each plant's loss: {told}.", caption
    )


def _one(series: Series, colour: str) -> Picture:
    about = metric(series.metric)
    figure, (ax,) = panels(2.6, (1.0,))
    _line(ax, series, colour, about.title)
    _dress(ax, about.unit, _known(series))
    caption = f"Mean over the plants that measured it. {about.better.capitalize()} is better."
    return _picture(figure, series.metric, about.title, f"Line chart: {about.title} {_course(series)}.", caption)


def _participation(rounds: Sequence[RoundLine]) -> Picture:
    figure, (ax,) = panels(2.6, (1.0,))
    numbers = [line.number for line in rounds]
    ax.step(numbers, [line.asked for line in rounds], where="mid", color=MUTED, label="asked", linewidth=1.2)
    ax.step(numbers, [line.accepted for line in rounds], where="mid", color=BLUE, label="counted", linewidth=1.6)
    _dress(ax, "plants", [0.0])
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="best")
    asked, counted = sum(line.asked for line in rounds), sum(line.accepted for line in rounds)
    alt = f"Step chart of {len(rounds):,} rounds: {asked:,} replies asked for, {counted:,} counted."
    caption = f"Plants that a round asked, and those whose reply counted; the newest {len(rounds):,} rounds."
    return _picture(figure, "participation", "Who was there", alt, caption)


def _line(ax: Axes, series: Series, colour: str, name: str, width: float = 1.6, above: bool = True) -> None:
    values = drawable([np.nan if value is None else value for value in series.values])
    known = ~np.isnan(values)
    dots = "o" if int(known.sum()) <= _MARKED else ""
    numbers = np.asarray(series.numbers)[known]
    style: dict[str, Any] = {"linewidth": width, "marker": dots, "markersize": 3, "zorder": 3 if above else 2}
    ax.plot(numbers, values[known], color=colour, label=name or None, **style)


def _dress(ax: Axes, unit: str, known: Sequence[float]) -> None:
    ax.set_ylabel(unit, color=INK)
    ax.set_xlabel("round")
    ax.xaxis.set_major_locator(MaxNLocator(20, integer=True))
    ax.grid(visible=False, axis="x")
    if known and min(known) > 0 and max(known) > _LOG * min(known):
        ax.set_yscale("log")
        plain_ticks(ax)
    elif known and min(known) >= 0:
        ax.set_ylim(bottom=0)


def _known(series: Series) -> list[float]:
    return [value for value in series.values if value is not None]


def _course(series: Series) -> str:
    known = _known(series)
    return f"from {number(known[0])} to {number(known[-1])}"


def _picture(figure: Figure, name: str, title: str, alt: str, caption: str) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return Picture(name, title, finish(figure, name, alt, caption), buffer.getvalue())
