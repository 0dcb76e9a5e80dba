"""Which curves a run's page has. Their figures come from the API (`static/charts.js`); a few are on the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from server.console import figures
from server.console.templating import path
from server.store.reading import Reader, RunPage, Series

FIRST = ("holdout_loss", "train_loss", "auprc", "false_alarms_per_day")
"""What is drawn first, where a run has it."""
MOST = 8
"""Charts of a page."""
LINES = 6
"""Plants that have a line each without being asked for."""
_ROWS = 12
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
    known = set(run.metrics) | set(run.plant_metrics)
    named = [name for name in FIRST if name in known]
    named += sorted(name for name in known - set(FIRST) if len(name) <= figures.LONGEST)
    shown = (chosen,) if chosen is not None else tuple(plants) if len(plants) <= LINES else ()
    return tuple(_chart(reader, run, name, shown, chosen, i) for i, name in enumerate(named[:MOST]))


def _chart(reader: Reader, run: RunPage, name: str, shown: Sequence[str], chosen: str | None, place: int) -> Chart:
    metric, owner = figures.metric(name), run.info.name
    overall = (None,) if name in run.metrics else ()
    told: list[str | None] = [*overall, *([chosen] if chosen is not None and name in run.plant_metrics else [])]
    lines: list[str | None] = [*overall, *(shown if name in run.plant_metrics else ())]
    series = [reader.series(owner, name, plant, _ROWS) for plant in told]
    return Chart(
        f"chart-{place}",
        metric.title,
        metric.unit,
        metric.help,
        tuple({"label": label(plant), "url": _url(owner, name, plant)} for plant in lines),
        _summary(metric, series[0]) if series else f"{metric.title}: a curve for each plant.",
        tuple(label(plant) for plant in told),
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
    return tuple((number, tuple(one.get(number) for one in by_round)) for number in numbers)


def _summary(metric: figures.Metric, series: Series) -> str:
    told = [(n, v) for n, v in zip(series.numbers, series.values, strict=True) if v is not None]
    if not told:
        return f"{metric.title}: no figures yet."
    (first, a), (last, b) = told[0], told[-1]
    return (
        f"{metric.title} in {metric.unit}, over rounds {first} to {last}: from {figures.number(a)} "
        f"to {figures.number(b)}; lowest {figures.number(min(v for _, v in told))}."
    )
