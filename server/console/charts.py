"""Which curves a run's page has. Their figures come from the API (`static/charts.js`); a few are on the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from server.console import figures
from server.console.templating import path
from server.store.reading import Reader
from server.store.shown import RunPage, Series

FIRST = ("holdout_loss", "train_loss", "auprc", "false_alarms_per_day")
"""What is drawn first, where a run has it."""
MOST = 8
"""Charts of a page."""
NOT_DRAWN = frozenset({"calibrated", "own_model"})
"""What is yes or no, and told in calibrations only: their pages have it."""
LINES = 6
"""Plants that have a line each without being asked for."""
_ROWS, _POINTS = 12, 60
_EVERYBODY = "all plants"


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        id: of the element.
        title, unit, help: for people.
        lines: for the script: `label` and `url` of each curve.
        summary: the curve in a sentence.
        labels: columns of the table beside the chart.
        rows: a round's number and its figures.
        thinned: whether the table leaves rounds out.
    """

    id: str
    title: str
    unit: str
    help: str
    lines: tuple[dict[str, str], ...]
    summary: str
    labels: tuple[str, ...]
    rows: tuple[tuple[int, tuple[float | None, ...]], ...]
    thinned: bool


def charts_of(reader: Reader, run: RunPage, plants: Sequence[str], chosen: str | None) -> tuple[Chart, ...]:
    """The charts of a run.

    Args:
        reader: of the store.
        run: whose.
        plants: names of its plants.
        chosen: the plant whose curves are wanted beside those over all plants; None: of a few plants all.
    """
    known = (set(run.metrics) | set(run.plant_metrics)) - NOT_DRAWN
    named = [name for name in FIRST if name in known]
    named += sorted(name for name in known - set(FIRST) if len(name) <= figures.LONGEST)
    shown = (chosen,) if chosen is not None else tuple(plants) if len(plants) <= LINES else ()
    named = named[:MOST]
    told = {plant: reader.curves(run.info.name, named, plant, _POINTS) for plant in dict.fromkeys((None, chosen))}
    return tuple(_chart(run, name, shown, [curves[i] for curves in told.values()], i) for i, name in enumerate(named))


def _chart(run: RunPage, name: str, shown: Sequence[str], told: Sequence[Series], place: int) -> Chart:
    metric, owner = figures.metric(name), run.info.name
    overall = (None,) if name in run.metrics else ()
    lines: list[str | None] = [*overall, *(shown if name in run.plant_metrics else ())]
    series = [one for one in told if one.plant in lines]
    return Chart(
        f"chart-{place}",
        metric.title,
        metric.unit,
        metric.help,
        tuple({"label": label(plant), "url": _url(owner, name, plant)} for plant in lines),
        _summary(metric, series[0]) if series else f"{metric.title}: a curve for each plant.",
        tuple(label(one.plant) for one in series),
        _rows(series),
        run.info.rounds > _ROWS,
    )


def label(plant: str | None) -> str:
    """What a curve is called."""
    return _EVERYBODY if plant is None else figures.cut(plant, 40)


def _url(run: str, metric: str, plant: str | None) -> str:
    return path("api", "v1", "runs", run, "series", metric=metric, plant=plant, points=400)


def _rows(series: Sequence[Series]) -> tuple[tuple[int, tuple[float | None, ...]], ...]:
    by_round: list[dict[int, float | None]] = [dict(zip(one.numbers, one.values, strict=True)) for one in series]
    numbers = sorted({number for one in by_round for number in one}, reverse=True)
    rows = [(number, tuple(one.get(number) for one in by_round)) for number in numbers]
    told = [row for row in rows if any(value is not None for value in row[1])]
    return tuple(told[:: -(-len(told) // _ROWS)] if told else ())


def _summary(metric: figures.Metric, series: Series) -> str:
    told = [(n, v) for n, v in zip(series.numbers, series.values, strict=True) if v is not None]
    if not told:
        return f"{metric.title}: no figures yet."
    (first, a), (last, b) = told[0], told[-1]
    return (
        f"{metric.title} in {metric.unit}, over rounds {first} to {last}: from {figures.number(a)} "
        f"to {figures.number(b)}; lowest {figures.number(min(v for _, v in told))}."
    )
