"""A plant's records under local differential privacy: disjoint segments, and windows that never leave one.

    recording  |---- training part ------------------------------|-- held out --|
    segments   |--- 0 ---|--- 1 ---|--- 2 ---|--- 3 ---|  rest: unused
    windows    |w0|w1|w2| |w0|w1|w2| ...

A reading belongs to one segment: filling looks only inside it (a gap at its beginning takes the middle of the tag's
range), scaling uses ranges that do not come from the data, and a window that lacks too many readings is dropped by
itself. So adding or removing a segment changes that segment's windows and nothing else (docs/privacy.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client.training.workspace import Cut, Part, Workspace, held_out, held_starts, split
from shared.config import PreprocessConfig, Recipe
from shared.errors import PrivacyUnmet, TooFewRows
from shared.preprocess import Preprocessor, join_rows, ranges_scaler
from shared.sampling import own_recipe
from shared.schema import SensorSchema
from shared.series import FloatArray, SiteData
from shared.windows import IntArray

Double = NDArray[np.float64]


@dataclass(frozen=True)
class Segments:
    """The records of a site, as they were read.

    Attributes:
        rows_RUD: float32 (R, U, D), joined rows; may hold NaN.
        cut: the recordings, with what is held out.
    """

    rows_RUD: FloatArray
    cut: Cut

    def __len__(self) -> int:
        return len(self.rows_RUD)


def record_rows(recipe: Recipe, period_s: float) -> int:
    """Length of a record in joined rows: `clustering.unit`, or `privacy.unit_s` at the plant's sampling.

    Example:
        >>> record_rows(Recipe(), 1.0)
        60
        >>> record_rows(Recipe.model_validate({"privacy": {"unit_s": 600}, "preprocess": {"every": 10}}), 1.0)
        60
    """
    if recipe.privacy.unit_s is None:
        return recipe.clustering.unit
    return max(1, round(recipe.privacy.unit_s / (period_s * recipe.preprocess.every)))


def windows_a_record(recipe: Recipe, period_s: float) -> int:
    """m, how many windows a whole record has.

    Raises:
        PrivacyUnmet: it is shorter than a window.
    """
    rows, window = record_rows(recipe, period_s), recipe.detector.window
    if rows < window:
        cause = f"a record of {rows} rows holds no window of {window} rows."
        raise PrivacyUnmet(cause, "Choose a longer recipe.clustering.unit, or a shorter recipe.detector.window.")
    return rows // window


def segments(site: SiteData, recipe: Recipe) -> Segments:
    """Cut the training part of each recording into whole segments, counted from the recording's beginning.

    How many there are follows from how long the recordings are, not from what was read.
    """
    config, rows = recipe.preprocess, record_rows(recipe, site.schema.period_s)
    joined_TD, starts = join_rows(np.asarray(site.train_TD, np.float32), site.train_starts, config.every, config.join)
    cut = split(joined_TD, starts, recipe)
    whole = [part[: len(part) // rows * rows].reshape(-1, rows, part.shape[1]) for part in cut.train]
    return Segments(np.concatenate(whole), cut)


def count_records(site: SiteData, recipe: Recipe) -> int:
    """How many segments a site has."""
    return len(segments(replace(site, train_TD=site.train_TD[:, :1]), own_recipe(recipe, site.schema.period_s)))


def medians(records: Segments) -> Double:
    """Each record's median of each tag, float64 (R, D); NaN where it has no reading."""
    known_RUD = np.isfinite(records.rows_RUD)
    ordered_RUD = np.sort(np.where(known_RUD, records.rows_RUD, np.float32(np.inf)), axis=1).astype(np.float64)
    count_RD = known_RUD.sum(axis=1)
    middle = (np.maximum(count_RD - 1, 0) // 2, np.minimum(count_RD // 2, ordered_RUD.shape[1] - 1))
    low_RD, high_RD = (np.take_along_axis(ordered_RUD, at[:, None], axis=1)[:, 0] for at in middle)
    return np.where(count_RD > 0, (low_RD + high_RD) / 2, np.nan)


def public_preprocessor(schema: SensorSchema, ranges_D2: Double, config: PreprocessConfig) -> Preprocessor:
    """Scale by ranges that no reading moved: shift to the middle, a quarter of the width becomes 1.

    Args:
        schema: names the tags in errors.
        ranges_D2: low and high of each tag.
        config: joining, guard.

    Raises:
        PrivacyUnmet: a range is empty or not finite.
    """
    low_D, high_D = ranges_D2[:, 0], ranges_D2[:, 1]
    wrong = np.flatnonzero(~(np.isfinite(low_D) & np.isfinite(high_D) & (low_D < high_D)))
    if len(wrong):
        tag = schema.tags[int(wrong[0])]
        raise PrivacyUnmet(f"the range of {tag} goes from {low_D[wrong[0]]:g} to {high_D[wrong[0]]:g}.")
    scaler = ranges_scaler(list(zip(low_D.tolist(), high_D.tolist(), strict=True)), config.guard)
    return Preprocessor(scaler=scaler, every=config.every, join=config.join, fill_limit=config.fill_limit)


def prepare_records(site: SiteData, recipe: Recipe, records: Segments, ranges_D2: Double) -> Workspace:
    """Fill, scale and window every record for itself, and the held-out part as live data is.

    Returns:
        a workspace whose training windows are W rows apart, m a record at most; `segments_N` has the record of each.

    Raises:
        TooFewRows: no window is held out, whether or not anything was read there.
        PrivacyUnmet: a range is empty, or a record shorter than a window.
    """
    fitted = public_preprocessor(site.schema, ranges_D2, recipe.preprocess)
    train, record_N = _windows(recipe, records, fitted, windows_a_record(recipe, site.schema.period_s))
    holdout = _holdout(recipe, records.cut, fitted)
    # How long the recordings are may be a reason to refuse. What was read is none: then one record would show, also
    # one that is held out here and trained on in another run.
    if not len(held_starts(records.cut, recipe)):
        raise TooFewRows(f"site {site.name!r} has no window held out.")
    return Workspace(site.name, site.schema, train, record_N, holdout, fitted, (), len(records))


def first_windows(workspace: Workspace) -> IntArray:
    """Where the windows of each record begin among all windows, int64 (R + 1,); a record may have none."""
    first_R: IntArray = np.searchsorted(workspace.segments_N, np.arange(workspace.records + 1)).astype(np.int64)
    return first_R


def _windows(recipe: Recipe, records: Segments, fitted: Preprocessor, count: int) -> tuple[Part, IntArray]:
    """Windows 0, W, 2W, ... of each record; those that lack too many readings are left out one by one."""
    size, rows, dim = records.rows_RUD.shape
    begins_R = np.arange(size, dtype=np.int64) * rows
    prepared = fitted.live_joined(records.rows_RUD.reshape(-1, dim), tuple(begins_R.tolist()) or (0,))
    window = recipe.detector.window
    starts_N = (begins_R[:, None] + np.arange(count) * window).ravel()
    share_N = fitted.imputed_share(prepared.imputed_TD, starts_N, window)
    usable_N = share_N <= recipe.preprocess.max_imputed
    return Part(prepared.values_TD, starts_N[usable_N]), starts_N[usable_N] // rows


def _holdout(recipe: Recipe, cut: Cut, fitted: Preprocessor) -> Part:
    """The held-out windows, which go on from the last row before them; they never leave the plant."""
    if not cut.held:
        return Part(np.empty((0, fitted.dim), np.float32), np.empty(0, np.int64))
    leads = [np.array(cut.train[before][-1:]) for before in cut.follows]
    held, window = held_out(cut, leads, fitted), recipe.detector.window
    held_N = held_starts(cut, recipe)
    usable_N = fitted.imputed_share(held.imputed_TD, held_N, window) <= recipe.preprocess.max_imputed
    return Part(held.values_TD, held_N[usable_N])
