"""Rows of a site as readings with times, so that a scorer can be tried on data that a run already has."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from client.ingest.folder import read_site
from shared.series import FloatArray, SiteData
from simulations.show.choose import Stretch, View, find_site, stretches

START = datetime(2026, 1, 1, tzinfo=UTC)
PAUSE = 20  # periods between two recordings: a scorer takes more than 10 as a gap

Row = tuple[str, FloatArray]
Form = Callable[[tuple[str, ...], Iterator[Row]], Iterator[str]]


def plant(path: Path, dataset: str | None, name: str | None) -> SiteData:
    """The site at a path: a plant's folder of a run (`OUT/plants/NAME`), or one site of a data set.

    Raises:
        CrossplantError: as `client.ingest.folder.read_site` and `simulations.show.choose.find_site` do.
    """
    stored = dataset is None and name is None and (path / "site.json").is_file()
    return read_site(path) if stored else find_site(path, dataset, name).site


def rows(site: SiteData, view: View, begin: datetime = START) -> Iterator[Row]:
    """Each row with its time in ISO 8601, UTC; rows are a period apart, recordings `PAUSE` periods.

    Raises:
        InvalidConfig: the rows asked for are not there.
    """
    at = begin
    step = timedelta(seconds=site.schema.period_s)
    for number, one in enumerate(stretches(site, view)):
        values_TD, starts = _part(site, one)
        for row in range(one.first, one.end):
            pause = PAUSE if row in starts and (number or row > one.first) else 0
            at += step * pause
            yield at.isoformat().replace("+00:00", "Z"), values_TD[row]
            at += step


def _part(site: SiteData, one: Stretch) -> tuple[FloatArray, frozenset[int]]:
    train = one.part == "train"
    return (site.train_TD, frozenset(site.train_starts)) if train else (site.test_TD, frozenset(site.test_starts))


def as_csv(tags: tuple[str, ...], found: Iterator[Row]) -> Iterator[str]:
    """CSV as `crossplant client score` reads it: `time` and the tags; an empty cell is a missing reading."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["time", *tags])
    for at, values_D in found:
        writer.writerow([at, *("" if np.isnan(value) else str(value) for value in values_D)])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def as_lines(tags: tuple[str, ...], found: Iterator[Row]) -> Iterator[str]:
    r"""JSON lines as `--source -` reads them; `null` is a missing reading.

    Example:
        >>> next(as_lines(("LIT101",), iter([("2026-01-01T00:00:00Z", np.float32([1.5]))])))
        '{"time": "2026-01-01T00:00:00Z", "values": {"LIT101": 1.5}}\n'
    """
    for at, values_D in found:
        cells = [None if np.isnan(value) else float(str(value)) for value in values_D]
        yield json.dumps({"time": at, "values": dict(zip(tags, cells, strict=True))}) + "\n"
