"""A plant's lagged moments (docs/lag.md): which of its prepared training rows count, and what the others' leave."""

from __future__ import annotations

import numpy as np

from client.training.workspace import Workspace
from shared.config import Recipe
from shared.errors import BadPayload, NothingToLearn
from shared.lag.pooled import Lag, LagSum, fitting_lags, tag, without
from shared.lag.sums import Moments, moments, parse
from shared.series import FloatArray

_MOST_ROWS = 1e15  # of all plants together


def own_moments(workspace: Workspace, recipe: Recipe) -> Moments:
    """Moments of the plant's training rows, prepared; nothing of the hold-out.

    Raises:
        NothingToLearn: it has too many tags for any.
    """
    lags = fitting_lags(workspace.schema.dim, recipe.lag.lags)
    if lags is None:
        cause = f"site {workspace.site!r} has {workspace.schema.dim:,} tags, too many for lagged moments."
        raise NothingToLearn(cause, "Set recipe.lag.on = false.")
    return moments(*measured_rows(workspace, recipe), lags)


def measured_rows(workspace: Workspace, recipe: Recipe) -> tuple[FloatArray, tuple[int, ...]]:
    """Training rows that a window covers, or the stride after it: float32 (T', D), and where stretches of them begin.

    Where readings are mostly missing there is no window, so that what stands in for them is not learnt from; and
    how many windows a plant declared bounds how many rows it can claim.
    """
    rows_TD, starts_N = workspace.train.rows_TD, workspace.train.starts_N
    bounds = np.asarray([*workspace.recordings, len(rows_TD)])
    ends_N = np.minimum(
        starts_N + recipe.detector.window + recipe.training.stride - 1,
        bounds[np.searchsorted(bounds, starts_N, side="right")],
    )
    depth_T = np.zeros(len(rows_TD) + 1, np.int64)
    np.add.at(depth_T, starts_N, 1)
    np.add.at(depth_T, ends_N, -1)
    kept_T = np.cumsum(depth_T[:-1]) > 0
    if kept_T.all():
        return rows_TD, workspace.recordings
    begins_T = kept_T & ~np.concatenate([[False], kept_T[:-1]])
    begins_T[bounds[:-1]] = kept_T[bounds[:-1]]
    places_T = np.cumsum(kept_T) - 1
    return rows_TD[kept_T], tuple(places_T[begins_T].tolist())


def lag_of(run: str, total: LagSum | None, workspace: Workspace, recipe: Recipe) -> Lag | None:
    """What the plant knows of lagged moments; None where the recipe wants none.

    Args:
        run: name of the run.
        total: the federation's sum as it came; None where there is none.
        workspace, recipe: the plant's.

    Raises:
        BadPayload: the sum is none of such rows, or came although nobody asked for any.
    """
    asked = recipe.lag.on and fitting_lags(workspace.schema.dim, recipe.lag.lags) is not None
    if total is not None and not asked:
        raise BadPayload("moments that the recipe does not ask for.")
    if not asked:
        return None
    own = own_moments(workspace, recipe)
    if total is None:
        return Lag(own)
    parse(total.vector_Q, own.dim, own.lags, recipe.preprocess.guard * (1 + 1e-6), _MOST_ROWS)
    return Lag(own, without(total, own, tag(run, workspace.site)))
