"""Fitting a judge: which rows each model may look at, what it borrows, and how much each channel counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from shared.evidence import fit
from shared.evidence.fit import Choice, Normal, fit_judge
from shared.evidence.judge import channel_logs
from shared.evidence.kinds import Kinds
from shared.evidence.models import QUIET, Models
from shared.evidence.weigh import skills
from shared.lag.learn import fit_mahalanobis
from shared.lag.prior import with_prior
from shared.lag.sums import Moments, Values, moments
from shared.series import BoolArray
from tests.unit.test_evidence import JUDGE, SMALL, alike, normal, plant

HERE = Choice(lags=0, lengths=(3, 6), prototypes=16, shortest=10)


def asked(monkeypatch: pytest.MonkeyPatch, found: Normal) -> list[tuple[Models, tuple[int, ...], BoolArray]]:
    """Models that say something of rows that they have not seen: with the starts that were given and those rows."""
    calls = []

    def listening(
        models: Models, rows_TD: Values, starts: Sequence[int], inside_T: BoolArray, *rest: np.ndarray | None
    ) -> np.ndarray:
        calls.append((models, tuple(starts), inside_T))
        return channel_logs(models, rows_TD, starts, inside_T, *rest)

    monkeypatch.setattr(fit, "channel_logs", listening)
    fit_judge(found, HERE)
    assert sum(inside_T.astype(int) for _, _, inside_T in calls).tolist() == found.scored_T.astype(int).tolist()
    assert len(calls) == 4
    return calls


def test_each_block_is_judged_by_what_was_fitted_on_the_others_and_from_its_own_beginning_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = normal(plant(), (0, 170))
    assert found.residual_TD is not None
    for models, starts, inside_T in asked(monkeypatch, found):
        np.testing.assert_allclose(
            models.joint.mean_LD[0], found.rows_TD[~inside_T].mean(axis=0, dtype=float), atol=1e-6
        )
        assert models.network is not None
        np.testing.assert_allclose(
            models.network.mean_KD[-1], found.residual_TD[~inside_T].mean(axis=0, dtype=float), atol=1e-6
        )
        begins_T = inside_T & ~np.append(False, inside_T[:-1])
        assert {*np.flatnonzero(begins_T).tolist(), 0, 170} <= {*starts}


@pytest.mark.parametrize(("unseen", "preferred"), [(slice(None, None, 2), True), (slice(0, 5), False)])
def test_residuals_are_learnt_from_rows_that_the_network_was_not_trained_on_where_there_are_enough(
    unseen: slice, preferred: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = normal(plant())
    assert found.residual_TD is not None
    unseen_T = np.zeros(len(found.rows_TD), np.bool_)
    unseen_T[unseen] = True
    found.residual_TD[unseen_T] += 0.5
    for models, _, inside_T in asked(monkeypatch, replace(found, unseen_T=unseen_T)):
        learnt_T = ~inside_T & unseen_T if preferred else ~inside_T
        assert models.network is not None
        np.testing.assert_allclose(models.network.mean_KD[-1], found.residual_TD[learnt_T].mean(axis=0), atol=1e-6)


def test_the_networks_scale_is_that_of_rows_that_it_was_not_trained_on_and_every_other_of_all() -> None:
    found = normal(plant())
    assert found.residual_TD is not None
    unseen_T = np.arange(len(found.rows_TD)) % 2 == 0
    found.residual_TD[unseen_T] *= 4
    made = fit_judge(replace(found, unseen_T=unseen_T), SMALL)
    for c, name in enumerate(made.judge.models.channels):
        rows_T = unseen_T if name in ("network", "rebuilt") else np.ones_like(unseen_T)
        assert made.judge.median_C[c] == np.median(made.logs_TC[rows_T, c]), name
    assert np.median(made.logs_TC[~unseen_T, -1]) < made.judge.median_C[-1] - 1


def test_a_tag_that_jumps_now_and_then_is_held_to_its_own_jumps() -> None:
    rng = np.random.default_rng(0)
    rows_TD = np.stack([rng.normal(size=4000), rng.standard_t(2, size=4000)], axis=1).astype(np.float32)
    made = fit_judge(Normal(rows_TD, (0,), np.ones(4000, np.bool_)), HERE)
    calm, jumpy = made.judge.models.tails_D
    assert 0.8 < calm < 1.3
    assert jumpy > 2
    step_T = np.exp(made.logs_TC[:, 1]) - QUIET
    assert np.quantile(step_T, 0.998) == pytest.approx(3.29, rel=0.1)  # of a bell curve, one of two tags: once in 500


def test_a_judges_lag_model_is_of_its_own_rows_and_as_many_of_the_others_as_it_borrows() -> None:
    others, rows_TD = moments(np.concatenate([alike(2000, 8), alike(2000, 9)]), (0, 2000), SMALL.lags), alike(60, 1)
    helped = fit_judge(normal(rows_TD), SMALL, others)
    own = moments(rows_TD, (0,), SMALL.lags)
    expected = fit_mahalanobis(with_prior(own, others, helped.borrowed))
    assert helped.borrowed > 0
    np.testing.assert_array_equal(helped.judge.models.joint.precision_PP, expected.precision_PP)
    alone = fit_mahalanobis(with_prior(own, Moments.none(6, SMALL.lags), 0.0))
    assert not np.allclose(alone.precision_PP, expected.precision_PP)


# ---- weights ---------------------------------------------------------------------------------------------------------


def weights(analogue: int, still: int, usual: float, rebuilt: float | None) -> dict[str, float]:
    """Before they are made to add up to 1, less what every channel has; `JUDGE` has courses of 3 and 6 rows.

    Args:
        analogue, still: tags of each kind, of 5; the rest is coded.
        usual: distance of an ordinary course from the nearest known one.
        rebuilt: residual over standard deviation; None: no network.
    """
    kind_D = np.repeat([0, 1, 2], [analogue, still, 5 - analogue - still])
    kinds = Kinds(kind_D == 0, kind_D == 2, kind_D == 1)
    names = JUDGE.models.channels
    median_C = np.full(len(names), np.log(usual + QUIET))
    rows_TD = np.tile(np.array([[-1.0], [1.0]], np.float32), (50, 5))
    seen_T = np.arange(100) < 50
    residual_TD = None if rebuilt is None else np.where(seen_T[:, None], 0.0, rows_TD * rebuilt)
    found = Normal(rows_TD, (0,), np.ones(100, np.bool_), residual_TD, unseen_T=~seen_T)
    weight_C = skills(JUDGE.models, median_C, kinds, found)
    assert weight_C.sum() == pytest.approx(1)
    least = 1e-3 * weight_C / weight_C.min() if rebuilt is None else weight_C
    return dict(zip(names, least - 1e-3 if rebuilt is None else weight_C, strict=True))


@pytest.mark.parametrize(("analogue", "lagged"), [(1, 0.0), (2, 0.25), (4, 0.5625)])
def test_relations_need_two_tags_that_measure(analogue: int, lagged: float) -> None:
    found = weights(analogue, 0, 2.0, None)
    for name in ("joint", "step 4", "step 12"):
        assert found[name] == pytest.approx(lagged, abs=1e-9)
    assert (found["shape 3"], found["network"]) == (0, 0)


@pytest.mark.parametrize(("usual", "still", "shaped"), [(0.0, 0, 1.0), (0.5, 0, 0.25), (0.25, 3, 0.25), (1.5, 0, 0.0)])
def test_courses_count_by_how_well_those_of_moving_tags_are_known(usual: float, still: int, shaped: float) -> None:
    """One tag moves; three that stand still are known for nothing: 0.25 together is 0.5 of the one."""
    found = weights(1, still, usual, None)
    assert found["shape 3"] == found["shape 6"] == pytest.approx(shaped / 2, abs=1e-9)


def test_a_network_counts_by_what_it_rebuilds_of_rows_that_it_was_not_trained_on() -> None:
    found = weights(2, 0, 2.0, 0.5)
    assert found["network"] == found["rebuilt"]
    assert found["network"] / found["joint"] == pytest.approx((0.25 / 2 + 1e-3) / (0.25 + 1e-3))
