"""One record more moves the clipped sum by at most C: through the real loss, with and without clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.private import clipped_sum, private_exchange
from shared.config import PrivacyConfig
from shared.privacy.mechanisms import Randomness
from tests.support.records import WINDOW, apart, detector, noisy, norm, records, target

SEEDS = st.integers(0, 2**32 - 1)
CLIPS = st.sampled_from([1e-4, 0.01, 0.3, 5.0])
CLUSTERS = st.sampled_from([None, target(), target(alpha=50.0)])
SCALES = st.sampled_from([0.0, 1e-3, 1.0, 1e3, 1e8, 1e25, np.inf, np.nan])
MADE = detector()


def moved(pieces: list[np.ndarray], extra: np.ndarray, clip: float, clusters: object, per_record: int = 2) -> float:
    """Norm of what a record more, put at the beginning, does to the sum."""
    old, new = records(pieces, per_record), records([extra, *pieces], per_record)
    before = clipped_sum(MADE, old, np.arange(len(old)), clusters, clip)  # type: ignore[arg-type]
    after = clipped_sum(MADE, new, np.arange(len(new)), clusters, clip)  # type: ignore[arg-type]
    return apart(before.sums, after.sums)


@settings(deadline=None, max_examples=60)
@given(SEEDS, CLIPS, CLUSTERS, SCALES, st.integers(1, 2))
def test_any_record_moves_the_sum_by_at_most_the_clip(
    seed: int, clip: float, clusters: object, scale: float, windows: int
) -> None:
    extra = noisy([windows], seed=seed + 1, scale=scale)[0]
    assert moved(noisy([2, 1, 2], seed=seed), extra, clip, clusters) <= clip * (1 + 1e-6)


@settings(deadline=None, max_examples=30)
@given(SEEDS, CLIPS, CLUSTERS)
def test_a_record_like_all_others_adds_up_and_not_more(seed: int, clip: float, clusters: object) -> None:
    """Aligned: the same huge record again and again, the worst for a sum."""
    extra = noisy([2], seed=seed, scale=1e3)[0]
    assert moved([extra] * 4, extra, clip, clusters) == pytest.approx(clip, rel=1e-5)
    exact = clipped_sum(MADE, records([extra] * 5, 2), np.arange(5), clusters, clip)  # type: ignore[arg-type]
    assert norm(exact.sums) == pytest.approx(5 * clip, rel=1e-5)


@settings(deadline=None, max_examples=30)
@given(SEEDS, CLIPS, st.sampled_from([1e-4, 1.0, 100.0]))
def test_windows_that_undo_each_other_do_not_slip_through(seed: int, clip: float, scale: float) -> None:
    """Their rows cancel within the record, so its norm is far below what it is made of."""
    window = noisy([1], seed=seed, scale=scale)[0]
    extra = np.concatenate([window, -window])
    assert moved(noisy([2, 2], seed=seed + 1), extra, clip, None) <= clip * (1 + 1e-6)


@settings(deadline=None, max_examples=30)
@given(SEEDS, SCALES, CLUSTERS)
def test_any_record_moves_each_number_of_a_reply_by_its_share_at_most(
    seed: int, scale: float, clusters: object
) -> None:
    pieces, extra = noisy([2, 1, 2], seed=seed), noisy([2], seed=seed + 1, scale=scale)[0]
    privacy = PrivacyConfig(sampling=1.0, loss_cap=3.0)
    old, new = (
        private_exchange(MADE, records(rows, 2), clusters, privacy, 0.1, Randomness(bytes(32)))  # type: ignore[arg-type]
        for rows in (pieces, [*pieces, extra])
    )
    assert abs((new.below - 0.5) * 4 - (old.below - 0.5) * 3) <= 0.5 + 1e-9
    assert abs(new.loss * 4 - old.loss * 3) <= 3.0 * (1 + 1e-6)


def test_the_loss_of_a_window_does_not_depend_on_its_neighbours() -> None:
    windows = torch.from_numpy(np.concatenate(noisy([7])).reshape(7, WINDOW, 3).astype(np.float32))
    for clusters in (None, target()):
        with torch.no_grad():
            together = MADE.losses(windows, clusters)
            alone = torch.cat([MADE.losses(windows[n : n + 1], clusters) for n in range(7)])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(together.mean(), MADE.loss(windows, clusters).total.detach(), rtol=1e-5, atol=1e-6)
