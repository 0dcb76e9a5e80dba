"""A site's data made ready for one recipe: gaps filled, split in time, scaled, windows counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.config import Recipe
from shared.errors import TooFewRows
from shared.preprocess import Scaler, constant_tags, fill_gaps, fit_scaler, gap_repair
from shared.schema import SensorSchema
from shared.series import FloatArray, Repair, SiteData
from shared.windows import IntArray, segment_of, window_starts

CONSTANT = "tags constant in training"


@dataclass(frozen=True)
class Part:
    """Scaled rows and the windows in them.

    Attributes:
        rows_TD: float32 (T, D).
        starts_N: first row of every window.
    """

    rows_TD: FloatArray
    starts_N: IntArray


@dataclass(frozen=True)
class Workspace:
    """What training and calibration at one site work on.

    Attributes:
        site: name.
        schema: columns.
        train: training windows at the recipe's stride.
        segments_N: the segment of each training window.
        holdout: the last part of each recording at stride 1; never trained on.
        scaler: fitted on the training rows only.
        repairs: what was mended, in words.
    """

    site: str
    schema: SensorSchema
    train: Part
    segments_N: IntArray
    holdout: Part
    scaler: Scaler
    repairs: tuple[Repair, ...]

    @property
    def segment_count(self) -> int:
        """Number of segments, the records a statistic is normalised by."""
        return int(self.segments_N.max()) + 1


def prepare(site: SiteData, recipe: Recipe) -> Workspace:
    """Fill, split, scale and window one site.

    Raises:
        TooFewRows: no training window or no held-out window.
        NothingToLearn: every column is constant or empty.
    """
    window = recipe.detector.window
    cut = _split(np.asarray(site.train_TD, np.float32), site.train_starts, recipe)
    train_starts, hold_starts = _starts(cut.train), _starts(cut.held)
    train_rows, hold_rows, filled = _filled(cut, site.schema.dim)
    starts_N = window_starts(len(train_rows), window, recipe.training.stride, train_starts)
    held_N = window_starts(len(hold_rows), window, 1, hold_starts)
    if len(starts_N) < 2 or len(held_N) < 1:
        raise TooFewRows(
            f"site {site.name!r} has {len(site.train_TD)} training rows: {len(starts_N)} training and {len(held_N)} "
            f"held-out windows of {window} rows at a hold-out of {recipe.training.holdout:.0%}; at least "
            f"{_least_rows(recipe)} rows are needed in one recording.",
        )
    pre = recipe.preprocess
    scaler = fit_scaler(train_rows, pre.scaling, pre.clip_quantile, pre.clip_live, pre.guard, site.name)
    return Workspace(
        site=site.name,
        schema=site.schema,
        train=Part(scaler.training(train_rows), starts_N),
        segments_N=segment_of(starts_N, recipe.clustering.unit, train_starts),
        holdout=Part(scaler.live(hold_rows), held_N),
        scaler=scaler,
        repairs=(
            *gap_repair(site.name, "training", filled),
            *_unknown_note(site, cut),
            *_constant_note(site, train_rows),
        ),
    )


@dataclass(frozen=True)
class _Cut:
    """Recordings cut in two: their training parts, their ends, and the training part that each end follows."""

    train: list[FloatArray]
    held: list[FloatArray]
    follows: list[int]


def _split(rows_TD: FloatArray, recordings: tuple[int, ...], recipe: Recipe) -> _Cut:
    """Cut the end off every recording that is long enough, so that the hold-out covers each of them."""
    cut = _Cut([], [], [])
    for begin, end in zip(recordings, [*recordings[1:], len(rows_TD)], strict=True):
        kept = _kept(end - begin, recipe)
        if end - begin - kept < recipe.detector.window:
            kept = end - begin
        cut.train.append(rows_TD[begin : begin + kept])
        if begin + kept < end:
            cut.held.append(rows_TD[begin + kept : end])
            cut.follows.append(len(cut.train) - 1)
    return cut


def _filled(cut: _Cut, dim: int) -> tuple[FloatArray, FloatArray, int]:
    """Training rows, held-out rows (both without gaps) and the number of filled cells; nothing looks into the hold-out.

    A gap at the start of a held-out part takes the last value of the training part before it.
    """
    train_TD, filled = fill_gaps(np.concatenate(cut.train), _starts(cut.train))
    ends = np.cumsum([len(piece) for piece in cut.train])
    held = [np.empty((0, dim), np.float32)]
    for piece, before in zip(cut.held, cut.follows, strict=True):
        last_D = train_TD[max(0, ends[before] - 1)] if len(train_TD) else np.zeros(dim, np.float32)
        whole, more = fill_gaps(piece, first=last_D)
        held.append(whole)
        filled += more
    return train_TD, np.concatenate(held), filled


def _least_rows(recipe: Recipe) -> int:
    """Shortest recording that gives two training windows and one held-out window."""
    window, share = recipe.detector.window, recipe.training.holdout
    fewest = int(max((window - 1) / share, (window + recipe.training.stride - 1) / (1 - share)))
    # `_enough` never goes back to False: both parts grow with the rows. A few more than `fewest` make up for rounding.
    return bisect_left(range(2 * fewest + 4), True, key=lambda rows: _enough(rows, recipe))


def _enough(rows: int, recipe: Recipe) -> bool:
    window, kept = recipe.detector.window, _kept(rows, recipe)
    return rows - kept >= window and kept >= window + recipe.training.stride


def _kept(rows: int, recipe: Recipe) -> int:
    return round(rows * (1 - recipe.training.holdout))


def _starts(pieces: list[FloatArray]) -> tuple[int, ...]:
    lengths = [0, *(len(piece) for piece in pieces[:-1])]
    return tuple(int(n) for n in np.cumsum(lengths))


def _unknown_note(site: SiteData, cut: _Cut) -> tuple[Repair, ...]:
    known_D = np.any([np.isfinite(piece).any(axis=0) for piece in cut.train], axis=0)
    names = [tag for tag, known in zip(site.schema.tags, known_D, strict=True) if not known]
    if not names or not any(len(piece) for piece in cut.train):
        return ()
    return (Repair(site.name, f"tags without any training value, taken as 0: {_some(names)}", len(names)),)


def _constant_note(site: SiteData, rows_TD: FloatArray) -> tuple[Repair, ...]:
    names = constant_tags(rows_TD, site.schema.tags) if len(rows_TD) else ()
    if not names:
        return ()
    return (Repair(site.name, f"{CONSTANT}, kept unscaled: {_some(names)}", len(names)),)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
