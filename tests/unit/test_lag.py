"""The federated lag model: what its sums are, what it survives, what its prior and its noise do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import (
    BadPayload,
    InvalidConfig,
    NoiseDrowns,
    NothingToLearn,
    SchemaMismatch,
    TooFewRows,
)
from shared.lag.calibrate import calibrated, chosen_trail
from shared.lag.gaussian import gaussian
from shared.lag.learn import conditional, fit_mahalanobis, fit_var
from shared.lag.prior import USUAL, as_here, chosen_rows, pieces, with_prior
from shared.lag.private import private_moments, record_vectors, usual_radius
from shared.lag.score import LagScorer, trailing
from shared.lag.sums import Moments, lagged, moments, parse, vector_size
from shared.privacy.mechanisms import Randomness

LAGS, DIM = 3, 4


def walk(rows: int, seed: int = 0, dim: int = DIM, coupling: int = 0) -> np.ndarray:
    """A stable vector autoregression of order 1, about standardised; `coupling` draws its matrices."""
    rng = np.random.default_rng(coupling)
    turn, mixing = np.linalg.qr(rng.normal(size=(dim, dim)))[0], rng.normal(size=(dim, dim)) / np.sqrt(dim)
    noise, found = np.random.default_rng(seed + 1000).normal(size=(rows + 50, dim)) @ mixing, np.zeros((rows + 50, dim))
    for t in range(1, rows + 50):
        found[t] = 0.9 * turn @ found[t - 1] + noise[t]
    return found[50:] / found.std(axis=0)


@pytest.fixture(scope="module")
def calm() -> np.ndarray:
    return walk(4000)


@pytest.fixture(scope="module")
def scorer(calm: np.ndarray) -> LagScorer:
    learnt = moments(calm[:3000], lags=LAGS)
    return calibrated(fit_mahalanobis(learnt), fit_var(learnt), calm[3000:])


# ---- sums --------------------------------------------------------------------------------------------------------


def test_moments_are_the_sums_of_outer_products_of_lagged_rows(calm: np.ndarray) -> None:
    rows, found = calm[:50], np.zeros((1 + 3 * DIM, 1 + 3 * DIM))
    for t in range(2, 50):
        v = np.concatenate([[1.0], rows[t], rows[t - 1], rows[t - 2]])
        found += np.outer(v, v)
    np.testing.assert_allclose(moments(rows, lags=2).matrix_PP, found, rtol=1e-12)


def test_no_lagged_row_straddles_two_recordings(calm: np.ndarray) -> None:
    whole = moments(calm[:90], (0, 40, 42), LAGS)
    assert whole.rows == 37 + 0 + 45
    parts = moments(calm[:40], lags=LAGS) + moments(calm[42:90], lags=LAGS)
    np.testing.assert_allclose(whole.vector_Q, parts.vector_Q, rtol=1e-12)


def test_blocks_give_what_one_piece_gives(calm: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = moments(calm, (0, 1000), LAGS)
    monkeypatch.setattr("shared.lag.sums._CELLS", 200)
    np.testing.assert_allclose(moments(calm, (0, 1000), LAGS).vector_Q, whole.vector_Q, rtol=1e-9, atol=1e-8)


def test_lagged_rows_with_a_gap_are_left_out(calm: np.ndarray) -> None:
    holed = np.array(calm[:100])
    holed[50, 1] = np.nan
    whole, left = moments(holed, lags=LAGS), moments(calm[:50], lags=LAGS) + moments(calm[51:100], lags=LAGS)
    assert whole.rows == 100 - LAGS - (LAGS + 1)
    np.testing.assert_allclose(whole.vector_Q, left.vector_Q, rtol=1e-12)


def test_fewer_lags_are_a_block_of_more(calm: np.ndarray) -> None:
    narrow = moments(calm, lags=LAGS).narrowed(1)
    np.testing.assert_allclose(narrow.matrix_PP, moments(calm[LAGS - 1 :], lags=1).matrix_PP, rtol=1e-9)
    with pytest.raises(SchemaMismatch):
        narrow.narrowed(2)


def test_moments_of_other_tags_or_lags_do_not_add_up(calm: np.ndarray) -> None:
    for other in (moments(calm[:, :3], lags=LAGS), moments(calm, lags=2)):
        with pytest.raises(SchemaMismatch):
            moments(calm, lags=LAGS) + other
        with pytest.raises(SchemaMismatch):
            moments(calm, lags=LAGS) - other


def test_moments_cannot_be_changed(calm: np.ndarray) -> None:
    with pytest.raises(ValueError, match="read-only"):
        moments(calm, lags=1).vector_Q[0] = 1.0


def test_the_wire_gives_back_what_was_sent(calm: np.ndarray) -> None:
    sent = moments(calm, lags=LAGS)
    np.testing.assert_array_equal(parse(sent.vector_Q, DIM, LAGS, most=20.0).vector_Q, sent.vector_Q)


def _changed(vector_Q: np.ndarray, at: int, to: float) -> np.ndarray:
    changed = np.array(vector_Q)
    changed[at] = to
    return changed


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: v[:-1],
        lambda v: v.astype(np.float32),
        lambda v: v.reshape(1, -1),
        lambda v: _changed(v, 3, np.nan),
        lambda v: _changed(v, 3, np.inf),
        lambda v: _changed(v, 0, -1.0),  # rows
        lambda v: _changed(v, 0, 1e12),
        lambda v: _changed(v, -1, -1.0),  # a sum of squares
        lambda v: _changed(v, -1, 1e9),
        lambda v: _changed(v, 1, 1e5),  # a mean beyond its square
        lambda v: _changed(v, -2, 1e5),
    ],
)
def test_what_no_plant_can_have_summed_is_refused(calm: np.ndarray, damage: object) -> None:
    with pytest.raises(BadPayload):
        parse(damage(moments(calm, lags=LAGS).vector_Q), DIM, LAGS, most=20.0)  # type: ignore[operator]


# ---- models ------------------------------------------------------------------------------------------------------


def test_the_var_finds_the_matrix_that_made_the_rows() -> None:
    rows = walk(60_000)
    turn, spread = 0.9 * np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0], _spread()
    expected = turn / spread[:, None] * spread[None, :]  # `walk` divides its rows by their spread
    np.testing.assert_allclose(fit_var(moments(rows, lags=1)).weights_ZD.T, expected, atol=0.03)


def _spread() -> np.ndarray:
    """Standard deviations of `walk` before it is scaled, from its stationary covariance S = A S A' + M."""
    rng = np.random.default_rng(0)
    turn, mixing = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0], rng.normal(size=(DIM, DIM)) / np.sqrt(DIM)
    covariance = np.zeros((DIM, DIM))
    for _ in range(500):
        covariance = 0.81 * turn @ covariance @ turn.T + mixing.T @ mixing
    return np.sqrt(np.diagonal(covariance))


