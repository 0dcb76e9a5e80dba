"""One HTML file with a site's tags over time: inline SVG, no script, nothing loaded. Every name is shown as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from server.report.folder import SHARED
from shared.disk import replace_file
from shared.metrics.events import spans
from shared.series import SiteData
from simulations.show.choose import Chosen, View, stretches, tag_columns
from simulations.show.envelope import HEIGHT, WIDTH, Axis, Curve, axis, borders, curve, shades

_HERE = Path(__file__).parent
_BUCKETS = 240_000  # over all tags, about 10 bytes each: bounds the size of the page
_MOST_TAGS = 600
_EVENTS, _BORDERS, _FOLDED = 200, 300, 2_000
_TICKS = 6


@dataclass(frozen=True)
class Panel:
    """One tag and its drawing."""

    tag: str
    curve: Curve

    @property
    def low(self) -> str:
        """Smallest reading."""
        return f"{self.curve.low:.5g}"

    @property
    def high(self) -> str:
        """Largest reading."""
        return f"{self.curve.high:.5g}"


def write_page(path: Path, chosen: Chosen, view: View) -> int:
    """Draw a site, atomically; an existing page is replaced.

    Returns:
        How many tags were drawn.

    Raises:
        InvalidConfig: the rows asked for are not there.
        UnknownName: the site has no such tag.
        OSError: the file cannot be written.
    """
    along = axis(stretches(chosen.site, view))
    columns = tag_columns(chosen.site, view.tags)
    panels = _panels(chosen.site, columns[:_MOST_TAGS], along)
    page = _page(chosen, view, along, panels) | {"left_out": max(0, len(columns) - _MOST_TAGS)}
    html = _environment().get_template("show.html.j2").render(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, html.encode("utf-8", "replace"))
    return sum(1 for panel in panels if panel.curve.path)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader([_HERE, SHARED]),  # the report's style sheet serves here too
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _panels(site: SiteData, columns: tuple[int, ...], along: Axis) -> tuple[Panel, ...]:
    most = min(WIDTH, max(100, _BUCKETS // max(1, len(columns))))
    return tuple(Panel(site.schema.tags[at], curve(site, at, along, most)) for at in columns)


def _page(chosen: Chosen, view: View, along: Axis, panels: tuple[Panel, ...]) -> dict[str, Any]:
    site, marks = chosen.site, borders(chosen.site, along)
    constant = [panel for panel in panels if panel.curve.constant]
    empty = [panel.tag for panel in panels if panel.curve.empty]
    return {
        "site": site,
        "dataset": chosen.dataset,
        "others": chosen.others[:_FOLDED],
        "facts": tuple(_facts(site)),
        "width": WIDTH,
        "height": HEIGHT,
        "parts": tuple(_parts(along)),
        "ticks": tuple(_ticks(along)),
        "divide": along.pixels[1:-1],
        "shades": shades(site, along),
        "borders": marks[:_BORDERS],
        "borders_left": max(0, len(marks) - _BORDERS),
        "panels": [panel for panel in panels if panel.curve.path],
        "constant": constant[:_FOLDED],
        "empty": empty[:_FOLDED],
        "events": tuple(_events(site)),
        "part": view.part,
    }


def _facts(site: SiteData) -> Iterator[tuple[str, str]]:
    yield "Training rows", f"{len(site.train_TD):,}"
    yield "Test rows", f"{len(site.test_TD):,}"
    labels_T = site.labels_T
    if labels_T is None:
        yield "Labels", "none"
    else:
        count = int(np.count_nonzero(labels_T))
        yield "Labelled rows", f"{count:,} ({count / max(1, len(labels_T)):.2%})"
    yield "One row every", f"{site.schema.period_s:g} s"
    yield "Recordings", f"{len(site.train_starts)} training, {len(site.test_starts) if len(site.test_TD) else 0} test"
    if site.group:
        yield "Group", site.group


def _parts(along: Axis) -> Iterator[dict[str, Any]]:
    words = {"train": "training", "test": "test"}
    for at, stretch in enumerate(along.stretches):
        left, right = along.pixels[at], along.pixels[at + 1]
        told = f"{words[stretch.part]}: rows {stretch.first:,} to {stretch.end - 1:,}"
        yield {"left": 100 * left / WIDTH, "wide": 100 * (right - left) / WIDTH, "text": told}


def _ticks(along: Axis) -> Iterator[dict[str, Any]]:
    """Row numbers of each part along the axis, more where it is wide."""
    for at, stretch in enumerate(along.stretches):
        wide = (along.pixels[at + 1] - along.pixels[at]) / WIDTH
        for row in np.linspace(0, stretch.rows, max(2, round(_TICKS * wide)) + 1)[:-1].astype(np.int64):
            x = int(along.x(at, np.array([row]))[0])
            yield {"left": 100 * x / WIDTH, "text": f"{int(row) + stretch.first:,}"}


def _events(site: SiteData) -> Iterator[tuple[str, str, str]]:
    """Labelled events by test rows: first, last, how many."""
    if site.labels_T is not None:
        for first, end in spans(site.labels_T, site.test_starts)[:_EVENTS]:
            yield f"{first:,}", f"{end - 1:,}", f"{end - first:,}"
