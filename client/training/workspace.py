"""A site's data made ready for one recipe: joined, split in time, filled, scaled, windows counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shared.config import PreprocessConfig, Recipe
from shared.errors import NothingToLearn, TooFewRows
from shared.preprocess import (
    Preprocessor,
    Rows,
    Scaler,
    constant_columns,
    fill_training,
    filled_from_alike,
    fit_filled,
    join_rows,
    ranges_scaler,
    unusual_rows,
)
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, Repair, SiteData
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
        holdout: the last part of each recording at stride 1, after a gap of one segment where it has room for one;
            never trained on.
        preprocessor: fitted on the training rows only.
        repairs: what was mended, in words.
        records: under local differential privacy, how many disjoint segments there are; `segments_N` names the one that
            each window lies in. 0 without.
        recordings: rows at which the training part of each recording begins.
        faults: windows of the faults that are known of the training period; None: there is not one.
    """

    site: str
    schema: SensorSchema
    train: Part
    segments_N: IntArray
    holdout: Part
    preprocessor: Preprocessor
    repairs: tuple[Repair, ...]
    records: int = 0
    recordings: tuple[int, ...] = (0,)
    faults: Part | None = None

    @property
    def segment_count(self) -> int:
        """Number of segments, the records a statistic is normalised by."""
        return int(self.segments_N.max()) + 1

    @property
    def scaler(self) -> Scaler:
        """The preprocessor's last map."""
        return self.preprocessor.scaler


def prepare(site: SiteData, recipe: Recipe) -> Workspace:
    """Join, split, fill, scale and window one site.

    Training rows are copied once and prepared in place. Windows whose readings are mostly missing are left out, of
    training and of the hold-out, so that neither the model nor its threshold is fitted on what was never measured.

    Raises:
        TooFewRows: no training window or no held-out window.
        NothingToLearn: every column is constant, empty or muted.
    """
    config, window = recipe.preprocess, recipe.detector.window
    raw_TD = np.asarray(site.train_TD, np.float32)
    cut = split(*join_rows(raw_TD, site.train_starts, config.every, config.join), recipe)
    train_starts = _starts(cut.train)
    train_N = window_starts(sum(map(len, cut.train)), window, recipe.training.stride, train_starts)
    held_N = held_starts(cut, recipe)
    _check_enough(site, recipe, train_N, held_N)

    train_TD = np.concatenate(cut.train)
    imputed_TD, bridged = _fill(train_TD, train_starts, config)
    unusual_T = _unusual(train_TD, config)
    constant, leads = np.flatnonzero(constant_columns(train_TD)).tolist(), _leads(cut, train_TD, config)
    fitted = fit_filled(train_TD, imputed_TD, train_starts, config, site.name, _given_scaler(site, config))
    held = held_out(cut, leads, fitted)
    measured_N = train_N[fitted.imputed_share(imputed_TD, train_N, window) <= config.max_imputed]
    measured_N, unusual = _without(unusual_T, measured_N, window)
    checked_N = held_N[fitted.imputed_share(held.imputed_TD, held_N, window) <= config.max_imputed]
    _check_measured(site, recipe, measured_N, checked_N)

    carried = sum(_imputed(part_TD, fitted) for part_TD in (imputed_TD, held.imputed_TD)) - bridged
    lost = len(train_N) - len(measured_N) - unusual, len(held_N) - len(checked_N)
    return Workspace(
        site=site.name,
        schema=site.schema,
        train=Part(train_TD, measured_N),
        segments_N=segment_of(measured_N, recipe.clustering.unit, train_starts),
        holdout=Part(held.values_TD, checked_N),
        preprocessor=fitted,
        repairs=(*_reading_notes(site, carried, bridged, lost, unusual, config), *_tag_notes(site, constant, fitted)),
        recordings=train_starts,
        faults=_faults(site, fitted, window),
    )


def _fill(train_TD: FloatArray, starts: tuple[int, ...], config: PreprocessConfig) -> tuple[BoolArray, int]:
    """`fill_training`, with gaps filled from the rows most alike where the recipe says so."""
    alike_TD = filled_from_alike(train_TD) if config.impute == "knn" else None
    imputed_TD, bridged = fill_training(train_TD, starts, config.fill_limit)
    if alike_TD is not None:
        np.copyto(train_TD, alike_TD, where=imputed_TD & np.isfinite(alike_TD))
    return imputed_TD, bridged


def _unusual(filled_TD: FloatArray, config: PreprocessConfig) -> BoolArray:
    """Rows further out than the recipe allows, before scaling clips them."""
    return np.zeros(len(filled_TD), np.bool_) if config.max_z is None else unusual_rows(filled_TD, config.max_z)


def _without(unusual_T: BoolArray, first_N: IntArray, window: int) -> tuple[IntArray, int]:
    """Windows without such a row, and how many have one."""
    out_T = np.concatenate([[0], np.cumsum(unusual_T)])
    kept_N: IntArray = first_N[out_T[first_N + window] == out_T[first_N]]
    return kept_N, len(first_N) - len(kept_N)


def _faults(site: SiteData, fitted: Preprocessor, window: int) -> Part | None:
    """Known faults, laid out like live rows; None where they make no window."""
    if site.faults_TD is None or fitted.every != 1 or len(site.faults_TD) < window:
        return None
    rows_TD = fitted.live(np.asarray(site.faults_TD, np.float32)).values_TD
    return Part(rows_TD, window_starts(len(rows_TD), window, 1))