def test_the_var_is_the_ridge_regression_of_the_same_shrinkage(calm: np.ndarray) -> None:
    """B = (R_zz + k I)^-1 R_zy, k = r / (1 - r), in units of spread."""
    found, share = gaussian(moments(calm, lags=2)), 0.1
    spread = np.sqrt(np.diagonal(found.covariance_PP))
    unitless, ahead = found.covariance_PP / np.outer(spread, spread), 2 * DIM
    ridge = share / (1 - share) * np.eye(ahead)
    expected = np.linalg.solve(unitless[:ahead, :ahead] + ridge, unitless[:ahead, ahead:])
    expected = expected * spread[ahead:] / spread[:ahead, None]
    np.testing.assert_allclose(fit_var(moments(calm, lags=2), share).weights_ZD, expected, rtol=1e-9, atol=1e-12)


def test_the_residual_is_white_on_average_where_data_are_plenty() -> None:
    rows = walk(50_000)
    model = fit_var(moments(rows, lags=1))
    windows = np.stack([rows[:-1], rows[1:]], axis=1)
    assert model.score(windows).mean() == pytest.approx(1.0, abs=0.03)


def test_t2_is_the_residual_and_the_t2_of_the_rows_before(calm: np.ndarray) -> None:
    joint = fit_mahalanobis(moments(calm, lags=1), 0.05)
    var = conditional(joint)
    windows = np.stack([calm[:-1], calm[1:]], axis=1)
    covariance_PP = np.linalg.inv(joint.precision_PP)
    before = calm[:-1] - joint.mean_LD[0]
    before_N = np.einsum("nd,nd->n", before @ np.linalg.inv(covariance_PP[:DIM, :DIM]), before)
    np.testing.assert_allclose(2 * DIM * joint.score(windows), DIM * var.score(windows) + before_N, rtol=1e-9)


