"""What a new model must show before a plant lets it raise alarms, and while it is on probation: values in, verdict out.

No file, no clock, no model: what was measured comes in, a verdict with one sentence for every gate comes out
(docs/edge/swap.md). Shapes: N windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from shared.artefact import Artefact
from shared.thresholds.worth import effective_size

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(ge=1)]
STRANGE = 0.2  # share of live windows that may lie in modes which calibration hardly knew
RARE = 0.001  # share of calibration windows below which a mode is hardly known
WORTH = 20  # independent windows below which a share of alarms says little, whatever an edge.toml settles for
_SURE = 0.9999  # of the looks before the last: only what is far off ends a trial early


class SwapSettings(Artefact, frozen=True, kw_only=True):
    """`[swap]`: how a new model earns its place.

    Attributes:
        look_s: seconds between two looks at the agent's folder.
        shadow_windows: windows that a candidate scores beside the current model, at least.
        effective: how many independent ones they must be worth; the shadow lasts until they are. What rests on fewer
            than that, or than 20, is called uncalibrated.
        longest_windows: when a shadow ends at the latest.
        probation_windows: windows after adoption during which the model before it stays warm.
        confidence: of the binomial interval that the alarm rate must lie in.
        recall_drop: by how much fewer injected faults may be found than the current model finds, as a share.
        loss_factor: held-out loss allowed, in current ones.
        latency_ms: median time of a window allowed.
        share: of a sampling period that the shadow may compute; it scores every n-th window if that takes more.
        link: the relay's link.json; empty: looked for where an agent's home has it.
    """

    look_s: Annotated[float, Meta(ge=0.05, le=3600)] = 10.0
    shadow_windows: Positive = 2_000
    effective: Positive = 20
    longest_windows: Positive = 50_000
    probation_windows: Positive = 2_000
    confidence: Annotated[float, Meta(gt=0.5, lt=1)] = 0.99
    recall_drop: Share = 0.05
    loss_factor: Annotated[float, Meta(ge=1)] = 1.1
    latency_ms: Annotated[float, Meta(gt=0)] = 10.0
    share: Annotated[float, Meta(gt=0, le=1)] = 0.25
    link: str = ""


class Check(Struct, frozen=True, forbid_unknown_fields=True):
    """One gate.

    Attributes:
        name: short and stable.
        passed: whether it lets the model through.
        told: what was measured and what is allowed, for a person.
        weak: it passed, but there was too little to tell by: the model is uncalibrated in this respect.
    """

    name: str
    passed: bool
    told: str
    weak: bool = False


@dataclass(frozen=True)
class Verdict:
    """All gates of one look."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate lets the model through."""
        return all(check.passed for check in self.checks)

    @property
    def why(self) -> str:
        """The failed gates in words; empty when all passed."""
        return "; ".join(f"{check.name}: {check.told}" for check in self.checks if not check.passed)

    @property
    def doubt(self) -> str:
        """The gates in words that passed for want of data; empty when there are none."""
        return "; ".join(f"{check.name}: {check.told}" for check in self.checks if check.passed and check.weak)


class Figures(Artefact, frozen=True, kw_only=True):
    """What one bundle shows at rest: from its files, and from its probe.

    Attributes:
        loss: held-out reconstruction error, in prepared units squared.
        prepared: digest of what prepares the rows: losses compare only where it is equal.
        threshold: where alarms begin.
        quantiles: scores of held-out data that 1 %, 50 % and 99 % of them do not exceed.
        alpha: share of false alarms that the threshold is for.
        unseen: share of unseen held-out windows that a threshold set on the rest alarms; None: too little data.
        unseen_worth: how many independent windows that rests on.
        modes: operating modes that at least 1 % of held-out windows lie in; None without clusters.
        guard: whether it holds the plant's local guard.
        carried: whether its normal data can carry the rate that its threshold is for.
        latency_ms: median time of one window, as measured in the examining process.
        faults, found: injected into its candidate's probe rows, and how many of them it alarms.
    """

    loss: float
    prepared: str
    threshold: float
    quantiles: tuple[float, float, float]
    alpha: Annotated[float, Meta(gt=0, lt=1)]
    unseen: Share | None = None
    unseen_worth: Annotated[float, Meta(ge=1)] = 1.0
    modes: int | None = None
    guard: bool = False
    carried: bool = True
    latency_ms: Annotated[float, Meta(ge=0)] = 0.0
    faults: Annotated[int, Meta(ge=0)] = 0
    found: Annotated[int, Meta(ge=0)] = 0

    @property
    def recall(self) -> float:
        """Share of the injected faults that it alarms; 1 where there were none."""
        return self.found / self.faults if self.faults else 1.0


