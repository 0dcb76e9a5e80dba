import numpy as np
import pytest

from shared.config import ThresholdConfig
from shared.errors import NothingToLearn, TooFewRows, UnknownName
from shared.thresholds import Threshold, effective_size, fit, known

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
    assert known() == ["conformal", "mean-sigma", "quantile"]
    with pytest.raises(UnknownName, match="threshold rule called 'guess'") as caught:
        fit("guess", NOISE, config())
    assert "conformal, mean-sigma, quantile" in caught.value.cure


@pytest.mark.parametrize("rule", ["conformal", "mean-sigma", "quantile"])
def test_every_rule(rule: str) -> None:
    threshold = fit(rule, NOISE, config())
    assert (threshold.rule, threshold.fitted_on, threshold.calibration_size) == (rule, "holdout", 5_000)
    assert (threshold.status, threshold.note) == ("ok", "")
    assert Threshold.parse(threshold.json) == threshold
    assert fit(rule, NOISE[::-1].copy(), config()).value == pytest.approx(threshold.value)
    assert fit(rule, NOISE.astype(np.float32), config()).value == pytest.approx(threshold.value, abs=1e-5)
    with pytest.raises(TooFewRows):
        fit(rule, np.zeros(0), config())
    with pytest.raises(NothingToLearn, match="2 of 3 calibration scores"):
        fit(rule, np.array([1.0, np.nan, np.inf]), config())
    assert fit(rule, np.array([2.0]), config()).value == 2.0
    assert fit(rule, np.full(300, 2.0), config()).status == "weak"  # one value tells nothing about independence


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