@pytest.mark.parametrize("rows", [6, 40, 4000])
def test_constant_repeated_and_too_few_rows_do_no_harm(calm: np.ndarray, rows: int) -> None:
    wide = np.concatenate([calm[:rows], np.zeros((rows, 1)), np.full((rows, 1), 3.0), calm[:rows, :2]], axis=1)
    learnt = moments(wide, lags=LAGS)
    windows = np.stack([wide[t - LAGS : t + 1] for t in range(LAGS, rows)])
    for model in (fit_mahalanobis(learnt), fit_var(learnt)):
        scores = model.score(windows)
        assert np.isfinite(scores).all()
        moved = np.array(windows[-1:])
        moved[:, -1, DIM + 1] += 5.0  # what never moved, moves
        assert model.score(moved)[0] > scores.max()


def test_rows_of_which_none_moves_teach_nothing() -> None:
    for rows in (np.zeros((50, 2)), np.full((50, 2), 3.0)):
        with pytest.raises(NothingToLearn):
            fit_mahalanobis(moments(rows, lags=1))


def test_too_few_rows_are_told(calm: np.ndarray) -> None:
    for learnt in (Moments.none(DIM, LAGS), moments(calm[: LAGS + 1], lags=LAGS)):
        with pytest.raises(TooFewRows):
            fit_var(learnt)


def test_738_columns_are_fitted_and_scored() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(1200, 20)).cumsum(axis=0) @ rng.normal(size=(20, 123))).astype(np.float32)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    learnt = moments(rows, lags=5)
    assert learnt.vector_Q.nbytes == 2_187_440
    assert np.isfinite(fit_var(learnt).score(np.stack([rows[t : t + 6] for t in range(20)]))).all()


# ---- scores ------------------------------------------------------------------------------------------------------


def test_normal_scores_are_centred_and_a_broken_relation_stands_out(scorer: LagScorer) -> None:
    rows = walk(2000, seed=5)
    normal = scorer.score_rows(rows)
    assert np.isnan(normal[:LAGS]).all()
    assert abs(np.nanmedian(normal)) < 0.5
    rows[1000:, 2] += 2.0
    assert np.median(scorer.score_rows(rows)[1040:]) > np.nanquantile(normal, 0.95)


def test_a_row_that_is_no_number_is_not_known_to_be_normal(scorer: LagScorer) -> None:
    scorer, rows = replace(scorer, trail=1), walk(60, seed=7)
    rows[30, 1] = np.nan
    scores = scorer.score_rows(rows)
    assert np.flatnonzero(np.isinf(scores)).tolist() == [30, 31, 32, 33]


def test_the_trailing_mean_knows_neither_future_nor_another_recording(scorer: LagScorer) -> None:
    smooth, plain, rows = replace(scorer, trail=5), replace(scorer, trail=1), walk(80, seed=8)
    scores, single = smooth.score_rows(rows, (0, 40)), plain.score_rows(rows, (0, 40))
    assert scores[LAGS] == single[LAGS]
    np.testing.assert_allclose(scores[43], single[43])
    np.testing.assert_allclose(scores[70], single[66:71].mean())


def test_a_trailing_mean_is_chosen_where_it_quietens_normal_scores() -> None:
    rng = np.random.default_rng(0)
    noisy, slow = rng.normal(size=5000), np.repeat(rng.normal(size=50), 100)
    assert chosen_trail([noisy], shortest=100) > 8
    assert chosen_trail([slow], shortest=100) == 1  # averaging delays, and quietens nothing
    assert chosen_trail([noisy], shortest=8) == 4  # a mean over all of an event's rows sees it when it ends
    assert chosen_trail([noisy], shortest=8, trails=(4, 5)) == 4  # 3 % more are not worth a later alarm
    assert chosen_trail([noisy], shortest=100, trails=(1,)) == 1


def test_trailing_means_of_the_first_values_are_over_what_there_is() -> None:
    np.testing.assert_allclose(trailing(np.arange(5.0), 3), [0, 0.5, 1, 2, 3])


def test_other_columns_are_refused(scorer: LagScorer, calm: np.ndarray) -> None:
    with pytest.raises(SchemaMismatch):
        scorer.score_rows(calm[:, :2])
    with pytest.raises(SchemaMismatch):
        moments(calm[0], lags=1)