def judge_at_rest(new: Figures, now: Figures, settings: SwapSettings) -> Verdict:
    """Whether a candidate may go into shadow.

    Args:
        new, now: figures of the candidate and of the current model, for the same rows and faults.
        settings: what is allowed.

    Example:
        >>> now = Figures(loss=1.0, prepared="a", threshold=3.0, quantiles=(-1.0, 0.0, 2.9), alpha=0.01)
        >>> judge_at_rest(now, now, SwapSettings()).passed
        True
    """
    return Verdict((_unseen(new, settings), _quantiles(new), _loss(new, now, settings), _faults(new, now, settings),
                    _latency(new, settings), _modes(new, now), _guard(new, now), _carried(new, now)))  # fmt: skip


def _unseen(new: Figures, settings: SwapSettings) -> Check:
    if new.unseen is None:
        return Check("held-out alarms", True, "too few held-out windows to set a threshold without some", weak=True)
    weak = new.unseen_worth < max(settings.effective, WORTH)
    # A threshold that is set on n independent windows cannot be asked for fewer alarms than 1 in n + 1.
    alpha = max(new.alpha, 1 / (new.unseen_worth + 1)) if weak else new.alpha
    low, high = binomial_interval(new.unseen_worth, alpha, settings.confidence)
    told = f"{new.unseen:.2%} of unseen normal windows (worth {new.unseen_worth:.0f}) alarm"
    return Check("held-out alarms", low <= new.unseen <= high, f"{told}, allowed {low:.2%} to {high:.2%}", weak)


def _quantiles(new: Figures) -> Check:
    low, middle, high = new.quantiles
    told = f"held-out scores {low:.3g}, {middle:.3g}, {high:.3g} (1, 50, 99 %) with threshold {new.threshold:.3g}"
    return Check("held-out scores", low < high and middle < new.threshold, told)


def _loss(new: Figures, now: Figures, settings: SwapSettings) -> Check:
    if new.prepared != now.prepared:
        return Check(
            "held-out loss", True, f"{new.loss:.3g}; the rows are prepared otherwise than for the current model"
        )
    most = settings.loss_factor * now.loss
    return Check("held-out loss", new.loss <= most, f"{new.loss:.3g}, allowed {most:.3g}")


def _faults(new: Figures, now: Figures, settings: SwapSettings) -> Check:
    least = now.recall - settings.recall_drop
    if not new.faults:
        return Check("injected faults", True, "no tag moves in its probe: there was none to inject", weak=True)
    told = f"{new.found} of {new.faults} injected faults found, the current model finds {now.found}"
    return Check("injected faults", new.recall >= least - 1e-12, told)


def _latency(new: Figures, settings: SwapSettings) -> Check:
    told = f"{new.latency_ms:.2f} ms a window, allowed {settings.latency_ms:g} ms"
    return Check("latency", new.latency_ms <= settings.latency_ms, told)


def _modes(new: Figures, now: Figures) -> Check:
    if new.modes is None:
        return Check("operating modes", now.modes is None, "none" if now.modes is None else "it has lost its clusters")
    least = max(1, math.ceil((now.modes or 0) / 2))
    return Check("operating modes", new.modes >= least, f"{new.modes} in use, at least {least} are due")


def _guard(new: Figures, now: Figures) -> Check:
    lost = now.guard and not new.guard
    return Check("local guard", not lost, "it has none, the current one has" if lost else "as before")


def _carried(new: Figures, now: Figures) -> Check:
    lost = now.carried and not new.carried
    told = f"its normal data cannot carry a rate of {new.alpha:g}, the current model's can"
    return Check("calibration", not lost, told if lost else "no weaker than before")


class Tally:
    """What a model does on the live stream beside another one. Bounded memory: the newest 8,192 quiet scores are kept.

    Args:
        occupancy: share of calibration windows in each mode, (K,); empty without clusters.

    Attributes:
        windows: judged so far.
        alarms: of them.
        quiet: windows during which the other model says that all is well.
        false: alarms among those.
        strange: quiet windows in modes that calibration hardly knew.
        broken: scores that are not finite.
    """

    _MOST = 8192

    def __init__(self, occupancy: Sequence[float] = ()) -> None:
        self.windows = self.alarms = self.quiet = self.false = self.strange = self.broken = 0
        self._rare = frozenset(mode for mode, share in enumerate(occupancy) if share < RARE)
        self._scores_N = np.zeros(self._MOST)

    def add(self, score: float, threshold: float, mode: int | None, quiet: bool) -> None:
        """Count a window that both models have scored."""
        alarm = not score <= threshold
        self.windows += 1
        self.alarms += alarm
        if not quiet:
            return
        finite = math.isfinite(score)
        self._scores_N[self.quiet % self._MOST] = score if finite else threshold
        self.quiet += 1
        self.false += alarm
        self.broken += not finite
        self.strange += mode in self._rare

    def seen(self) -> Seen:
        """As a value."""
        size, at = min(self.quiet, self._MOST), self.quiet % self._MOST
        scores_N = np.roll(self._scores_N, -at) if self.quiet > self._MOST else self._scores_N[:size]
        worth = effective_size(scores_N) * self.quiet / size if size > 1 else float(size)
        middle = float(np.median(scores_N)) if size else 0.0
        return Seen(self.windows, self.alarms, self.quiet, self.false, worth, middle, self.strange, self.broken)


