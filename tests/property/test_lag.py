"""The lag model on any plants: their sum is the pooled data's, secretly summed or not; no block shows in a score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.lag import score
from shared.lag.calibrate import calibrated
from shared.lag.learn import fit_mahalanobis, fit_var
from shared.lag.sums import Moments, moments

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def federations(draw: st.DrawFn) -> tuple[list[np.ndarray], int]:
    """One to eight sites' prepared rows, some tags constant or repeated, and a number of lags."""
    rng = np.random.default_rng(draw(SEEDS))
    width, lags = draw(st.integers(1, 6)), draw(st.integers(0, 4))
    mixing = rng.normal(size=(3, width))
    sites = [
        np.clip(rng.normal(size=(draw(st.integers(0, 80)), 3)).cumsum(axis=0) @ mixing / 5, -20, 20)
        for _ in range(draw(st.integers(1, 7)))
    ]
    sites.append(np.clip(rng.normal(size=(60, 3)).cumsum(axis=0) @ mixing / 5, -20, 20))
    for site in sites:
        if draw(st.booleans()):
            site[:, 0] = draw(st.sampled_from([0.0, 3.0]))
        if draw(st.booleans()):
            site[:, -1] = site[:, 0]
    assume(np.ptp(sites[-1], axis=0).any())  # where no tag moves there is nothing to learn
    return sites, lags


def pooled(sites: list[np.ndarray], lags: int) -> Moments:
    starts = np.cumsum([0, *(len(site) for site in sites[:-1])])
    return moments(np.concatenate(sites), tuple(int(start) for start in starts), lags)


def summed(sites: list[np.ndarray], lags: int) -> Moments:
    total = Moments.none(sites[0].shape[1], lags)
    for site in sites:
        total = total + moments(site, lags=lags)
    return total


@settings(max_examples=60, deadline=None)
@given(federations(), SEEDS)
def test_the_sum_of_the_sites_gives_the_pooled_solution_in_any_order(
    federation: tuple[list[np.ndarray], int], seed: int
) -> None:
    sites, lags = federation
    order = np.random.default_rng(seed).permutation(len(sites))
    whole, parts = pooled(sites, lags), summed([sites[k] for k in order], lags)
    assert parts.rows == whole.rows
    for fit in (fit_mahalanobis, fit_var):
        one, other = fit(whole), fit(parts)
        np.testing.assert_allclose(other.mean_LD, one.mean_LD, rtol=1e-8, atol=1e-8)
    one, other = fit_mahalanobis(whole).precision_PP, fit_mahalanobis(parts).precision_PP
    np.testing.assert_allclose(other, one, atol=1e-8 * np.abs(one).max())
    np.testing.assert_allclose(fit_var(parts).weights_ZD, fit_var(whole).weights_ZD, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(federations(), SEEDS)
def test_sums_under_masks_give_the_same_model(federation: tuple[list[np.ndarray], int], seed: int) -> None:
    """Additive masks in whole numbers of 2^-24 modulo 2^64, as secure aggregation sums: no site's numbers are seen."""
    sites, lags = federation
    sent = [moments(site, lags=lags).vector_Q for site in sites]
    rng, masked = np.random.default_rng(seed), []
    masks = [rng.integers(0, 2**64, sent[0].shape, np.uint64) for _ in sites]
    for k, vector_Q in enumerate(sent):
        whole_Q = np.round(vector_Q * 2**24).astype(np.int64).astype(np.uint64)
        masked.append(whole_Q + masks[k] - masks[(k + 1) % len(masks)])
    total_Q = np.sum(masked, axis=0, dtype=np.uint64).astype(np.int64) / 2**24
    found = Moments(total_Q, sites[0].shape[1], lags)
    np.testing.assert_allclose(fit_var(found).weights_ZD, fit_var(pooled(sites, lags)).weights_ZD, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(federations(), SEEDS, st.sampled_from([np.float32, np.float64]))
def test_a_row_scores_alike_in_blocks_of_any_size_and_by_itself(
    federation: tuple[list[np.ndarray], int], seed: int, kind: type[np.floating]
) -> None:
    sites, lags = federation
    learnt, rng = summed(sites, lags), np.random.default_rng(seed)
    held = sites[-1].astype(kind)
    scorer = replace(calibrated(fit_mahalanobis(learnt), fit_var(learnt), held), trail=1)
    live = np.concatenate(sites).astype(kind) + rng.normal(0, 0.3, (sum(map(len, sites)), held.shape[1])).astype(kind)
    live[rng.random(live.shape) < 0.01] = rng.choice([np.nan, np.inf, 1e6])
    starts = (0, int(rng.integers(1, len(live))))
    whole = scorer.score_rows(live, starts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "_BLOCK", int(rng.integers(1, 9)))
        np.testing.assert_allclose(scorer.score_rows(live, starts), whole, rtol=1e-9, atol=1e-9)
    for begin, end in zip(starts, [*starts[1:], len(live)], strict=True):
        alone = [scorer.evidence(live[None, t - lags : t + 1])[0] for t in range(begin + lags, end)]
        np.testing.assert_allclose(whole[begin + lags : end], alone, rtol=1e-9, atol=1e-9)
        assert np.isnan(whole[begin : min(begin + lags, end)]).all()