def test_a_scale_needs_held_out_rows(scorer: LagScorer, calm: np.ndarray) -> None:
    with pytest.raises(TooFewRows):
        calibrated(scorer.mahalanobis, scorer.var, calm[:LAGS])


def test_an_edge_box_loads_neither_torch_nor_pydantic_nor_cryptography() -> None:
    forbidden = "('torch', 'flwr', 'pydantic', 'cryptography', 'scipy', 'shared.wire', 'shared.model')"
    code = f"import sys, shared.lag; print([m for m in {forbidden} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- prior -------------------------------------------------------------------------------------------------------


def test_a_plant_with_few_rows_takes_much_from_plants_like_it() -> None:
    others = moments(walk(20_000, seed=1), lags=LAGS)
    few = walk(40, seed=2)
    chosen = chosen_rows(pieces(few, (0,), LAGS), others)
    assert chosen >= 16
    own, later = moments(few, lags=LAGS), walk(5000, seed=3)
    windows = np.stack([later[t : t + LAGS + 1] for t in range(4000)])
    errors = [np.mean(fit_var(m).residuals(windows) ** 2) for m in (own, with_prior(own, others, chosen))]
    assert errors[1] < 0.95 * errors[0]


def test_what_is_borrowed_fades_with_own_rows() -> None:
    others = moments(walk(20_000, seed=1), lags=LAGS)
    chosen = [chosen_rows(pieces(walk(rows, seed=2), (0,), LAGS), others) for rows in (40, 120, 2000)]
    assert chosen[0] > 2 * chosen[1] > 4 * chosen[2]
    assert chosen[2] < 0.01 * 2000


def test_a_plant_unlike_the_others_keeps_its_own_model() -> None:
    unlike = moments(walk(20_000, seed=1, coupling=7), lags=LAGS)
    assert chosen_rows(pieces(walk(1000, seed=2), (0,), LAGS), unlike) == 0.0


def test_without_others_or_own_pieces_the_rule_is_told() -> None:
    others, few = moments(walk(500), lags=LAGS), walk(6, seed=2)
    assert chosen_rows(pieces(few, (0,), LAGS), others) == USUAL * 16
    assert chosen_rows(pieces(walk(300), (0,), LAGS), Moments.none(DIM, LAGS)) == 0.0


@pytest.mark.parametrize("own", [20, 40, 64, 320, 3200])
def test_the_prior_fades_as_the_square_of_own_rows_from_twice_as_many_as_columns_on(own: int) -> None:
    """However likely the others make them: an anomaly is told by what a plant does in its own way."""
    others, found = moments(walk(20_000, seed=1), lags=LAGS), pieces(walk(own, seed=2), (0,), LAGS)
    columns, counted = (LAGS + 1) * DIM, sum(piece.rows for piece in found)
    worth = 1.0 if len(found) >= 3 else USUAL
    due = worth * columns if counted <= 2 * columns else worth * columns * (2 * columns / counted) ** 2
    assert chosen_rows(found, others, worths=(1.0,)) == pytest.approx(due)


def test_a_tag_that_stands_still_here_is_not_moved_by_the_others() -> None:
    """What others say of its spread is in no unit of this plant's."""
    own_TD, others_TD = walk(300, seed=2), walk(5000, seed=1)
    own_TD[:, 1] = 0.5
    others = moments(others_TD, lags=LAGS)
    others_TD[:, 1] = 0.5
    seen = as_here(moments(own_TD, lags=LAGS), others)
    np.testing.assert_allclose(seen.matrix_PP, moments(others_TD, lags=LAGS).matrix_PP, rtol=1e-9, atol=1e-8)
    moved = np.array(own_TD[None, 10 : 10 + LAGS + 1])
    moved[0, -1, 1] += 1.0
    alone, prior = (
        fit_mahalanobis(m) for m in (moments(own_TD, lags=LAGS), with_prior(moments(own_TD, lags=LAGS), others, 300))
    )
    assert prior.score(moved)[0] > 0.5 * alone.score(moved)[0]
    assert as_here(Moments.none(DIM, LAGS), others) is others


def test_the_prior_fades_with_a_plants_own_rows() -> None:
    others = moments(walk(5000, seed=1, coupling=7), lags=1)
    found = []
    for rows in (100, 1000, 20_000):
        own = moments(walk(rows, seed=2), lags=1)
        found.append(np.abs(fit_var(with_prior(own, others, 200.0)).weights_ZD - fit_var(own).weights_ZD).max())
    assert found[0] > 1.5 * found[1]
    assert found[1] > 5 * found[2]