def _given_scaler(site: SiteData, config: PreprocessConfig) -> Scaler | None:
    """The scaler that follows from public operating ranges, where the recipe asks for it.

    Raises:
        NothingToLearn: the site knows none of a tag.
    """
    if config.scaling != "ranges":
        return None
    known = [span for span in site.ranges or () if span is not None]
    if len(known) < site.schema.dim:
        cause = f"site {site.name!r} knows the operating range of {len(known)} of its {site.schema.dim} tags."
        raise NothingToLearn(cause, "Put `ranges.csv` beside the data, or choose another recipe.preprocess.scaling.")
    return ranges_scaler(known, config.guard)


def _check_enough(site: SiteData, recipe: Recipe, train_N: IntArray, held_N: IntArray) -> None:
    if len(train_N) < 2 or len(held_N) < 1:
        every = recipe.preprocess.every
        joined = "" if every == 1 else f" of which every {every} become one"
        raise TooFewRows(
            f"site {site.name!r} has {len(site.train_TD)} training rows{joined}: {len(train_N)} training and "
            f"{len(held_N)} held-out windows of {recipe.detector.window} rows at a hold-out of "
            f"{recipe.training.holdout:.0%}; at least {_least_rows(recipe) * every} rows are needed in one recording.",
        )


def _check_measured(site: SiteData, recipe: Recipe, train_N: IntArray, held_N: IntArray) -> None:
    if len(train_N) < 2 or len(held_N) < 1:
        limit = recipe.preprocess.max_imputed
        raise TooFewRows(
            f"site {site.name!r} has {len(train_N)} training and {len(held_N)} held-out windows in which at most "
            f"{limit:.0%} of the readings are missing.",
            "Give the site more complete data, leave out its empty tags, or raise recipe.preprocess.max_imputed.",
        )


def _imputed(imputed_TD: BoolArray, fitted: Preprocessor) -> int:
    """Cells that something stands in for, without the columns that nothing is known of: nothing is carried there."""
    return int(np.delete(imputed_TD.sum(axis=0), fitted.unknown).sum())


@dataclass(frozen=True)
class Cut:
    """Recordings cut in two: their training parts, their ends, and the training part that each end follows."""

    train: list[FloatArray]
    held: list[FloatArray]
    follows: list[int]


def split(rows_TD: FloatArray, recordings: tuple[int, ...], recipe: Recipe) -> Cut:
    """Cut the end off every recording that is long enough, so that the hold-out covers each of them."""
    cut = Cut([], [], [])
    for begin, end in zip(recordings, [*recordings[1:], len(rows_TD)], strict=True):
        kept = _kept(end - begin, recipe)
        if end - begin - kept < recipe.detector.window:
            kept = end - begin
        cut.train.append(rows_TD[begin : begin + kept])
        if begin + kept < end:
            cut.held.append(rows_TD[begin + kept : end])
            cut.follows.append(len(cut.train) - 1)
    return cut


def held_starts(cut: Cut, recipe: Recipe) -> IntArray:
    """Windows of the held-out parts. A part that has room for it begins with a gap of one segment: readings right after
    those that were trained on resemble them.
    """
    window, gap = recipe.detector.window, recipe.clustering.unit
    starts_N = window_starts(sum(map(len, cut.held)), window, 1, _starts(cut.held))
    roomy = [begin for begin, part in zip(_starts(cut.held), cut.held, strict=False) if len(part) >= 2 * gap + window]
    near_N = np.zeros(len(starts_N), np.bool_)
    for begin in roomy:
        near_N |= (starts_N >= begin) & (starts_N < begin + gap)
    return starts_N[~near_N]


def _leads(cut: Cut, train_TD: FloatArray, config: PreprocessConfig) -> list[FloatArray]:
    """The filled training rows right before each held-out part, from which fills and rolling means go on."""
    ends = np.cumsum([len(piece) for piece in cut.train])
    sizes = [min(len(cut.train[before]), config.rolling or 1) for before in cut.follows]
    return [
        train_TD[ends[before] - size : ends[before]].copy() for before, size in zip(cut.follows, sizes, strict=True)
    ]


def held_out(cut: Cut, leads: list[FloatArray], fitted: Preprocessor) -> Rows:
    """The held-out parts, prepared as live data is; nothing looks into them from the training part, nor ahead."""
    pieces = [piece for pair in zip(leads, cut.held, strict=True) for piece in pair]
    whole = fitted.live_joined(np.concatenate(pieces), _starts(pieces)[::2])
    kept_T = np.repeat([i % 2 == 1 for i in range(len(pieces))], [len(piece) for piece in pieces])
    return Rows(whole.values_TD[kept_T], whole.imputed_TD[kept_T], _starts(cut.held))


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


def _reading_notes(
    site: SiteData, carried: int, bridged: int, lost: tuple[int, int], unusual: int, config: PreprocessConfig
) -> Iterable[Repair]:
    how = "last value carried forward" if config.impute == "carry" else "taken from the rows most alike"
    left_out = f"windows left out: more than {config.max_imputed:.0%} of their readings are missing"
    notes = {
        f"missing or infinite training readings, {how}": carried,
        f"training readings missing for more than {config.fill_limit} rows, bridged by a line": bridged,
        f"training {left_out}": lost[0],
        f"held-out {left_out}": lost[1],
        f"training windows left out: a row lies more than {config.max_z} deviations out": unusual,
    }
    return (Repair(site.name, what, count) for what, count in notes.items() if count)


def _tag_notes(site: SiteData, constant: Iterable[int], fitted: Preprocessor) -> Iterable[Repair]:
    notes = {
        "tags without any training value, taken as 0": fitted.unknown,
        f"{CONSTANT}, kept unscaled": sorted(set(constant) - set(fitted.muted)),
        "tags that vary too little or repeat another one, muted": fitted.muted,
    }
    named = {what: [site.schema.tags[d] for d in columns] for what, columns in notes.items()}
    return (Repair(site.name, f"{what}: {_some(names)}", len(names)) for what, names in named.items() if names)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
