"""Rolling standardisation: each value relative to the mean and spread of its column over the last n rows, its own too.

    z_t = (u_t - mean(u_{t-n+1..t})) / (sd(u_{t-n+1..t}) + EPSILON),    u = (x - centre) / scale of the training data

It knows no future. The first rows of a recording make do with what there is; the very first is 0. EPSILON, in training
standard deviations, keeps the noise of a resting sensor from becoming a signal.

The window's sums are those of two parts: the running sum since the last multiple of n, and the sum of what the window
still holds of the n rows before that (van Herk 1992, Gil and Werman 1993, for minima). Nothing is ever subtracted
from a sum, so no error builds up and a wild reading leaves no trace once it has left the window; shifting by the
fitted centre keeps `mean(u^2) - mean(u)^2` from cancelling. In batch
and in a stream numbers are added in the same order: the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.artefact import Artefact
from shared.preprocess.blocks import CELLS
from shared.series import FloatArray

EPSILON = 0.01
MOST_ROWS = 100_000

Floats = NDArray[np.float64]


class Rolling(Artefact, frozen=True, kw_only=True):
    """A fitted rolling standardisation.

    Attributes:
        rows: length of the window, n.
        shift, scale: centre and unit of each column, of the raw training data; `scale` is never 0.
        first: what a gap at the start of a live recording takes, in raw units.
    """

    rows: Annotated[int, Meta(ge=2, le=MOST_ROWS)]
    shift: tuple[float, ...]
    scale: tuple[Annotated[float, Meta(gt=0)], ...]
    first: tuple[float, ...]

    def check(self) -> None:
        if not len(self.shift) == len(self.scale) == len(self.first):
            raise ValueError("shift, scale and first must have one number a column each")


def roll(values_TD: FloatArray, starts: tuple[int, ...], rolling: Rolling) -> None:
    """Standardise in place.

    Args:
        values_TD: float32 (T, D) without gaps, written into.
        starts: rows at which recordings begin.
        rolling: window and units.
    """
    width = max(1, CELLS // rolling.rows)
    for first in range(0, values_TD.shape[1], width):
        columns = slice(first, first + width)
        shift_D, scale_D = (np.asarray(part[columns]) for part in (rolling.shift, rolling.scale))
        for begin, end in zip(starts, [*starts[1:], len(values_TD)], strict=True):
            _roll_recording(values_TD[begin:end, columns], shift_D, scale_D, rolling.rows)


def _roll_recording(values_TD: FloatArray, shift_D: Floats, scale_D: Floats, rows: int) -> None:
    width = values_TD.shape[1]
    before = np.zeros(
        (2, rows + 1, width)
    )  # sums over the end of the block before, from each row on; then their squares
    count_n = np.arange(1.0, rows + 1)[:, None]
    for piece in _pieces(len(values_TD), rows, width):
        block_TD = values_TD[piece]
        units_BnD = _blocks(to_units(block_TD, shift_D, scale_D), rows)
        sums = np.stack([units_BnD, units_BnD * units_BnD])
        tails = np.zeros((2, len(units_BnD) + 1, rows + 1, width))
        tails[:, 0] = before
        np.add.accumulate(sums[:, :, ::-1], axis=2, out=tails[:, 1:, -2::-1])
        totals = np.add.accumulate(sums, axis=2)
        np.add(tails[:, :-1, 1:], totals, out=totals)
        size = np.full((len(units_BnD), rows, 1), float(rows))
        if piece.start == 0:
            size[0] = count_n
        z_BnD = standardised(units_BnD, totals[0], totals[1], size)
        block_TD[:] = z_BnD.reshape(-1, width)[: len(block_TD)]
        before = tails[:, -1]


def _pieces(total: int, rows: int, width: int) -> Iterator[slice]:
    """Whole blocks of `rows` rows, a few at a time."""
    height = rows * max(1, CELLS // (rows * width))
    return (slice(first, min(first + height, total)) for first in range(0, total, height))


def _blocks(units_TD: Floats, rows: int) -> Floats:
    """(T, D) to (B, n, D); what lacks at the end is 0 and comes after everything that is used."""
    blocks = -(-len(units_TD) // rows)
    padded_TD = np.zeros((blocks * rows, units_TD.shape[1]))
    padded_TD[: len(units_TD)] = units_TD
    return padded_TD.reshape(blocks, rows, -1)


def to_units(values: FloatArray, shift_D: Floats, scale_D: Floats) -> Floats:
    """Raw values in training standard deviations, float64."""
    return (values.astype(np.float64) - shift_D) / scale_D


def standardised(units: Floats, total: Floats, squares: Floats, size: Floats | float) -> Floats:
    """`(u - mean) / (sd + EPSILON)` from the window's sums and its number of rows."""
    mean, spread = _moments(total, squares, size)
    return (units - mean) / spread


def unstandardised(z: NDArray[np.floating], total: Floats, squares: Floats, size: Floats | float) -> Floats:
    """Undo `standardised`, with the sums of the same window."""
    mean, spread = _moments(total, squares, size)
    return z * spread + mean


def _moments(total: Floats, squares: Floats, size: Floats | float) -> tuple[Floats, Floats]:
    """Mean, and standard deviation plus EPSILON."""
    mean = total / size
    variance = np.maximum(squares / size - mean * mean, 0.0)
    return mean, np.sqrt(variance) + EPSILON