def test_pieces_share_no_lagged_row_and_lose_none_but_at_the_seams(calm: np.ndarray) -> None:
    found = pieces(calm[:1000], (0, 500), LAGS, 5)
    assert [piece.rows for piece in found] == [197, 197, 194, 197, 197]


# ---- privacy -----------------------------------------------------------------------------------------------------


def test_without_noise_or_clipping_private_moments_are_those_of_segments(calm: np.ndarray) -> None:
    found = private_moments(calm[:200], (0,), LAGS, 20, 0.0, Randomness(bytes(32)), radius=1e9)
    starts = tuple(range(0, 200, 20))
    np.testing.assert_allclose(found.vector_Q, moments(calm[:200], starts, LAGS).vector_Q, rtol=1e-9)


def test_one_segment_moves_the_sum_by_no_more_than_stated(calm: np.ndarray) -> None:
    radius, unit = usual_radius(DIM, LAGS), 20
    for size in (1.0, 100.0, np.nan):
        changed = np.array(calm[:200])
        changed[40:60] *= size
        without = np.delete(calm[:200], slice(40, 60), axis=0)
        found = [
            private_moments(rows, (0,), LAGS, unit, 0.0, Randomness(bytes(32))).vector_Q for rows in (changed, without)
        ]
        assert np.linalg.norm(found[0] - found[1]) <= radius * (unit - LAGS) * (1 + 1e-9)


def test_the_noise_is_as_large_as_stated(calm: np.ndarray) -> None:
    exact, noised = (private_moments(calm[:200], (0,), LAGS, 20, z, Randomness(bytes(range(32)))) for z in (0.0, 3.0))
    assert (exact.noise_sd, noised.noise_sd) == (0.0, 3.0 * usual_radius(DIM, LAGS) * 17)
    assert np.std(noised.vector_Q - exact.vector_Q) == pytest.approx(noised.noise_sd, rel=0.2)
    both = noised + noised
    assert both.noise_sd == pytest.approx(noised.noise_sd * np.sqrt(2))


def test_noised_moments_of_many_segments_still_find_what_breaks() -> None:
    noised = private_moments(walk(60_000), (0,), 1, 20, 1.0, Randomness(bytes(32)))
    later = walk(1000, seed=4)
    windows = np.stack([later[:-1], later[1:]], axis=1)
    exact, private = fit_var(moments(walk(60_000), lags=1)).score(windows), fit_var(noised).score(windows)
    assert np.corrcoef(np.log(exact), np.log(private))[0, 1] > 0.9


def test_the_count_bears_five_times_the_multiplier(calm: np.ndarray) -> None:
    """In records, whatever the number of columns: it would drown first."""
    counts = [
        private_moments(calm[:200], (0,), LAGS, 20, 2.0, Randomness(key.to_bytes(32, "little"))).rows / 17
        for key in range(300)
    ]
    assert np.mean(counts) == pytest.approx(10, abs=2)
    assert np.std(counts) == pytest.approx(10, rel=0.15)


def test_noise_that_leaves_no_row_is_told() -> None:
    with pytest.raises(NoiseDrowns):
        fit_var(Moments(np.zeros(vector_size(1, 1)), 1, 1, noise_sd=1.0))


def test_noise_that_drowns_a_plant_leaves_a_model(calm: np.ndarray) -> None:
    noised = private_moments(calm, (0,), LAGS, 20, 5.0, Randomness(bytes(32)))
    model = fit_mahalanobis(noised)
    np.linalg.cholesky(model.precision_PP)


def test_segments_shorter_than_the_lags_are_refused(calm: np.ndarray) -> None:
    with pytest.raises(InvalidConfig):
        private_moments(calm, (0,), LAGS, LAGS, 1.0, Randomness(bytes(32)))
    assert not list(record_vectors(np.full((20, DIM), np.nan), (0,), LAGS, 10))


def test_sizes_on_the_wire(calm: np.ndarray) -> None:
    assert moments(calm, lags=LAGS).vector_Q.shape == (vector_size(DIM, LAGS),)
    assert lagged(calm[:2], LAGS).shape == (0, 16)
