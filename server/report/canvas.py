"""From a matplotlib figure to inline SVG whose colours follow the page, with nothing in it that points outside.

matplotlib's global state (pyplot) is not touched: figures are made by hand and saved by their own canvas.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import ArrayLike, NDArray

WIDTH_IN = 12.5  # 900 points: one unit of the drawing is about a pixel on screen
_HUGE = 1e30

# Each stands for a colour of the page (style.css), which has a light and a dark value.
INK, MUTED, GRID, BAND = "#1c2431", "#566071", "#d5dbe4", "#eef2f8"
BLUE, ORANGE, RED, PURPLE, EVENT = "#1f5fc0", "#b4530a", "#b91c1d", "#7c3aee", "#f6c79c"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    BAND: "band",
    BLUE: "blue",
    ORANGE: "orange",
    RED: "red",
    PURPLE: "purple",
    EVENT: "event",
}
# Paul Tol's bright scheme and two more: told apart by colour-blind eyes, visible on light and on dark.
CLUSTERS = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#bbbbbb",
    "#ee8866",
    "#44bb99",
    "#99aa22",
)

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
}


@dataclass(frozen=True)
class Drawing:
    """Inline SVG with its words.

    Attributes:
        svg: what stands inside the `<svg>` element.
        view_box: its coordinates.
        alt: what it shows, for those who do not see it.
        caption: how to read it.
    """

    svg: Markup
    view_box: str
    alt: str
    caption: str


@contextmanager
def house_style() -> Iterator[None]:
    """Figures made in here look like the page."""
    with matplotlib.rc_context(_STYLE):
        yield


def panels(
    height_in: float, ratios: tuple[float, ...], layout: Literal["constrained"] | None = "constrained"
) -> tuple[Figure, list[Axes]]:
    """A figure with panels under each other that share the horizontal axis."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout=layout)
    grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})
    return figure, list(grid[:, 0])


def plain_ticks(ax: Axes) -> None:
    """Plain numbers along a logarithmic axis: matplotlib would set powers as formulas, which are switched off here."""
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def drawable(values: ArrayLike) -> NDArray[np.float64]:
    """Values that can be drawn, float64: infinities and what is nearly one are cut, NaN stays a gap."""
    return np.clip(np.asarray(values, np.float64), -_HUGE, _HUGE)


def label(text: str) -> str:
    """A name as a figure can carry it: short, in letters that the font has."""
    kept = "".join(
        letter if letter.isprintable() else "?" for letter in text.encode("latin-1", "replace").decode("latin-1")
    )
    return kept if len(kept) <= 24 else kept[:23] + "~"


def finish(figure: Figure, name: str, alt: str, caption: str) -> Drawing:
    """Draw a figure as SVG and strip what a page has no use for. `name` keeps its ids apart from other figures'."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    head = re.search(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', text)
    if head is None:
        raise RuntimeError("matplotlib wrote an SVG without a viewBox")
    return Drawing(Markup(_stripped(text[head.end() : text.rindex("</svg>")])), head[1], alt, caption)  # noqa: S704


def _stripped(svg: str) -> str:
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    kept = {name for pair in used for name in pair}
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in kept else "", svg)
    svg = svg.replace("xlink:href=", "href=").replace("'DejaVu Sans'", "inherit")
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]).replace("\n", ""), svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()
