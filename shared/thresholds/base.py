"""What a threshold is, how much its calibration data is worth, and the registry of the rules that set one.

A rule is one file beside this one: a function from normal scores (N,) and the settings to a `Cut`, registered with
`@register("its-name")` and imported by the package. A threshold belongs to one model version, one scale and one site
(notes/privacy.md, section 7.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.artefact import Artefact
from shared.errors import UnknownName
from shared.scoring import Float64Array, check_calibration
from shared.series import BoolArray

if TYPE_CHECKING:
    from shared.config import ThresholdConfig

Scores = NDArray[np.floating[Any]]
Rate = Annotated[float, Meta(gt=0, le=1)]

EFFECTIVE_WANTED = 100  # notes/privacy.md, section 7.3


class Threshold(Artefact, frozen=True, kw_only=True):
    """Where alarms begin, and what that number rests on.

    Attributes:
        value: a window is alarmed when its score is greater; in units of the score.
        rule: how it was set.
        fitted_on: `holdout` (normal data the model was not trained on) or `train`.
        calibration_size: normal windows, n.
        effective_size: how many independent ones they are worth, in [1, n].
        false_alarm_rate: share of normal windows that was asked for; None for a rule that cannot be asked.
        supported_rate: the share that this value stays below if new normal windows are exchangeable with the old ones;
            None where the rule supports none.
        status: `weak` when the data cannot carry the promise: see `fit`.
        note: why it is weak, in words; empty when it is not.
    """

    value: float
    rule: str
    fitted_on: Literal["holdout", "train"]
    calibration_size: Annotated[int, Meta(ge=1)]
    effective_size: Annotated[float, Meta(ge=1)]
    false_alarm_rate: Rate | None = None
    supported_rate: Rate | None = None
    status: Literal["ok", "weak"] = "ok"
    note: str = ""

    def alarms(self, scores_T: Scores) -> BoolArray:
        """Which rows are alarmed, bool (T,). A row without a score (NaN) is not.

        Compared in float64: a float32 score does not round the threshold.
        """
        return scores_T.astype(np.float64) > self.value


@dataclass(frozen=True)
class Cut:
    """What a rule says.

    Attributes:
        value: the threshold.
        false_alarm_rate, supported_rate: as in `Threshold`.
        caveat: why the rule cannot keep what was asked, as a sentence; empty when it can.
    """

    value: float
    false_alarm_rate: float | None = None
    supported_rate: float | None = None
    caveat: str = ""


Rule = Callable[[Float64Array, "ThresholdConfig"], Cut]
_REGISTRY: dict[str, Rule] = {}


def register(name: str) -> Callable[[Rule], Rule]:
    """Decorator: make a rule known under a name."""

    def enter(rule: Rule) -> Rule:
        _REGISTRY[name] = rule
        return rule

    return enter


def known() -> list[str]:
    """Names of the registered rules."""
    return sorted(_REGISTRY)


def fit(rule_name: str, scores_N: Scores, config: ThresholdConfig) -> Threshold:
    """Set a threshold on the scores of normal windows.

    Args:
        rule_name: one of `known()`.
        scores_N: (N,), in order of time (their autocorrelation tells what they are worth), finite.
        config: the rule's settings and where the scores came from.

    Returns:
        the threshold; `weak` when the rule itself has a caveat (too few windows for the rate), when the effective size
        is below max(100, 1 / false_alarm_rate), or when it was fitted on training data, whose scores are too low.

    Raises:
        UnknownName: no such rule.
        TooFewRows: no score.
        NothingToLearn: a score is NaN or infinite.

    Example:
        >>> from shared.config import ThresholdConfig
        >>> fit("conformal", np.arange(1.0, 100.0), ThresholdConfig(false_alarm_rate=0.05)).value
        95.0
    """
    if rule_name not in _REGISTRY:
        raise UnknownName("threshold rule", rule_name, known())
    check_calibration(scores_N, "scores")
    scores = scores_N.astype(np.float64)
    cut, effective = _REGISTRY[rule_name](scores, config), effective_size(scores)
    doubts = [doubt for doubt in (cut.caveat, *_doubts(len(scores), effective, cut, config)) if doubt]
    return Threshold(
        value=cut.value,
        rule=rule_name,
        fitted_on=config.fit_on,
        calibration_size=len(scores),
        effective_size=effective,
        false_alarm_rate=cut.false_alarm_rate,
        supported_rate=cut.supported_rate,
        status="weak" if doubts else "ok",
        note=" ".join(doubts),
    )


def _doubts(size: int, effective: float, cut: Cut, config: ThresholdConfig) -> list[str]:
    doubts = []
    wanted = max(EFFECTIVE_WANTED, 1 / cut.false_alarm_rate if cut.false_alarm_rate else 0)
    if effective < wanted:
        doubts.append(f"The {size} windows are worth {effective:.0f} independent ones; {wanted:.0f} are wanted.")
    if config.fit_on == "train":
        doubts.append("It was fitted on training data, whose scores are lower than those of new normal data.")
    return doubts


def effective_size(scores_N: Float64Array) -> float:
    """How many independent scores an autocorrelated series is worth, `n / (1 + 2 sum_k rho_k)`.

    The sum ends before the first pair of lags (2m, 2m + 1) whose correlations add up to nothing or less: the initial
    positive sequence of Geyer (1992), "Practical Markov Chain Monte Carlo", Statistical Science 7(4).

    Returns:
        a number in [1, n]; 1 for a constant series.

    Example:
        >>> effective_size(np.repeat([0.0, 1.0, 1.0, 0.0, 1.0, 0.0], 50)) < 10
        True
    """
    n = len(scores_N)
    rho_N = _autocorrelation(scores_N)
    pairs_M = np.append(rho_N, np.zeros(n % 2)).reshape(-1, 2).sum(axis=1)
    positive = int(np.argmax(np.append(pairs_M, 0.0) <= 0))
    time = 2 * float(pairs_M[:positive].sum()) - 1  # 1 + 2 sum_k rho_k, with rho_0 = 1 in the first pair
    return float(np.clip(n / max(time, 1.0), 1.0, n))


def _autocorrelation(scores_N: Float64Array) -> Float64Array:
    """Correlation at lags 0..N-1, by FFT of the zero-padded series; all ones for a constant series."""
    n = len(scores_N)
    if np.ptp(scores_N) == 0:
        return np.ones(n)
    centred_N = (scores_N - scores_N.mean()) / np.ptp(scores_N)
    power = np.abs(np.fft.rfft(centred_N, 2 * n)) ** 2
    covariance_N = np.fft.irfft(power, 2 * n)[:n]
    rho_N: Float64Array = covariance_N / covariance_N[0]
    return rho_N
