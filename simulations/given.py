"""What each site of a federation got: rows, time, labels, events, and how unlike the others it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from shared.metrics.events import spans
from shared.series import FloatArray, SiteData
from simulations.unlike import unlikeness

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN = 60  # sites that the console shows; all of them are in run.json and in the report
UNCOMPARED = "The sites cannot be compared: no two of them have readings of the same tag."
_BLOCK = 20_000


class Given(BaseModel):
    """One site's part.

    Attributes:
        site, group: its name and subsystem, stage or machine.
        train_rows, test_rows: rows.
        hours: of training and test data together, at the nominal sampling period.
        train_recordings, test_recordings: unbroken stretches that windows stay inside.
        labelled_share: share of the test rows that are labelled anomalous; None without labels.
        events: labelled events in the test data; None without labels.
        tags: columns.
        constant_tags: columns that never change in training.
        unknown_tags: columns without any training reading.
        unlikeness: distance to the other sites together (`simulations.unlike`); None where nothing can be compared.
        nearest: the site that is least unlike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    site: str
    group: str
    train_rows: int
    test_rows: int
    hours: float
    train_recordings: int
    test_recordings: int
    labelled_share: float | None
    events: int | None
    tags: int
    constant_tags: int
    unknown_tags: int
    unlikeness: float | None
    nearest: str | None


class Shares(BaseModel):
    """What every site got, and the mean of their unlikeness."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sites: tuple[Given, ...]
    unlikeness: float | None


def shares(sites: Sequence[SiteData]) -> Shares:
    """Count what each site has, and compare them; bounded in time for any number of rows."""
    unlike = unlikeness(sites)
    nearest = [None if at is None else sites[at].name for at in unlike.nearest]
    rows = tuple(_given(*parts) for parts in zip(sites, unlike.apart, nearest, strict=True))
    return Shares(sites=rows, unlikeness=_finite(unlike.overall))


def _given(site: SiteData, apart: float, nearest: str | None) -> Given:
    labels_T = site.labels_T if len(site.test_TD) else None
    constant, unknown = _still(site.train_TD)
    return Given(
        site=site.name,
        group=site.group,
        train_rows=len(site.train_TD),
        test_rows=len(site.test_TD),
        hours=(len(site.train_TD) + len(site.test_TD)) * site.schema.period_s / 3600,
        train_recordings=len(site.train_starts) if len(site.train_TD) else 0,
        test_recordings=len(site.test_starts) if len(site.test_TD) else 0,
        labelled_share=None if labels_T is None else float(np.mean(labels_T)),
        events=None if labels_T is None else len(spans(labels_T, site.test_starts)),
        tags=site.schema.dim,
        constant_tags=constant,
        unknown_tags=unknown,
        unlikeness=_finite(apart),
        nearest=nearest,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _still(values_TD: FloatArray) -> tuple[int, int]:
    """How many columns hold one value only, and how many hold none; a column that moved is not looked at again."""
    left_D = np.arange(values_TD.shape[1])
    held_D = np.full(values_TD.shape[1], np.nan, np.float32)
    for first in range(0, len(values_TD), _BLOCK):
        block_TL = values_TD[first : first + _BLOCK][:, left_D]
        known_TL = np.isfinite(block_TL)
        begin_L = np.take_along_axis(block_TL, known_TL.argmax(axis=0)[None], axis=0)[0]
        value_L = np.where(np.isnan(held_D[left_D]) & known_TL.any(axis=0), begin_L, held_D[left_D])
        same_L = ((block_TL == value_L) | ~known_TL).all(axis=0)
        held_D[left_D] = value_L
        left_D = left_D[same_L]
    unknown = int(np.isnan(held_D[left_D]).sum())
    return len(left_D) - unknown, unknown


def print_shares(console: Console, given: Shares) -> None:
    """Print the table, as `crossplant simulate` does before it trains."""
    console.print(_table(given))
    for line in _caption(given):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print()


def _table(given: Shares) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    title = "What each site got"
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        title=title,
        title_justify="left",
    )
    table.add_column("site", no_wrap=True)
    for name in ("train", "test", "hours", "recs", "label%", "events", "still", "unlike"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("nearest", overflow="fold")
    for row in given.sites[:SHOWN]:
        table.add_row(*map(escape, _cells(row)))
    return table


def _cells(row: Given) -> tuple[str, ...]:
    return (
        row.site,
        f"{row.train_rows:,}",
        f"{row.test_rows:,}",
        f"{row.hours:.3g}" if row.hours < 100 else f"{row.hours:,.0f}",
        f"{row.train_recordings}+{row.test_recordings}",
        "-" if row.labelled_share is None else f"{100 * row.labelled_share:.1f}",
        "-" if row.events is None else str(row.events),
        f"{row.constant_tags + row.unknown_tags}/{row.tags}",
        "-" if row.unlikeness is None else f"{row.unlikeness:.2f}",
        row.nearest or "-",
    )


def _caption(given: Shares) -> list[str]:
    lines = [
        "recs: recordings of training and test.",
        "still: tags that are constant, or unknown, in training.",
        "unlike: mean over tags of how far the site's training readings lie from the",
        "  others', in sd.",
        UNCOMPARED if given.unlikeness is None else f"Mean unlikeness of the sites: {given.unlikeness:.2f}",
    ]
    if len(given.sites) > SHOWN:
        lines.append(f"{len(given.sites) - SHOWN} more sites are not shown.")
    return lines
