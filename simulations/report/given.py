"""The report's table of what each site got."""

from __future__ import annotations

from server.report.table import Cell, Column, Table
from simulations.given import UNCOMPARED, Given, Shares
from simulations.report.words import DASH, duration, number, percent

_COLUMNS = (
    Column("Site", "short"),
    Column("Training", group="Rows"),
    Column("Test", group="Rows"),
    Column("Time"),
    Column("Training", group="Recordings"),
    Column("Test", group="Recordings"),
    Column("Labelled", group="Test data"),
    Column("Events", group="Test data"),
    Column("All", group="Tags"),
    Column("Constant", group="Tags"),
    Column("Unknown", group="Tags"),
    Column("Unlikeness"),
    Column("Nearest", "short"),
)


def given_table(given: Shares) -> Table:
    """One line a site, and the mean of their unlikeness."""
    rows = tuple(_row(row) for row in given.sites)
    foot = (Cell("All sites"), *(Cell(text) for text in _totals(given)), Cell(number(given.unlikeness, 2)), Cell(DASH))
    return Table("What each site got", _COLUMNS, rows, foot)


def given_words(given: Shares) -> str:
    """How to read it."""
    if given.unlikeness is None:
        return UNCOMPARED
    return (
        "Unlikeness: how far a site’s training readings lie from those of the other sites together, in standard "
        "deviations (1-Wasserstein distance of each tag, mean over the tags that move). 0 is alike, 1 is as far as "
        "a tag spreads anyway. Nearest: the site that is least unlike."
    )


def _row(row: Given) -> tuple[Cell, ...]:
    counts = (row.train_recordings, row.test_recordings)
    return (
        Cell(row.site),
        Cell(f"{row.train_rows:,}"),
        Cell(f"{row.test_rows:,}"),
        Cell(duration(row.hours * 3600)),
        *(Cell(f"{count:,}") for count in counts),
        Cell(percent(row.labelled_share)),
        Cell(DASH if row.events is None else f"{row.events:,}"),
        *(Cell(f"{count:,}") for count in (row.tags, row.constant_tags, row.unknown_tags)),
        Cell(number(row.unlikeness, 2)),
        Cell(row.nearest or DASH),
    )


def _totals(given: Shares) -> tuple[str, ...]:
    sites = given.sites
    return (
        f"{sum(row.train_rows for row in sites):,}",
        f"{sum(row.test_rows for row in sites):,}",
        duration(3600 * sum(row.hours for row in sites)),
        f"{sum(row.train_recordings for row in sites):,}",
        f"{sum(row.test_recordings for row in sites):,}",
        DASH,
        f"{sum(row.events or 0 for row in sites):,}",
        *(DASH,) * 3,
    )
