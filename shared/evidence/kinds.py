"""What kind of signal each tag carries, told from normal rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.lag.sums import Values
from shared.series import BoolArray

LEVELS = 8  # values that a tag takes at least if it measures rather than tells a state


@dataclass(frozen=True, eq=False)
class Kinds:
    """The tags of a plant by what they did on normal rows.

    Attributes:
        analogue_D: bool (D,), tags that took `LEVELS` values or more.
        coded_D: bool (D,), tags that moved between fewer: valves, pumps, commands.
        still_D: bool (D,), tags that never moved.
    """

    analogue_D: BoolArray
    coded_D: BoolArray
    still_D: BoolArray

    @property
    def shaped_D(self) -> BoolArray:  # noqa: N802 (a shape suffix)
        """Tags whose course has a shape to be known by: all but the coded ones."""
        return ~self.coded_D


def kinds_of(rows_TD: Values) -> Kinds:
    """Tell the tags apart.

    Args:
        rows_TD: (T, D), normal, prepared; T >= 1.

    Example:
        >>> t = np.arange(20.0)
        >>> found = kinds_of(np.stack([np.sin(t), t % 2, 0 * t], axis=1))
        >>> found.analogue_D.tolist(), found.coded_D.tolist(), found.still_D.tolist()
        ([True, False, False], [False, True, False], [False, False, True])
    """
    levels_D = np.array([_levels(column_T) for column_T in rows_TD.T])
    return Kinds(levels_D >= LEVELS, (levels_D > 1) & (levels_D < LEVELS), levels_D == 1)


def _levels(column_T: Values) -> int:
    """Number of different values, `LEVELS` at most."""
    if len(np.unique(column_T[:: max(1, len(column_T) // 256)])) >= LEVELS:
        return LEVELS
    return min(len(np.unique(column_T)), LEVELS)
