"""The axis that the figures of a run share: rounds, with the phases behind them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from server.report.canvas import BAND, MUTED, RED, WIDTH_IN
from server.rounds import Phase, RoundRecord, Status

_LETTER = 5.2  # points
_MARKED = 80  # points of a line; more of them need no dots


def marker(points: int) -> str:
    """Dots for a line of a few points."""
    return "o" if points <= _MARKED else ""


def dress(axes: Sequence[Axes], records: Sequence[RoundRecord]) -> None:
    """Phase bands, marks for rounds that did not commit, and whole numbers along the rounds."""
    first, last = records[0].number - 0.5, records[-1].number + 0.5
    for ax in axes:
        ax.set_xlim(first, last)
        ax.grid(visible=False, axis="x")
        for i, (_, start, end) in enumerate(_spans(records)):
            if i % 2:
                ax.axvspan(start, end, color=BAND, zorder=-2, linewidth=0)
        for record in records:
            if record.status is not Status.COMMITTED:
                ax.axvline(record.number, color=RED, linewidth=1, linestyle=":")
    for phase, start, end in _spans(records):
        if (end - start) / (last - first) * WIDTH_IN * 72 > _LETTER * len(phase):
            place = axes[0].get_xaxis_transform()
            axes[0].text((start + end) / 2, 1.02, phase, transform=place, ha="center", color=MUTED, fontsize=8)
    axes[-1].set_xlabel("round")
    axes[-1].xaxis.set_major_locator(MaxNLocator(20, integer=True))


def _spans(records: Sequence[RoundRecord]) -> list[tuple[Phase, float, float]]:
    """Phases with the rounds they span."""
    runs = [(phase, list(run)) for phase, run in groupby(records, lambda record: record.phase)]
    return [(phase, run[0].number - 0.5, run[-1].number + 0.5) for phase, run in runs]
