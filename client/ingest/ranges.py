"""`ranges.csv`: operating ranges that an operator knows, one tag a line; never read off the data.

    tag,low,high
    LIT101,490,820

What a tag shows in normal operation, not what its instrument can show: twice the width is half the sensitivity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from client.ingest.files import read_text
from shared.errors import DataUnreadable
from shared.schema import SensorSchema
from shared.series import Ranges, SiteData

RANGES = "ranges.csv"
COLUMNS = ("tag", "low", "high")


def read_ranges(path: Path, schema: SensorSchema) -> Ranges:
    """The ranges of a schema's tags; None for a tag that the file does not name.

    Raises:
        DataNotFound: there is no such file.
        DataUnreadable: a tag is unknown, missing or named twice, or its range is not two numbers that rise.
    """
    found: dict[str, tuple[float, float]] = {}
    for line, cells in _rows(path):
        tag = cells["tag"]
        if tag not in schema.tags:
            raise DataUnreadable(f"{path}, line {line}: the data has no tag {tag!r}.")
        if tag in found:
            raise DataUnreadable(f"{path}, line {line}: the tag {tag!r} occurs twice.")
        low, high = (_number(path, line, cells[name]) for name in COLUMNS[1:])
        if not low < high:
            raise DataUnreadable(f"{path}, line {line}: the range of {tag} goes from {low:g} to {high:g}.")
        found[tag] = (low, high)
    return tuple(found.get(tag) for tag in schema.tags)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of each line and its cells by column. Not by polars, whose import takes SIGINT from an agent."""
    lines = read_text(path).rstrip("\n").split("\n")
    header = [name.strip() for name in lines[0].split(",")]
    if sorted(header) != sorted(COLUMNS):
        raise DataUnreadable(f"{path}, line 1: the columns are {lines[0][:80]!r}, due are {', '.join(COLUMNS)}.")
    if len(lines) < 2:
        raise DataUnreadable(f"{path} has a header but no rows.")
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(header):
            raise DataUnreadable(f"{path}, line {number}: {len(cells)} fields where the header has {len(header)}.")
        yield number, dict(zip(header, cells, strict=True))


def _number(path: Path, line: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError as error:
        raise DataUnreadable(f"{path}, line {line}: {cell[:40]!r} is not a number.") from error
    if not math.isfinite(value):
        raise DataUnreadable(f"{path}, line {line}: {cell[:40]!r} is no bound of a range.")
    return value


def with_ranges(site: SiteData, path: Path) -> SiteData:
    """A site with the operator's ranges; where the file has none for a tag, what was published stays.

    Raises:
        DataNotFound, DataUnreadable: as `read_ranges`.
    """
    published = site.ranges or (None,) * site.schema.dim
    own = read_ranges(path, site.schema)
    return replace(site, ranges=tuple(mine or theirs for mine, theirs in zip(own, published, strict=True)))
