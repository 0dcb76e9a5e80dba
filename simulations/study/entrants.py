"""Which sites take part in which mode. A data set of one plant has nothing to federate: its training time is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from shared.config import Recipe
from shared.errors import TooFewRows
from shared.series import SiteData
from simulations.partition import cut
from simulations.study.contestant import LOCAL

BLOCKS = (4, 3, 2)
"""Blocks of time that one plant's training rows become, the first number that leaves each enough to hold some out."""

_HELD = 1.5  # windows that a block holds out, at least


def entrants(sites: Sequence[SiteData], mode: str, recipe: Recipe) -> tuple[SiteData, ...]:
    """The sites as a mode gets them.

    Several sites take part as they are. One site: `local` is the whole of it; in the other modes its training rows are
    cut into blocks of time, each a site that calibrates for itself and is tested on the whole test recording. So
    federated and central differ in where training happens alone; `local` is what the plant has without cutting.

    Raises:
        TooFewRows: one site, too short to be cut.
    """
    if len(sites) > 1 or mode == LOCAL:
        return tuple(sites)
    (site,) = sites
    return tuple(
        replace(block, test_TD=site.test_TD, labels_T=site.labels_T, test_starts=site.test_starts)
        for block in cut(_without_test(site), _blocks(site, recipe))
    )


def _blocks(site: SiteData, recipe: Recipe) -> int:
    least = math.ceil(_HELD * recipe.detector.window / recipe.training.holdout) * recipe.preprocess.every
    for count in BLOCKS:
        if len(site.train_TD) // count >= least:
            return count
    cause = f"{site.name} has {len(site.train_TD)} training rows, too few for two blocks of {least} to federate."
    raise TooFewRows(cause, "Compare it in the mode local.")


def _without_test(site: SiteData) -> SiteData:
    return replace(site, test_TD=site.test_TD[:0], labels_T=None, test_starts=(0,))


def blind(site: SiteData) -> SiteData:
    """A site without labels and without test rows: what a contestant is fitted on."""
    return _without_test(site)
