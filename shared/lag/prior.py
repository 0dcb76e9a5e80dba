"""A prior from the other plants that fades with a plant's own data: n0 rows of the others beside its own.

    M = M_own + n0 M_others / n_others,   n0 = worth P min(1, (2 P / n)^2)

The conjugate prior of a Gaussian (inverse Wishart of n0 rows), n the plant's own rows, P columns. What the others are
worth is chosen by the likelihood of the plant's own normal rows, held out in pieces: a plant unlike the others chooses
none. Likelihood alone would keep on borrowing: it counts what every plant has in common, where an anomaly is told by
what the plant does in its own way. From 2 P own rows on that is known, and the prior fades.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from shared.lag.gaussian import gaussian, loss
from shared.lag.packing import packed
from shared.lag.sums import Moments, Values, moments
from shared.scoring import Float64Array
from shared.series import BoolArray

USUAL = 5.0
"""Rows of the others, in columns P: a good guess where nothing can be held out (docs/lag.md, the table)."""

WORTHS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""What is chosen from, in columns P."""

ENOUGH = 2.0
"""Own rows, in columns P, from which on the prior fades."""

_PIECES = 5
_STILL = 1e-9  # variance, in units of spread


def with_prior(own: Moments, others: Moments, rows: float) -> Moments:
    """Own moments and `rows` rows of the others' mean moments; `own` itself where the others have none.

    Example:
        >>> own, others = moments(np.array([[1.0], [3.0]]), lags=0), moments(np.full((50, 1), 4.0), lags=0)
        >>> with_prior(own, others, 2.0).matrix_PP.tolist()
        [[4.0, 12.0], [12.0, 42.0]]
    """
    return _added(own, as_here(own, others), rows)


def as_here(own: Moments, others: Moments) -> Moments:
    """The others' moments had the tags that stand still in a plant's own rows stood still there, too.

    Preparation cannot bring a tag to units of its spread that has none: what the others say of its spread is in no unit
    of this plant's. And "it never moves here" is the plant's own knowledge, which plants where it moves must not undo.
    In each row `v` becomes `K v + c`: c is the tag's own value where it stands still, K the identity elsewhere.
    """
    still_P, value_P = _still(own)
    if others.rows <= 0 or not still_P.any():
        return others
    matrix_PP = others.matrix_PP
    matrix_PP[still_P] = value_P[still_P, None] * matrix_PP[0]
    matrix_PP[:, still_P] = matrix_PP[:, :1] * value_P[still_P]
    return Moments(packed(matrix_PP), others.dim, others.lags, others.noise_sd)


def _still(own: Moments) -> tuple[BoolArray, Float64Array]:
    """Which columns of M (the constant first, which is none of them) never move, and their means."""
    if own.rows <= 0:
        return np.zeros(1 + (own.lags + 1) * own.dim, np.bool_), np.zeros(0)
    matrix_PP = own.matrix_PP / own.rows
    mean_P = matrix_PP[0]
    still_D = (np.diagonal(matrix_PP) - mean_P**2 <= _STILL * (1 + mean_P**2))[1 : 1 + own.dim]
    return np.concatenate([[False], np.tile(still_D, own.lags + 1)]), mean_P


def _added(own: Moments, others: Moments, rows: float) -> Moments:
    return own + others * (rows / others.rows) if others.rows > 0 and rows > 0 else own


def pieces(rows_TD: Values, starts: Sequence[int], lags: int, count: int = _PIECES) -> list[Moments]:
    """Moments of consecutive pieces of a plant's rows, about equally long; none without two lagged rows.

    Rows at the seams are looked at in one piece only, so that a held-out piece shares no lagged row with the rest.
    """
    bounds, found = [round(at) for at in np.linspace(0, len(rows_TD), count + 1)], []
    for begin, end in pairwise(bounds):
        inside = [0, *(start - begin for start in starts if begin < start < end)]
        found.append(moments(rows_TD[begin:end], inside, lags))
    return [piece for piece in found if piece.rows >= 2]


def chosen_rows(own: Sequence[Moments], others: Moments, worths: Sequence[float] = WORTHS) -> float:
    """How many rows of the others make a plant's own held-out rows likeliest, n0.

    Each piece is held out in turn. Of all n0 the least is chosen that is no worse than the best by more than one
    standard error over the pieces (Breiman, Friedman, Olshen and Stone 1984, "Classification and Regression Trees",
    section 3.4.3): where the others do not surely help, n0 = 0, and the plant keeps its own model.

    Args:
        own: the plant's normal rows in pieces (`pieces`).
        others: the sum of the other plants' moments.
        worths: what to choose from, in columns P, ascending.

    Returns:
        n0, in rows, faded by how many the plant has itself; with fewer than three pieces of `USUAL` columns.
    """
    if others.rows <= 0:
        return 0.0
    columns, whole = (others.lags + 1) * others.dim, _total(own) if own else Moments.none(others.dim, others.lags)
    worth = _worth(own, whole, as_here(whole, others), worths) if len(own) >= 3 else USUAL
    return worth * columns * min(1.0, (ENOUGH * columns / max(whole.rows, 1.0)) ** 2)


def _worth(own: Sequence[Moments], whole: Moments, others: Moments, worths: Sequence[float]) -> float:
    columns = (others.lags + 1) * others.dim
    losses_WK = np.array([[_held_out(whole, one, others, worth * columns) for one in own] for worth in worths])
    more_WK = losses_WK - losses_WK[int(np.argmin(losses_WK.mean(axis=1)))]
    noise_W = more_WK.std(axis=1, ddof=1) / np.sqrt(len(own))
    return worths[int(np.argmax(more_WK.mean(axis=1) <= noise_W))]


def _held_out(whole: Moments, piece: Moments, others: Moments, rows: float) -> float:
    return loss(gaussian(_added(whole - piece, others, rows)), gaussian(piece))


def _total(parts: Sequence[Moments]) -> Moments:
    total = Moments.none(parts[0].dim, parts[0].lags)
    for part in parts:
        total = total + part
    return total
