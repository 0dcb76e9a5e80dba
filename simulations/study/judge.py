"""From a contestant and sites to scores and thresholds at every test row. No label comes near this."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared.series import FloatArray, SiteData
from simulations.study.contestant import Contestant, Fitted, Float64Array, Judged, LeftOut, spread
from simulations.study.disturb import disturbed
from simulations.study.entrants import blind


def run(
    contestant: Contestant,
    sites: Sequence[SiteData],
    mode: str,
    seed: int,
    scratch: Path,
    disturbances: Sequence[str] = (),
    portraits: bool = False,
) -> tuple[list[Judged], list[LeftOut]]:
    """Fit a contestant on the sites' normal rows, then score their test rows.

    Args:
        contestant: what to fit.
        sites: as they take part; labels and test rows are taken away before anything is fitted.
        mode, seed: as in `Contestant.fit`.
        scratch: an empty folder.
        disturbances: under which the test rows are scored again by what was fitted, of `DISTURBANCES`.
        portraits: whether to keep what pictures need.

    Returns:
        one a site with test rows, without labels; and the sites that could not be fitted.

    Raises:
        CrossplantError: as `Contestant.fit`.
    """
    found = contestant.fit([blind(site) for site in sites], mode, seed, scratch)
    by_name = {site.name: site for site in sites}
    left = [one for one in found if isinstance(one, LeftOut)]
    fitted = [one for one in found if not isinstance(one, LeftOut) and len(by_name[one.site].test_TD)]
    return [_judged(one, by_name[one.site], seed, disturbances, portraits) for one in fitted], left


def _judged(fitted: Fitted, site: SiteData, seed: int, disturbances: Sequence[str], portraits: bool) -> Judged:
    test_TD = np.asarray(site.test_TD, np.float32)
    started = time.perf_counter()
    scores_T, thresholds_T = _at_rows(fitted, site, test_TD)
    seconds = time.perf_counter() - started
    variants = {
        name: _at_rows(fitted, site, disturbed(name, np.asarray(site.train_TD), test_TD, seed)) for name in disturbances
    }
    judged = Judged(
        site=site.name,
        scores_T=scores_T,
        thresholds_T=thresholds_T,
        starts=site.test_starts,
        period_s=site.schema.period_s,
        train_s=fitted.train_s,
        score_us=1e6 * seconds / max(1, len(test_TD)),
        wire_bytes=fitted.wire_bytes,
        variants=variants,
    )
    return replace(judged, portrait=fitted.portrait(test_TD, site.test_starts)) if portraits else judged


def _at_rows(fitted: Fitted, site: SiteData, test_TD: FloatArray) -> tuple[Float64Array, Float64Array]:
    found = fitted.score(test_TD, site.test_starts)
    where = (found.every, site.test_starts, len(test_TD))
    return spread(found.scores_S, *where, np.nan), spread(found.thresholds_S, *where, np.inf)
