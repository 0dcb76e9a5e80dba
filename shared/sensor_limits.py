"""What a sensor does when it is healthy, learnt from normal raw rows: its range, fastest change and longest rest.

A faulty sensor is told apart from a plant in trouble by what no process does. So every limit here lies well beyond
what normal data shows, and a tag that gives no ground for one is not judged by it: a pump that never ran in the
normal data is no stuck sensor. Shapes: T rows, D tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from msgspec import Meta

from shared.artefact import Artefact
from shared.errors import SchemaMismatch, TooFewRows
from shared.preprocess.blocks import columns
from shared.schema import SensorSchema
from shared.scoring import Float64Array
from shared.series import FloatArray

NEVER = 3e38  # a limit that no float32 passes: the tag is not judged by it

_STATES = 8  # a tag of at most so many different values shows states: it has neither noise nor speed
_BEYOND = 1.0  # of the normal range, on either side: what is farther off is no reading
_FASTER = 5.0  # than the fastest normal change
_RESTS = 3.0  # longer than the longest normal rest
_FEWEST_ROWS = 30  # a shorter rest says nothing
_LEAST_RESTS = 20  # times that the longest rest must fit into the data to be believed
_LOUDER = 1.5  # than the fastest normal change: several of these in a block are noise
_QUIETER = 0.2  # of the quietest normal block
_FOR_EVER = 2**31 - 1  # rows
BLOCK = 60  # rows over which noise and flatness are looked at

Numbers = tuple[float, ...]
Rows = tuple[Annotated[int, Meta(ge=1)], ...]


class SensorLimits(Artefact, frozen=True, kw_only=True):
    """Limits of D tags, in their units. What is `NEVER` (or `-NEVER`, 0 for `quiet`) does not apply.

    Attributes:
        tags: names, (D,).
        low, high: a healthy reading lies between them; widened on purpose, see `fit`.
        step: largest healthy change between two rows; it must come back to be a spike.
        rest: rows for which a healthy reading may stay exactly the same; 0: for ever.
        gap: rows for which a healthy reading may be missing.
        loud: a change between two rows of which there may be one or two, but not six in a block of 60 rows.
        quiet: least healthy range of a block of 60 rows, above 0.
        centre, spread: mean and standard deviation in normal data; a spread of 0: the tag does not move.
        row_rest: rows for which all readings together may stay the same; 0: for ever.
    """

    tags: Annotated[tuple[str, ...], Meta(min_length=1, max_length=10_000)]
    low: Numbers
    high: Numbers
    step: Numbers
    rest: tuple[Annotated[int, Meta(ge=0)], ...]
    gap: Rows
    loud: Numbers
    quiet: Numbers
    centre: Numbers
    spread: tuple[Annotated[float, Meta(ge=0)], ...]
    row_rest: Annotated[int, Meta(ge=0)] = 0

    def check(self) -> None:
        wrong = [
            name
            for name in ("low", "high", "step", "rest", "gap", "loud", "quiet", "centre", "spread")
            if len(getattr(self, name)) != len(self.tags)
        ]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: one number a tag is due, {len(self.tags)}")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError("low must not be above high")

    @property
    def dim(self) -> int:
        """Number of tags, D."""
        return len(self.tags)

    def with_ranges(self, ranges: dict[str, tuple[float, float]]) -> Self:
        """With the instruments' own ranges in the place of the learnt ones: what a person knows of them counts more.

        Raises:
            SchemaMismatch: there is no such tag.
            ValueError: a range is empty.
        """
        unknown = sorted(set(ranges) - set(self.tags))
        if unknown:
            raise SchemaMismatch(f"there is no tag {unknown[0]} to give a range.", "Correct [faults.ranges].")
        fields = self.as_dict()
        given = [ranges.get(tag) for tag in self.tags]
        fields["low"] = [low if mine is None else mine[0] for mine, low in zip(given, self.low, strict=True)]
        fields["high"] = [high if mine is None else mine[1] for mine, high in zip(given, self.high, strict=True)]
        return type(self).of(fields)


def fit(rows_TD: FloatArray, schema: SensorSchema, starts: Sequence[int] = (0,)) -> SensorLimits:
    """Learn the limits of healthy sensors.

    - range: the normal one and as much again on either side; a tag of at most 8 values has none;
    - step: 5 times the fastest normal change from row to row;
    - rest: 3 times the longest normal rest, at least 30 rows, if that fits 20 times into the data: what rests longer
      in normal data may rest for ever;
    - gap: 3 times the longest normal gap, at least 10 rows;
    - loud: one and a half times the fastest normal change;
    - quiet: a fifth of the least range of a block of 60 rows; a tag that rests for a whole block cannot be too quiet.

    Args:
        rows_TD: float32 (T, D), raw, normal; may hold NaN. Left as they are.
        schema: their columns.
        starts: rows at which recordings begin.

    Raises:
        SchemaMismatch: another number of columns.
        TooFewRows: fewer than two blocks, 120 rows.

    Example:
        >>> t = np.arange(600)
        >>> rows = np.stack([np.sin(t / 9), np.ones(600)], axis=1).astype(np.float32)
        >>> found = fit(rows, SensorSchema(tags=("LIT101", "P101"), period_s=1))
        >>> found.rest, round(found.high[0], 1), found.high[1] == NEVER
        ((30, 0), 3.0, True)
    """
    if rows_TD.ndim != 2 or rows_TD.shape[1] != schema.dim:
        raise SchemaMismatch(f"rows of shape {rows_TD.shape} came for {schema.dim} tags.")
    if len(rows_TD) < 2 * BLOCK:
        raise TooFewRows(f"{len(rows_TD)} rows came; limits of sensors need {2 * BLOCK} at least.")
    begins_T = np.zeros(len(rows_TD), bool)
    begins_T[list(starts)] = True
    found = [_column(column_T, begins_T) for column_T in columns(rows_TD)]
    low, high, step, rest, gap, loud, quiet, centre, spread = zip(*found, strict=True)
    same_T = np.all((rows_TD[1:] == rows_TD[:-1]) | (np.isnan(rows_TD[1:]) & np.isnan(rows_TD[:-1])), axis=1)
    return SensorLimits(
        tags=schema.tags,
        low=low,
        high=high,
        step=step,
        rest=rest,
        gap=gap,
        loud=loud,
        quiet=quiet,
        centre=centre,
        spread=spread,
        row_rest=_rest(_longest(same_T & ~begins_T[1:]), len(rows_TD)),
    )


def unknown(schema: SensorSchema) -> SensorLimits:
    """Limits of sensors that nothing is known of: none is ever judged by them.

    Example:
        >>> unknown(SensorSchema(tags=("LIT101",), period_s=1)).high == (NEVER,)
        True
    """
    every = (NEVER,) * schema.dim
    none, never = (0.0,) * schema.dim, (0,) * schema.dim
    return SensorLimits(
        tags=schema.tags,
        low=tuple(-one for one in every),
        high=every,
        step=every,
        rest=never,
        gap=(_FOR_EVER,) * schema.dim,
        loud=every,
        quiet=none,
        centre=none,
        spread=none,
    )


_Limits = tuple[float, float, float, int, int, float, float, float, float]


def _column(values_T: Float64Array, begins_T: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> _Limits:
    known_T = np.isfinite(values_T)
    gap = max(10, round(_RESTS * _longest(~known_T)))
    if known_T.sum() < 2 * BLOCK:
        return -NEVER, NEVER, NEVER, 0, gap, NEVER, 0.0, 0.0, 0.0
    within_T = known_T[1:] & known_T[:-1] & ~begins_T[1:]
    change_T = np.where(within_T, np.diff(np.where(known_T, values_T, 0.0)), np.nan)
    rest = _rest(_longest(within_T & (change_T == 0)), int(known_T.sum()))
    values = values_T[known_T]
    usual = float(values.mean()), float(values.std())
    if len(np.unique(values[: 200 * _STATES])) <= _STATES and len(np.unique(values)) <= _STATES:
        return -NEVER, NEVER, NEVER, rest, gap, NEVER, 0.0, *usual
    low, high = float(values.min()), float(values.max())
    margin, fastest = _BEYOND * (high - low), float(np.nanmax(np.abs(change_T), initial=0.0))
    step, loud = min(_FASTER * fastest, NEVER), min(_LOUDER * fastest, NEVER)
    ends = max(low - margin, -NEVER), min(high + margin, NEVER)
    return *ends, step, rest, gap, loud, _quiet(values), *usual


def _quiet(values_T: Float64Array) -> float:
    blocks_BN = values_T[: len(values_T) // BLOCK * BLOCK].reshape(-1, BLOCK)
    return _QUIETER * float(np.ptp(blocks_BN, axis=1).min())


def _rest(longest: int, rows: int) -> int:
    """Rows of rest that are too many, of which the longest normal one has `longest + 1`; 0: none."""
    rest = longest + 1
    return 0 if rest * _LEAST_RESTS > rows else max(_FEWEST_ROWS, round(_RESTS * rest))


def _longest(flags_T: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags_T, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
