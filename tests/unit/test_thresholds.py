import numpy as np
import pytest

from shared.config import ThresholdConfig
from shared.errors import InvalidConfig, RateNotSupported, UnknownName
from shared.thresholds import Threshold, check_rate, effective_size, fit, fit_live, known
from shared.thresholds.mixture import MOST_COMPONENTS, Mixture, best_mixture, em, upper_quantile

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=5_000)


def config(rate: float = 0.01, **more: object) -> ThresholdConfig:
    return ThresholdConfig.model_validate({"false_alarm_rate": rate, **more})


def smooth(n: int, phi: float) -> np.ndarray:
    values = np.empty(n)
    values[0] = 0.0
    noise = np.random.default_rng(1).normal(size=n)
    for i in range(1, n):
        values[i] = phi * values[i - 1] + noise[i]
    return values


def test_the_rules_are_known() -> None:
    assert known() == [
        "conformal", "context", "daily", "dspot", "ensemble", "ewma", "mean-sigma", "mixture", "moving-percentile",
        "pot", "quantile", "settled",]  # fmt: skip
    with pytest.raises(UnknownName, match="threshold rule called 'guess'") as caught:
        fit("guess", NOISE, config())
    assert "conformal, context" in caught.value.cure


def test_mean_sigma_by_hand() -> None:
    threshold = fit("mean-sigma", np.array([1.0, 3.0]), config(sigmas=2.0))
    assert threshold.value == 4.0
    assert threshold.false_alarm_rate is threshold.supported_rate is None


@pytest.mark.parametrize(
    ("n", "rate", "rank", "supported"),
    [(99, 0.01, 99, 0.01), (100, 0.01, 100, 1 / 101), (199, 0.05, 190, 0.05), (19, 0.05, 19, 0.05), (9, 0.5, 5, 0.5)],
)
def test_conformal_takes_the_score_of_its_rank(n: int, rate: float, rank: int, supported: float) -> None:
    threshold = fit("conformal", RNG.permutation(n) + 1.0, config(rate))
    assert threshold.value == rank == np.ceil(round((n + 1) * (1 - rate), 9))
    assert threshold.supported_rate == pytest.approx(supported)
    assert "needs" not in threshold.note


def test_conformal_says_what_it_cannot_support() -> None:
    threshold = fit("conformal", RNG.permutation(40) + 1.0, config(0.01))
    assert threshold.value == 40
    assert threshold.status == "weak"
    assert threshold.supported_rate == pytest.approx(1 / 41)
    assert "at least 99 normal windows; there are 40, which support 0.024" in threshold.note


def test_conformal_keeps_its_rate_on_any_distribution() -> None:
    rng = np.random.default_rng(5)
    heavy = rng.standard_cauchy((400, 600))
    rates = [np.mean(row[200:] > fit("conformal", row[:200], config(0.05)).value) for row in heavy]
    assert np.mean(rates) == pytest.approx(10 / 201, abs=0.004)


def test_quantile_is_numpys_and_owns_up_to_its_rate() -> None:
    threshold = fit("quantile", NOISE, config(0.02))
    assert threshold.value == np.quantile(NOISE, 0.98)
    assert threshold.supported_rate == pytest.approx(0.02, abs=3e-4)
    assert threshold.supported_rate is not None
    assert threshold.supported_rate > 0.02
    assert "at least 99" in fit("quantile", NOISE[:50], config()).note


def test_overlapping_windows_are_worth_fewer() -> None:
    windows = np.convolve(NOISE, np.ones(60) / 60, mode="valid")
    threshold = fit("conformal", windows, config())
    assert threshold.effective_size < 150
    weak = fit("conformal", windows[:2000], config())
    assert weak.status == "weak"
    assert weak.note.startswith("The 2000 windows are worth")
    assert weak.note.endswith("100 are wanted.")


def test_a_lower_rate_wants_more() -> None:
    assert fit("conformal", NOISE[:1500], config(0.01)).status == "ok"
    assert "2000 are wanted" in fit("conformal", NOISE[:1999], config(0.0005)).note


def test_training_scores_are_not_trusted() -> None:
    threshold = fit("mean-sigma", NOISE, config(fit_on="train"))
    assert (threshold.fitted_on, threshold.status) == ("train", "weak")
    assert "training data" in threshold.note


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_effective_size_of_an_autoregression(phi: float) -> None:
    # rho_k = phi^k, so that 1 + 2 sum rho_k = (1 + phi) / (1 - phi).
    n = 20_000
    assert effective_size(smooth(n, phi)) == pytest.approx(n * (1 - phi) / (1 + phi), rel=0.15)