@dataclass(frozen=True)
class Seen:
    """What was counted live.

    Attributes:
        windows, alarms, quiet, false, strange, broken: as in `Tally`.
        worth: how many independent windows the quiet ones are worth.
        median: of the quiet scores.
    """

    windows: int
    alarms: int
    quiet: int
    false: int
    worth: float
    median: float
    strange: int = 0
    broken: int = 0


def judge_live(
    seen: Seen, alpha: float, span: tuple[float, float], confidence: float, wanted: float = WORTH
) -> Verdict:
    """Whether a model behaves on the live stream as it was calibrated.

    A real attack must not speak against it: too many alarms are counted only while the other model is quiet. It must
    not hide blindness either: too few are counted over everything.

    Args:
        seen: what was counted.
        alpha: share of false alarms that its threshold is for.
        span: held-out scores that 1 % and 99 % do not exceed; the live median lies between.
        confidence: of the binomial interval.
        wanted: independent windows below which a rate that passes is called uncalibrated.

    Example:
        >>> judge_live(Seen(1000, 300, 1000, 300, 100.0, 0.0), 0.01, (-1, 1), 0.99).why
        'alarm rate: 30.00% of 1000 quiet windows (worth 100) alarm, allowed 0.00% to 4.00%'
    """
    return Verdict((_rate(seen, alpha, confidence, wanted), _median(seen, span), _strange(seen)))


def _rate(seen: Seen, alpha: float, confidence: float, wanted: float) -> Check:
    if seen.quiet == 0:
        told = f"the other model was in alarm in all {seen.windows} windows: nothing to judge by"
        return Check("alarm rate", False, told)
    low, high = binomial_interval(max(1.0, seen.worth), alpha, confidence)
    rate, overall = seen.false / seen.quiet, seen.alarms / seen.windows
    span = f"allowed {low:.2%} to {high:.2%}"
    told = f"{rate:.2%} of {seen.quiet} quiet windows (worth {seen.worth:.0f}) alarm, {span}"
    if overall < low:
        told = f"only {overall:.2%} of all {seen.windows} windows alarm, {span}: it may be blind"
    return Check("alarm rate", rate <= high and overall >= low, told, seen.worth < max(wanted, WORTH))


def _median(seen: Seen, span: tuple[float, float]) -> Check:
    told = f"live median {seen.median:.3g}, held-out scores {span[0]:.3g} to {span[1]:.3g}"
    sound = seen.quiet == 0 or (span[0] <= seen.median <= span[1] and seen.broken == 0)
    return Check("live scores", sound, f"{told}; {seen.broken} not finite" if seen.broken else told)


def _strange(seen: Seen) -> Check:
    share = seen.strange / seen.quiet if seen.quiet else 0.0
    return Check("live modes", share <= STRANGE, f"{share:.1%} of windows in modes that calibration hardly knew")


def trial_over(seen: Seen, wanted: int, settings: SwapSettings) -> bool:
    """Whether enough was seen to decide: the windows asked for, worth enough, or as many as a trial may last."""
    return (seen.quiet >= wanted and seen.worth >= settings.effective) or seen.windows >= settings.longest_windows


def hopeless(seen: Seen, alpha: float) -> Check | None:
    """The gate that a trial fails already, far beyond chance; None while it may still pass.

    Example:
        >>> hopeless(Seen(64, 0, 64, 0, 10.0, 0.0), 0.01) is None
        True
    """
    if seen.quiet == 0:
        return None
    if seen.broken:
        return Check("live scores", False, f"{seen.broken} of {seen.quiet} scores are not finite")
    _, high = binomial_interval(max(1.0, seen.worth), alpha, _SURE)
    rate = seen.false / seen.quiet
    told = f"{rate:.2%} of {seen.quiet} quiet windows (worth {seen.worth:.0f}) alarm, allowed {high:.2%}"
    return Check("alarm rate", False, told) if rate > high and seen.false >= 5 else None


def binomial_interval(n: float, p: float, confidence: float) -> tuple[float, float]:
    """Central interval of the share of successes among n independent trials.

    The least and the largest k / n such that at most (1 - confidence) / 2 of a Binomial(n, p) lies beyond on each side.

    Args:
        n: trials, 1 or more; rounded.
        p: of a success, in (0, 1).
        confidence: in (0, 1).

    Example:
        >>> binomial_interval(100, 0.01, 0.99), binomial_interval(2000, 0.01, 0.99)
        ((0.0, 0.04), (0.005, 0.016))
    """
    size, tail = max(1, round(n)), (1 - confidence) / 2
    low, below = -1, 0.0
    for k in range(size + 1):
        below += math.exp(_log_pmf(k, size, p))
        if low < 0 and below > tail:
            low = k
        if below >= 1 - tail:
            return low / size, k / size
    return max(low, 0) / size, 1.0


def _log_pmf(k: int, n: int, p: float) -> float:
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return choose + k * math.log(p) + (n - k) * math.log1p(-p)
