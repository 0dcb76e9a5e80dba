"""Prepared rows for contestants that work on rows: the split and the calibration of a trained detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from client.training.workspace import Workspace, prepare, split
from shared.config import Recipe
from shared.errors import NothingToLearn, SchemaMismatch, TooFewRows
from shared.preprocess import Preprocessor, joined_starts
from shared.series import FloatArray, SiteData
from shared.thresholds import Threshold, fit
from shared.windows import IntArray
from simulations.study.contestant import Float64Array, LeftOut

Span = tuple[int, int]


@dataclass(frozen=True)
class Prepared:
    """One site's normal rows as every contestant gets them.

    Attributes:
        site: name.
        learn_TD, learn_starts: what may be learnt from, float32 (T, D).
        held_TD, held_starts: what is held out, (H, D).
        ends_N: held-out rows that a held-out window ends at: where scores count for the threshold.
        preprocessor: fitted on the rows to learn from.
        step_s: seconds a prepared row.
    """

    site: str
    learn_TD: FloatArray
    learn_starts: tuple[int, ...]
    held_TD: FloatArray
    held_starts: tuple[int, ...]
    ends_N: IntArray
    preprocessor: Preprocessor
    step_s: float


def prepared(site: SiteData, recipe: Recipe) -> Prepared:
    """Split, fill and scale a site's rows as an agent does.

    Raises:
        TooFewRows, NothingToLearn: they do not suffice.
    """
    work = prepare(site, recipe)
    spans = recordings(site, work, recipe)
    return Prepared(
        site=site.name,
        learn_TD=work.train.rows_TD,
        learn_starts=tuple(learnt[0] for learnt, _ in spans),
        held_TD=work.holdout.rows_TD,
        held_starts=tuple(held[0] for _, held in spans if held[1] > held[0]),
        ends_N=work.holdout.starts_N + (recipe.detector.window - 1),
        preprocessor=work.preprocessor,
        step_s=site.schema.period_s * work.preprocessor.every,
    )


def prepare_all(sites: Sequence[SiteData], recipe: Recipe) -> tuple[list[Prepared], list[LeftOut]]:
    """Every site prepared, and those whose rows do not suffice.

    Raises:
        TooFewRows: no site's do.
    """
    plants: list[Prepared] = []
    left: list[LeftOut] = []
    for site in sites:
        try:
            plants.append(prepared(site, recipe))
        except (TooFewRows, NothingToLearn) as error:
            left.append(LeftOut(site.name, f"{error.code} {error.cause}"))
    if not plants:
        raise TooFewRows(f"none of the {len(sites)} sites can take part. {left[0].why}")
    return plants, left


def check_alike(sites: Sequence[SiteData]) -> None:
    """Refuse to lay the rows of plants together that have other tags.

    Raises:
        SchemaMismatch: they do.
    """
    if len({site.schema.fingerprint for site in sites}) > 1:
        cure = "Leave out the mode for this data set."
        raise SchemaMismatch("sites with different tags or sampling have no rows in common to learn from.", cure)


def recordings(site: SiteData, work: Workspace, recipe: Recipe) -> list[tuple[Span, Span]]:
    """Of every recording its rows in the part to learn from and in the held-out part (empty where none is held out)."""
    total = len(work.train.rows_TD) + len(work.holdout.rows_TD)
    starts = joined_starts(site.train_starts, len(site.train_TD), work.preprocessor.every)
    cut = split(np.empty((total, 0), np.float32), starts, recipe)
    held = dict.fromkeys(range(len(cut.train)), 0)
    held |= {follows: len(part) for follows, part in zip(cut.follows, cut.held, strict=True)}
    return list(zip(_spans([len(part) for part in cut.train]), _spans(list(held.values())), strict=True))


def _spans(lengths: list[int]) -> list[Span]:
    ends = list(accumulate(lengths, initial=0))
    return list(pairwise(ends))


def threshold(scores_H: Float64Array, of: Prepared, recipe: Recipe) -> Threshold:
    """The recipe's rule on the scores of held-out rows; rows without a finite score are left out."""
    scores_N = scores_H[of.ends_N]
    finite_N = scores_N[np.isfinite(scores_N)]
    return fit(recipe.threshold.rule, finite_N, recipe.threshold, windows_a_day=86_400.0 / of.step_s)
