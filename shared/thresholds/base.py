"""What a threshold is, and the registry of the rules that set one.

A rule is one file beside this one: a function from the scores of normal windows (`Normal`) and the settings
(`Settings`) to a `Cut`, registered with `@register("its-name")` and imported by the package. A threshold belongs to
one model version, one scale and one site (docs/edge/thresholds.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.artefact import Artefact
from shared.errors import UnknownName
from shared.scoring import Float64Array, check_calibration
from shared.series import BoolArray
from shared.thresholds.worth import doubts, effective_size, windows_wanted
from shared.windows import IntArray

Scores = NDArray[np.floating[Any]]
Rate = Annotated[float, Meta(gt=0, le=1)]
Kind = Literal["moving-percentile", "ewma", "dspot", "settled"]


class Settings(Protocol):
    """What a rule may ask for. `shared.config.ThresholdConfig` and `shared.bundle.Setup` both have it.

    Attributes:
        false_alarm_rate: share of normal windows that may be alarmed, in (0, 1).
        alarms_a_day: false alarms that `daily` leaves room for.
        sigmas: of `mean-sigma`.
        fit_on: where the scores came from.
        memory: windows that an adaptive rule looks back over.
        peaks: share of the scores that `pot` and `dspot` take as the tail.
        members: rules whose median `ensemble` takes.
    """

    @property
    def false_alarm_rate(self) -> float: ...
    @property
    def alarms_a_day(self) -> float: ...
    @property
    def sigmas(self) -> float: ...
    @property
    def fit_on(self) -> Literal["holdout", "train"]: ...
    @property
    def memory(self) -> int: ...
    @property
    def peaks(self) -> float: ...
    @property
    def members(self) -> tuple[str, ...]: ...


class Tracking(Artefact, frozen=True, kw_only=True):
    """What an adaptive threshold starts from: the normal scores as they were at calibration.

    Attributes:
        kind: which tracker, `shared.thresholds.tracking`.
        memory: windows over which it forgets.
        centre, spread: of the un-alarmed calibration scores: median and the distance from it to the 90 % quantile
            (`moving-percentile`), mean and standard deviation (`ewma`, `dspot`), or both of a bell curve, robustly
            (`settled`).
        level: of `dspot`: where its tail begins, above the centre.
        gap: of `dspot`: windows from one cluster of peaks to the next, at least.
        share: of `dspot`: of the windows in the tail.
        peaks: of `dspot`: by how much peaks exceeded the level, ascending.
        rate: of `dspot`: share of windows that the threshold leaves above it.
    """

    kind: Kind
    memory: Annotated[int, Meta(ge=10)]
    centre: float
    spread: Annotated[float, Meta(gt=0)]
    level: float = 0.0
    gap: Annotated[int, Meta(ge=1)] = 1
    share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    peaks: tuple[float, ...] = ()
    rate: Rate = 1.0


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
        by_mode: the value for windows of cluster k in place of `value`, (K,); empty: `value` for all.
        ring: SHA-256 of the rows, confirmed as normal by a person, that it was set on beside the held-out ones
            (`shared.ring`); empty: none.
        ring_size: how many of the n windows are of them.
        tracking: what the adaptive rules go on from; None: the value stays. `shared.thresholds.tracking.start` gives
            the object that moves it, sample by sample.
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
    by_mode: tuple[float, ...] = ()
    ring: str = ""
    ring_size: Annotated[int, Meta(ge=0)] = 0
    tracking: Tracking | None = None

    def value_for(self, mode: int | None) -> float:
        """The value in force for a window of a mode (its nearest active cluster); `value` where there is no own one."""
        return self.by_mode[mode] if mode is not None and 0 <= mode < len(self.by_mode) else self.value

    def alarms(self, scores_T: Scores, modes_T: IntArray | None = None) -> BoolArray:
        """Which rows are alarmed, bool (T,). A row without a score (NaN) is not.

        Compared in float64: a float32 score does not round the threshold. A mode below 0 is none.
        """
        return scores_T.astype(np.float64) > self.values(len(scores_T), modes_T)

    def values(self, count: int, modes_T: IntArray | None = None) -> Float64Array:
        """The value in force for each of T rows, float64 (T,); a mode below 0 is none."""
        if modes_T is None or not self.by_mode:
            return np.full(count, self.value)
        known_T = (modes_T >= 0) & (modes_T < len(self.by_mode))
        return np.where(known_T, np.array(self.by_mode)[np.where(known_T, modes_T, 0)], self.value)

    def supports(self, rate: float) -> bool:
        """Whether the data behind it can carry a false alarm rate: share of normal windows, in (0, 1)."""
        wanted = windows_wanted(rate, self.calibration_size, self.effective_size)
        return self.fitted_on == "holdout" and wanted <= self.calibration_size


@dataclass(frozen=True)
class Normal:
    """What a rule is fitted on.

    Attributes:
        scores_N: float64 (N,), of normal windows in order of time; finite, N >= 1.
        modes_N: int64 (N,), the nearest active cluster of each, below 0 for none; None without clusters.
        windows_a_day: 86400 / seconds between two windows; None: not known.
    """

    scores_N: Float64Array
    modes_N: IntArray | None = None
    windows_a_day: float | None = None

    @cached_property
    def effective(self) -> float:
        """How many independent scores they are worth."""
        return effective_size(self.scores_N)

    @property
    def modes(self) -> int:
        """Clusters up to the highest that occurs; 0 without clusters."""
        return 0 if self.modes_N is None else max(0, int(self.modes_N.max()) + 1)

    def of_mode(self, mode: int) -> Float64Array:
        """The scores of one cluster's windows."""
        own_M: Float64Array = self.scores_N[self.modes_N == mode]
        return own_M