def test_effective_size_does_not_depend_on_the_unit() -> None:
    values = smooth(501, 0.7)
    assert effective_size(values * 1e-200 + 1e-190) == pytest.approx(effective_size(values))
    assert effective_size(-values * 1e200) == pytest.approx(effective_size(values))


@pytest.mark.parametrize("values", [np.ones(1), np.zeros(7), np.arange(2.0), np.arange(9.0), np.tile([0.0, 1.0], 50)])
def test_effective_size_stays_within_bounds(values: np.ndarray) -> None:
    assert 1.0 <= effective_size(values) <= len(values)


def test_alarms_are_strictly_above_and_never_without_a_score() -> None:
    threshold = Threshold(value=0.1, rule="x", fitted_on="holdout", calibration_size=1, effective_size=1.0)
    assert threshold.alarms(np.array([np.nan, 0.1, 0.2, np.inf])).tolist() == [False, False, True, True]
    assert threshold.alarms(np.array([0.1], np.float32)).tolist() == [True]  # 0.1 in float32 is a little more


# ---- by operating mode -----------------------------------------------------------------------------------------------


def threshold_by_mode(**more: object) -> Threshold:
    given = {"value": 1.0, "rule": "x", "fitted_on": "holdout", "calibration_size": 1, "effective_size": 1.0, **more}
    return Threshold.of({**given, "by_mode": (2.0, 3.0)})


def test_a_mode_has_its_own_value_and_an_unknown_one_the_common_value() -> None:
    threshold = threshold_by_mode()
    assert [threshold.value_for(mode) for mode in (0, 1, 2, -1, None)] == [2.0, 3.0, 1.0, 1.0, 1.0]
    alarms = threshold.alarms(np.full(5, 2.5), np.array([0, 1, 2, -1, 0]))
    assert alarms.tolist() == [True, False, True, True, True]
    assert threshold.alarms(np.full(2, 2.5)).tolist() == [True, True]
    assert not threshold.alarms(np.full(1, np.nan), np.array([0])).any()


def test_context_gives_a_noisy_mode_its_own_value_and_no_mode_less_than_all() -> None:
    modes = np.arange(6_000) % 3
    scores = np.random.default_rng(2).normal(size=6_000) + np.array([0.0, -5.0, 4.0])[modes]
    pooled, threshold = fit("conformal", scores, config()), fit("context", scores, config(), modes)
    assert threshold.value == threshold.by_mode[0] == threshold.by_mode[1] == pooled.value
    assert threshold.by_mode[2] == fit("conformal", scores[modes == 2], config()).value > pooled.value
    assert threshold.supported_rate == pooled.supported_rate


def test_context_does_not_believe_a_rare_mode() -> None:
    modes = (np.arange(50_000) >= 49_001).astype(np.int64)
    scores = np.random.default_rng(2).normal(size=50_000) + 9.0 * modes
    rare, enough = fit("context", scores, config(), modes), fit("context", scores[1:], config(), modes[1:])
    assert rare.by_mode == (rare.value, rare.value)  # 999 windows; 10 / 0.01 are wanted
    assert enough.by_mode == (enough.value, enough.value)
    one_more = fit("context", scores[1:], config(), np.append(modes[2:], 1))
    assert one_more.by_mode[1] > one_more.value


@pytest.mark.parametrize("rule", ["context", "mixture", "ensemble"])
def test_windows_without_a_mode_use_the_common_value(rule: str) -> None:
    threshold = fit(rule, NOISE, config(), np.full(5_000, -1))
    assert (threshold.by_mode, threshold.value) == ((), fit(rule, NOISE, config()).value)


# ---- mixture ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_em_is_as_good_as_that_of_scikit_learn(count: int) -> None:
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(7)
    points = np.sort(np.concatenate([rng.normal(-1, 0.4, 900), rng.normal(1.5, 0.8, 500), rng.normal(5, 0.3, 100)]))
    points /= points.std()
    ours = em(points, count)
    theirs = GaussianMixture(count, tol=1e-8, max_iter=5000, n_init=5, random_state=0).fit(points[:, None])
    assert ours.likelihood >= theirs.score(points[:, None]) - 2e-3
    order = np.argsort(theirs.means_[:, 0])
    for mine, others in (
        (ours.mean_C, theirs.means_[:, 0]),
        (ours.weight_C, theirs.weights_),
        (ours.sd_C, np.sqrt(theirs.covariances_[:, 0, 0])),
    ):
        np.testing.assert_allclose(mine, others[order], atol=0.02)


