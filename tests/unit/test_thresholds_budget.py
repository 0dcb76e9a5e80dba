"""From a budget of false alarms to a rate, and the rate that a threshold really has."""

from __future__ import annotations

import numpy as np
import pytest

from shared.thresholds.budget import Bursts, episodes, mean_episode, rate_for_budget, rate_from_scores, realised
from shared.thresholds.conformal import ranked


def smooth(n: int, seed: int, width: int = 30) -> np.ndarray:
    """Scores of overlapping windows: a moving mean."""
    return np.convolve(np.random.default_rng(seed).normal(size=n + width - 1), np.ones(width) / width, mode="valid")


def test_the_rate_of_a_budget_by_hand() -> None:
    assert rate_for_budget(2.0, 86_400, mean_episode=12) == 24 / 86_400
    assert rate_for_budget(1e9, 86_400) == 0.5  # more than there are


@pytest.mark.parametrize("given", [(0, 10, 1), (1, 0, 1), (1, 10, 0.5), (-1, 10, 1), (np.nan, 10, 1), (1, np.inf, 1)])
def test_a_budget_that_means_nothing_is_refused(given: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="are due"):
        rate_for_budget(*given)


def test_an_episode_ends_with_as_many_quiet_windows_as_it_takes_to_re_arm() -> None:
    alarmed = np.array([1, 0, 1, 0, 0, 1, 1], bool)
    assert episodes(alarmed, gap=1) == [(0, 1), (2, 3), (5, 7)]
    assert episodes(alarmed, gap=2) == [(0, 3), (5, 7)]
    assert episodes(alarmed, gap=3) == [(0, 7)]
    assert mean_episode(alarmed, gap=2) == 2.0
    assert (episodes(~np.ones(3, bool)), mean_episode(~np.ones(3, bool))) == ([], 1.0)


@pytest.mark.parametrize("budget", [1.0, 5.0, 30.0])
def test_the_rate_found_from_scores_gives_the_alarms_that_were_asked_for(budget: float) -> None:
    """One window a second, ten days of calibration, ten others."""
    day = 86_400
    scores, fresh = smooth(10 * day, 1), smooth(10 * day, 2)
    rate = rate_from_scores(scores, budget, day, gap=60)
    found = episodes(fresh > ranked(scores, rate), gap=60)
    assert budget / 2 < len(found) / 10 < budget * 2
    assert rate > budget / day  # an episode has more than one window


def test_a_budget_below_anything_that_was_seen_counts_on_episodes_as_short_as_any_that_were() -> None:
    """One day of calibration, one alarm in a hundred days asked for: no threshold of the ladder shows so few."""
    found = Bursts.of_scores(smooth(86_400, 5), gap=60)
    assert found.episodes[-1] == 0
    shortest = min(w / e for e, w in zip(found.episodes, found.windows, strict=True) if e)
    assert found.rate_for(0.01, 86_400) == pytest.approx(0.01 * shortest / 86_400)


def test_the_interval_knows_that_windows_overlap() -> None:
    scores = smooth(40_000, 3)
    alone = np.random.default_rng(4).permutation(scores)
    limit = float(np.quantile(scores, 0.98))
    together, apart = (realised(series > limit, series, 86_400) for series in (scores, alone))
    assert together.rate == pytest.approx(apart.rate)
    assert together.block >= 4 * 30 * 0.7
    assert together.rate_high - together.rate_low > 3 * (apart.rate_high - apart.rate_low)


def test_the_interval_holds_the_true_rate_nine_times_in_ten() -> None:
    limit, held = 1.645 / np.sqrt(30), 0  # 0.05 of the windows
    for seed in range(100):
        scores = smooth(20_000, 100 + seed)
        found = realised(scores > limit, scores, 86_400, seed=seed)
        held += found.rate_low <= 0.05 <= found.rate_high
    assert 80 <= held <= 98


def test_no_alarm_is_no_proof_of_none() -> None:
    scores = np.random.default_rng(5).normal(size=3000)
    found = realised(scores > 99.0, scores, windows_a_day=1000.0)
    assert (found.rate, found.rate_low, found.alarms_a_day) == (0.0, 0.0, 0.0)
    assert found.rate_high == pytest.approx(3 / 3000, rel=0.1)  # the rule of three
    assert found.alarms_high == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_few_windows_have_no_interval(size: int) -> None:
    found = realised(np.ones(size, bool), np.zeros(size), 10.0)
    assert found.rate == 1.0
    assert np.isnan([found.rate_low, found.rate_high]).all()
