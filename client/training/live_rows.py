"""All normal rows of a plant, prepared as an edge box prepares them: what its judge (`shared.evidence`) is fitted on.

A window ends at every row. `unseen` are those that calibration holds out as well (`client.training.workspace`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from client.training.workspace import Workspace, held_starts, split
from shared.config import Recipe
from shared.preprocess import Rows, join_rows
from shared.relations import Relations
from shared.relations.beside import joined
from shared.scoring import Float64Array
from shared.series import BoolArray, FloatArray, SiteData
from shared.windows import IntArray, window_starts

if TYPE_CHECKING:
    from shared.relations import Fitted  # Its module imports scikit-learn.

MOST_WINDOWS = 20_000  # of the training part; those held out all count
_STRETCH = 250  # windows that stay together when some are left out: trailing means are over neighbours


@dataclass(frozen=True, eq=False)
class LiveRows:
    """Normal rows, prepared, not clipped.

    Attributes:
        rows_TD: float32 (T, D).
        starts: rows at which recordings begin.
        ends_N: int64 (N,), rows with which a window ends that counts, ascending.
        unseen_T: bool (T,), rows with which a window ends that nothing was trained on.
        relations: the plant's, to stand beside a judge; None without.
        told_T: float64 (T,), what they say of each row by what had not seen it, NaN: nothing; None without.
    """

    rows_TD: FloatArray
    starts: tuple[int, ...]
    ends_N: IntArray
    unseen_T: BoolArray
    relations: Relations | None = None
    told_T: Float64Array | None = None


def live_rows(site: SiteData, workspace: Workspace, recipe: Recipe, own: Fitted | None = None) -> LiveRows:
    """The training data of a plant, whole; windows that are mostly missing readings do not count.

    Args:
        site, workspace, recipe: the plant's.
        own: its relations, to stand beside a judge.
    """
    rows = workspace.preprocessor.live(np.asarray(site.train_TD, np.float32), site.train_starts)
    unseen_T = np.zeros(len(rows.values_TD), np.bool_)
    unseen_T[_held_ends(site, recipe)] = True
    ends_N = measured_ends(rows, workspace, recipe)
    found = LiveRows(rows.values_TD, rows.starts, _thinned(ends_N, unseen_T), unseen_T)
    if own is None:
        return found
    told_T = joined(own.scores_T, site.train_starts, recipe.preprocess.every)
    return replace(found, relations=own.relations, told_T=told_T)


def with_more(live: LiveRows, rows: Rows, ends_N: IntArray, told_T: Float64Array | None = None) -> LiveRows:
    """With further recordings that nothing was trained on, as people have confirmed them since.

    Args:
        live: those before.
        rows, ends_N: prepared, and with which of them windows end that count.
        told_T: what the plant's relations say of them, where it has any.
    """
    at, added_T = len(live.rows_TD), np.zeros(len(rows.values_TD), np.bool_)
    none_T = np.full(len(rows.values_TD), np.nan)
    added_T[ends_N] = True
    return LiveRows(
        np.concatenate([live.rows_TD, rows.values_TD]),
        (*live.starts, *(at + start for start in rows.starts)),
        np.concatenate([live.ends_N, at + ends_N]),
        np.concatenate([live.unseen_T, added_T]),
        live.relations,
        None if live.told_T is None else np.concatenate([live.told_T, none_T if told_T is None else told_T]),
    )


def measured_ends(rows: Rows, workspace: Workspace, recipe: Recipe) -> IntArray:
    """Rows with which windows end in which enough was measured, int64 (N,)."""
    window = recipe.detector.window
    starts_N = window_starts(len(rows.values_TD), window, 1, rows.starts)
    share_N = workspace.preprocessor.imputed_share(rows.imputed_TD, starts_N, window)
    measured_N: IntArray = starts_N[share_N <= recipe.preprocess.max_imputed] + (window - 1)
    return measured_N


def _held_ends(site: SiteData, recipe: Recipe) -> IntArray:
    """Rows with which held-out windows end, counted among all joined rows."""
    places_T1 = np.arange(len(site.train_TD), dtype=np.float32)[:, None]
    config = recipe.preprocess
    joined_T1, starts = join_rows(places_T1, site.train_starts, config.every, config.join)
    rows_T1 = np.arange(len(joined_T1), dtype=np.int64)[:, None]
    cut = split(rows_T1, starts, recipe)  # type: ignore[arg-type]  # It cuts whatever there is a row of.
    if not cut.held:
        return np.empty(0, np.int64)
    held_T = np.concatenate(cut.held)[:, 0]
    ends_N: IntArray = held_T[held_starts(cut, recipe) + recipe.detector.window - 1].astype(np.int64)
    return ends_N


def _thinned(ends_N: IntArray, unseen_T: BoolArray) -> IntArray:
    """Evenly many stretches of those that were trained on, and all others."""
    seen_M, unseen_M = ends_N[~unseen_T[ends_N]], ends_N[unseen_T[ends_N]]
    count, wanted = -(-len(seen_M) // _STRETCH), MOST_WINDOWS // _STRETCH
    if count > wanted:
        chosen = np.unique(np.linspace(0, count - 1, wanted).round().astype(np.int64))
        seen_M = seen_M[np.isin(np.arange(len(seen_M)) // _STRETCH, chosen)]
    return np.sort(np.concatenate([seen_M, unseen_M]))