def test_the_number_of_components_is_that_of_the_data() -> None:
    rng = np.random.default_rng(8)
    assert len(best_mixture(np.sort(rng.normal(size=2000))).mean_C) == 1
    two = np.sort(np.concatenate([rng.normal(-2, 0.3, 1000), rng.normal(2, 0.3, 1000)]))
    assert len(best_mixture(two).mean_C) == 2
    assert len(best_mixture(np.sort(rng.standard_cauchy(2000))).mean_C) <= MOST_COMPONENTS


@pytest.mark.parametrize("rate", [0.3, 0.01, 1e-5])
def test_the_quantile_of_a_mixture_is_that_of_its_distribution(rate: float) -> None:
    from scipy.stats import norm

    found = Mixture(np.array([0.7, 0.3]), np.array([0.0, 4.0]), np.array([1.0, 0.2]), 0.0)
    at = upper_quantile(found, rate)
    assert 0.7 * norm.sf(at) + 0.3 * norm.sf(at, 4.0, 0.2) == pytest.approx(rate, rel=1e-6)


def test_a_mixture_that_does_not_fit_says_so() -> None:
    heavy = np.random.default_rng(8).lognormal(0.0, 1.0, size=20_000)
    threshold = fit("mixture", heavy, config(0.0005))
    assert np.mean(threshold.alarms(heavy)) > 2 * 0.0005
    assert "does not fit" in threshold.note


# ---- ensemble --------------------------------------------------------------------------------------------------------


def test_the_ensemble_is_the_median_of_its_members_mode_by_mode() -> None:
    modes = np.arange(5_000) % 2
    scores = NOISE + 2 * modes
    members = ("conformal", "context", "mixture")
    found = [fit(rule, scores, config(), modes) for rule in members]
    threshold = fit("ensemble", scores, config(members=members), modes)
    assert threshold.value == np.median([one.value for one in found])
    assert threshold.by_mode == tuple(np.median([one.value_for(mode) for one in found]) for mode in (0, 1))


def test_an_ensemble_of_nothing_or_itself_is_refused() -> None:
    with pytest.raises(UnknownName, match="'guess'"):
        fit("ensemble", NOISE, config(members=("guess",)))
    with pytest.raises(InvalidConfig, match="own member"):
        fit("ensemble", NOISE, config(members=("pot", "ensemble")))


def test_the_caveats_of_members_are_the_ensembles() -> None:
    threshold = fit("ensemble", NOISE[:50], config(members=("conformal", "quantile", "pot")))
    assert threshold.note.count("at least 99 normal windows") == 1
    assert "separate peaks" in threshold.note


# ---- what the data can carry -----------------------------------------------------------------------------------------


def test_a_threshold_says_which_rates_it_supports() -> None:
    threshold = fit("conformal", NOISE, config())
    independent = threshold.effective_size
    assert threshold.supports(20 / 5_000)
    assert not threshold.supports(0.99 * max(20 / 5_000, 1 / independent))
    assert not fit("conformal", smooth(5_000, 0.98), config()).supports(0.5)  # worth fewer than 100
    assert not fit("conformal", NOISE, config(fit_on="train")).supports(0.01)


def test_a_rate_beyond_the_data_is_refused_with_the_hours_that_are_lacking() -> None:
    # 10,000 windows worth 400: a rate of 0.001 wants 1,000 independent ones, 25,000 windows at this autocorrelation.
    with pytest.raises(RateNotSupported, match="10,000 normal windows, worth 400 independent ones") as caught:
        check_rate(0.001, 10_000, 400.0, windows_an_hour=600.0)
    assert "25 hours more" in caught.value.cure
    assert "ask for 0.0025 or more" in caught.value.cure
    check_rate(0.0025, 10_000, 400.0, 600.0)
    check_rate(0.001, 25_000, 1000.0, 600.0)
    with pytest.raises(RateNotSupported) as caught:
        check_rate(0.01, 1000, 20.0, 3600.0)
    assert "1.1 hours more of normal operation, or use the threshold as a weak one" in caught.value.cure


def test_live_thresholds_are_refused_where_others_are_weak() -> None:
    windows = np.convolve(NOISE, np.ones(60) / 60, mode="valid")
    assert fit("conformal", windows[:2000], config()).status == "weak"
    with pytest.raises(RateNotSupported, match="north has 2,000 normal windows"):
        fit_live("conformal", windows[:2000], config(), 3600.0, what="north")
    with pytest.raises(RateNotSupported, match="that the model was trained on"):
        fit_live("conformal", NOISE, config(fit_on="train"), 3600.0)
    assert fit_live("conformal", NOISE, config(), 3600.0) == fit("conformal", NOISE, config())
    assert fit_live("mean-sigma", windows[:2000], config(), 3600.0).status == "weak"  # promises nothing