@dataclass(frozen=True)
class Cut:
    """What a rule says.

    Attributes:
        value: the threshold.
        false_alarm_rate, supported_rate, by_mode, tracking: as in `Threshold`.
        caveat: why the rule cannot keep what was asked, as a sentence; empty when it can.
    """

    value: float
    false_alarm_rate: float | None = None
    supported_rate: float | None = None
    caveat: str = ""
    by_mode: tuple[float, ...] = ()
    tracking: Tracking | None = None


class Tracker(Protocol):
    """A threshold in motion: one for one scored stream. O(log n) a step, NumPy and the standard library only."""

    def step(self, score: float, mode: int | None = None, quiet: bool = True) -> float:
        """The threshold for this score, from what was learnt before it; then learn from the score.

        Args:
            score: of the newest window.
            mode: its nearest active cluster; None without.
            quiet: no alarm is pending or active. A score that is above its threshold, not finite, or not quiet teaches
                nothing.

        Returns:
            a value in the cage around the calibrated one: from 0.8 to 1.25 of it.
        """
        ...

    @property
    def state(self) -> bytes:
        """JSON; `shared.thresholds.tracking.resume(threshold, state)` goes on from it."""
        ...


Rule = Callable[[Normal, Settings], Cut]
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


def rule_of(name: str) -> Rule:
    """A registered rule.

    Raises:
        UnknownName: no such rule.
    """
    if name not in _REGISTRY:
        raise UnknownName("threshold rule", name, known())
    return _REGISTRY[name]


def fit(
    rule_name: str,
    scores_N: Scores,
    config: Settings,
    modes_N: IntArray | None = None,
    windows_a_day: float | None = None,
) -> Threshold:
    """Set a threshold on the scores of normal windows.

    Args:
        rule_name: one of `known()`.
        scores_N: (N,), in order of time (their autocorrelation tells what they are worth), finite.
        config: the rule's settings and where the scores came from.
        modes_N: int64 (N,), the nearest active cluster of each window, below 0 for none; None without clusters. Rules
            by operating mode need it.
        windows_a_day: 86400 / seconds between two windows; None: not known. `daily` asks for it.

    Returns:
        the threshold; `weak` when the rule itself has a caveat (too few windows for the rate), when the effective size
        is below max(100, 1 / false_alarm_rate), or when it was fitted on training data, whose scores are too low.

    Raises:
        UnknownName: no such rule.
        TooFewRows: no score.
        NothingToLearn: a score is NaN or infinite.
        ValueError: as many modes as scores are due.

    Example:
        >>> from shared.config import ThresholdConfig
        >>> fit("conformal", np.arange(1.0, 100.0), ThresholdConfig(false_alarm_rate=0.05)).value
        95.0
    """
    rule = rule_of(rule_name)
    check_calibration(scores_N, "scores")
    if modes_N is not None and modes_N.shape != scores_N.shape:
        raise ValueError(f"{len(scores_N)} scores and {len(modes_N)} modes do not fit")
    scores = scores_N.astype(np.float64)
    normal = Normal(scores, modes_N, windows_a_day)
    cut = rule(normal, config)
    found = doubts(len(scores), normal.effective, cut.false_alarm_rate, config.fit_on)
    note = " ".join(doubt for doubt in (cut.caveat, *found) if doubt)
    return Threshold(
        value=cut.value,
        rule=rule_name,
        fitted_on=config.fit_on,
        calibration_size=len(scores),
        effective_size=normal.effective,
        false_alarm_rate=cut.false_alarm_rate,
        supported_rate=cut.supported_rate,
        status="weak" if note else "ok",
        note=note,
        by_mode=cut.by_mode,
        tracking=cut.tracking,
    )
