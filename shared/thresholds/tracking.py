"""Thresholds in motion: they follow slow, harmless change sample by sample, and cannot be taught a slow attack.

Four bars of one cage hold every tracker (docs/edge/drift.md):

- the value stays between 0.8 and 1.25 of the calibrated one;
- it takes `memory` windows at least from one end of the cage to the other;
- a score teaches nothing that is above its threshold, not finite, or seen while an alarm is pending or active;
- what is forgotten is forgotten by windows that taught, not by the clock.

A tracker that stands at the end of its cage for long says that calibration is due: `position`.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import deque
from statistics import NormalDist
from typing import Annotated

import numpy as np
from msgspec import Meta

from shared.artefact import Artefact
from shared.scoring import Float64Array
from shared.thresholds.base import Scores, Threshold, Tracking
from shared.thresholds.tail import Pareto, grimshaw
from shared.windows import IntArray

LOWEST, HIGHEST = -0.2, 0.25  # of the calibrated value
KEPT = 1000  # scores that `moving-percentile` holds: they are alike, so one in several is enough
_REFIT = 20  # peaks between two fits of `dspot`
_FAR = 10.0  # spreads
_RATIO = (0.5, 2.0)  # of the spread to that at calibration
TAUGHT = 2.0  # spreads that `settled` may rise by
_HELD = 1e300  # a score that is infinite is held as this

Count = Annotated[int, Meta(ge=0)]


class TrackerState(Artefact, frozen=True, kw_only=True):
    """What a tracker has learnt.

    Attributes:
        threshold: digest of the threshold that it moves: the state of another one is refused.
        position: where it stands, from -0.2 to 0.25: the value is `tau_0 + position |tau_0|`.
        learnt: windows that taught.
        numbers: of its kind.
        ring: values that it holds, oldest first.
    """

    threshold: str
    position: Annotated[float, Meta(ge=LOWEST, le=HIGHEST)] = 0.0
    learnt: Count = 0
    numbers: tuple[float, ...] = ()
    ring: tuple[float, ...] = ()


class Still:
    """A threshold that does not move.

    Args:
        threshold: as calibrated.
        state: as left by `state`; None begins anew.

    Attributes:
        bounded: whether it moves within bounds of its own, which nobody need grant.
    """

    numbers = 0  # in the state
    bounded = False

    def __init__(self, threshold: Threshold, state: TrackerState | None = None) -> None:
        if state and len(state.numbers) != self.numbers:
            raise ValueError(f"{self.numbers} numbers are due in the state, not {len(state.numbers)}")
        self.threshold = threshold
        self.position = state.position if state else 0.0
        self.learnt = state.learnt if state else 0

    def step(self, score: float, mode: int | None = None, quiet: bool = True) -> float:
        """See `shared.thresholds.Tracker.step`."""
        return self.threshold.value_for(mode)

    @property
    def state(self) -> bytes:
        """See `shared.thresholds.Tracker.state`."""
        return self._state((), ()).json

    def _state(self, numbers: tuple[float, ...], ring: tuple[float, ...]) -> TrackerState:
        name = digest(self.threshold)
        return TrackerState(threshold=name, position=self.position, learnt=self.learnt, numbers=numbers, ring=ring)


class Moving(Still, ABC):
    """The cage; a kind of tracker says what it learns and where it would like to stand."""

    def __init__(self, threshold: Threshold, start: Tracking, state: TrackerState | None = None) -> None:
        super().__init__(threshold, state)
        self.start = start
        self._most_step = (HIGHEST - LOWEST) / start.memory
        self._floor = start.centre - _FAR * start.spread  # a score far below teaches no more than one there

    def step(self, score: float, mode: int | None = None, quiet: bool = True) -> float:
        base = self.threshold.value_for(mode)
        value = base + self.position * abs(base)
        if quiet and score <= value and math.isfinite(score):
            self.learnt += 1
            self._learn(max(score, self._floor))
            self._move()
        return value

    def _move(self) -> None:
        base = self.threshold.value
        wanted = (self._target() - base) / abs(base) if base else 0.0
        step = min(max(wanted - self.position, -self._most_step), self._most_step)
        self.position = min(max(self.position + step, LOWEST), HIGHEST)

    def _scaled(self, centre: float, spread: float) -> float:
        """The calibrated value, carried over to scores of another centre and spread."""
        ratio = min(max(spread / self.start.spread, _RATIO[0]), _RATIO[1])
        return centre + (self.threshold.value - self.start.centre) * ratio

    @abstractmethod
    def _learn(self, score: float) -> None:
        """Take in one score that was no alarm."""

    @abstractmethod
    def _target(self) -> float:
        """Where the threshold would stand by the scores taken in."""


class Ewma(Moving):
    """Exponentially weighted mean and variance; O(1)."""

    numbers = 2

    def __init__(self, threshold: Threshold, start: Tracking, state: TrackerState | None = None) -> None:
        super().__init__(threshold, start, state)
        self._centre, self._variance = _two(state) if state else (start.centre, start.spread**2)

    def _learn(self, score: float) -> None:
        weight, away = 1 / self.start.memory, score - self._centre
        self._centre += weight * away
        self._variance = (1 - weight) * (self._variance + weight * away * away)

    def _target(self) -> float:
        return self._scaled(self._centre, math.sqrt(self._variance))

    @property
    def state(self) -> bytes:
        return self._state((self._centre, self._variance), ()).json


class MovingPercentile(Moving):
    """Median and 90 % quantile of the latest windows, of which one in `memory / 1000` is held; O(log n) to find its
    place, and a shift of at most 1000 numbers.
    """

    def __init__(self, threshold: Threshold, start: Tracking, state: TrackerState | None = None) -> None:
        super().__init__(threshold, start, state)
        self._every = -(-start.memory // KEPT)
        self._ring = deque(state.ring if state else (), maxlen=start.memory // self._every)
        self._ordered = sorted(self._ring)

    def _learn(self, score: float) -> None:
        if self.learnt % self._every:
            return
        if len(self._ring) == self._ring.maxlen:
            del self._ordered[bisect_left(self._ordered, self._ring[0])]
        self._ring.append(score)
        insort(self._ordered, score)

    def _target(self) -> float:
        if len(self._ring) < (self._ring.maxlen or 0):
            return self.threshold.value  # too few yet
        size = len(self._ordered)
        middle, high = self._ordered[size // 2], self._ordered[size * 9 // 10]
        return self._scaled(middle, high - middle)

    @property
    def state(self) -> bytes:
        return self._state((), tuple(self._ring)).json


class Dspot(Moving):
    """Siffer et al. 2017 (KDD), section 4.3, with exponential forgetting: the mean M, the share of windows above the
    level, and the peaks; the generalised Pareto distribution is fitted anew after every 20th peak. O(1).

    The peaks above the calibrated threshold stay as they were: no score that may teach says anything about them, and
    without them the tail would shrink at every turn.
    """

    numbers = 6

    def __init__(self, threshold: Threshold, start: Tracking, state: TrackerState | None = None) -> None:
        super().__init__(threshold, start, state)
        self._excess = threshold.value - start.centre
        self._edge = self._excess - start.level
        self._beyond = [peak for peak in start.peaks if peak > self._edge]
        own = state.ring if state else _scattered([peak for peak in start.peaks if peak <= self._edge])
        self._ring = deque(own, maxlen=max(1, len(start.peaks) - len(self._beyond)))
        self._mean, self._share, self._peak, self._since, self._fresh = start.centre, start.share, 0.0, 0, 0
        if state:
            self._mean, self._share, self._excess, self._peak, *counts = _six(state)
            self._since, self._fresh = map(int, counts)

    def _learn(self, score: float) -> None:
        away = score - self._mean
        self._mean += away / self.start.memory
        above = away > self.start.level
        taught = self.start.rate + (1 - self.start.rate) * above  # the rate is never seen: it would be an alarm
        self._share += (taught - self._share) / self.start.memory
        if above:
            self._peak, self._since = max(self._peak, away - self.start.level), 0
        if self._peak > 0:
            self._since += 1
            if self._since >= self.start.gap:
                self._enter(min(self._peak, self._edge))
                self._peak, self._since = 0.0, 0

    def _enter(self, peak: float) -> None:
        self._ring.append(peak)
        self._fresh += 1
        if self._fresh < _REFIT:
            return
        self._fresh = 0
        fitted = grimshaw(np.array([*self._ring, *self._beyond]))
        excess = self.start.level + _exceeded(fitted, self.start.rate / self._share)
        if math.isfinite(excess):
            self._excess = excess

    def _target(self) -> float:
        return self._mean + self._excess

    @property
    def state(self) -> bytes:
        numbers = (self._mean, self._share, self._excess, self._peak, float(self._since), float(self._fresh))
        return self._state(numbers, tuple(self._ring)).json


def _exceeded(fitted: Pareto, share: float) -> float:
    return fitted.exceeded_by(min(max(share, 1e-12), 1.0))


def _scattered(ordered: list[float]) -> list[float]:
    """Ordered values in an order that forgets high and low ones alike: by steps of the golden ratio."""
    size = len(ordered)
    return [ordered[at] for at in sorted(range(size), key=lambda i: (i * 0.6180339887498949) % 1.0)]


def _two(state: TrackerState) -> tuple[float, float]:
    centre, variance = state.numbers
    if variance < 0:
        raise ValueError("a variance below 0")
    return centre, variance


def _six(state: TrackerState) -> tuple[float, ...]:
    if not 0 < state.numbers[1] <= 1 or min(state.numbers[3:]) < 0:
        raise ValueError("a share, a peak or a count is out of bounds")
    return state.numbers


class Settled(Still):
    """The median of the last scores, all of them: `shared.thresholds.settled`. It has a cage of its own: `TAUGHT`
    spreads upwards and none downwards. It may learn from alarmed scores, for the cage is narrow and the median slow.

    The ring begins with what calibration saw, as a bell curve of its centre and spread.
    """

    bounded = True

    def __init__(self, threshold: Threshold, start: Tracking, state: TrackerState | None = None) -> None:
        super().__init__(threshold, state)
        self.start = start
        bell = NormalDist(start.centre, start.spread)
        usual = _scattered([bell.inv_cdf((k + 0.5) / start.memory) for k in range(start.memory)])
        held = state.ring if state else usual
        if len(held) != start.memory:
            raise ValueError(f"{start.memory} scores are due in the state, not {len(held)}")
        self._ring = deque(held, maxlen=start.memory)
        self._ordered = sorted(self._ring)

    def step(self, score: float, mode: int | None = None, quiet: bool = True) -> float:
        risen = self._ordered[(len(self._ordered) - 1) // 2] - self.start.centre
        value = self.threshold.value_for(mode) + min(max(risen, 0.0), TAUGHT * self.start.spread)
        if not math.isnan(score):
            self.learnt += 1
            del self._ordered[bisect_left(self._ordered, self._ring[0])]
            held = min(max(score, -_HELD), _HELD)
            self._ring.append(held)
            insort(self._ordered, held)
        return value

    @property
    def state(self) -> bytes:
        return self._state((), tuple(self._ring)).json


_KINDS: dict[str, type[Moving] | type[Settled]] = {
    "ewma": Ewma,
    "moving-percentile": MovingPercentile,
    "dspot": Dspot,
    "settled": Settled,
}


def digest(threshold: Threshold) -> str:
    """Name of a threshold: of its value, its modes' and what it starts from."""
    return hashlib.sha256(threshold.json).hexdigest()[:16]


def start(threshold: Threshold) -> Still:
    """The tracker of a threshold, from where calibration left it. One that has no `tracking` stands still.

    Example:
        >>> from shared.config import ThresholdConfig
        >>> from shared.thresholds import fit
        >>> scores = np.random.default_rng(0).gamma(4.0, size=2000)
        >>> tracker = start(fit("ewma", scores, ThresholdConfig(memory=200)))
        >>> before = tracker.step(4.0)
        >>> after = [tracker.step(1.1 * score) for score in scores.tolist()][-1]
        >>> before < after <= 1.25 * before
        True
    """
    return _made(threshold, None)


def followed(threshold: Threshold, scores_T: Scores, modes_T: IntArray | None = None) -> Float64Array:
    """The threshold in force for each row of a recording, float64 (T,).

    What needs no alarm handling beside it moves as it would live (`settled`); the other rules stand where calibration
    left them.

    Args:
        threshold: as calibrated.
        scores_T: (T,), NaN where no score is in force.
        modes_T: int64 (T,), below 0 for none; None without modes.
    """
    tracking = threshold.tracking
    if tracking is None or tracking.kind != "settled":
        return threshold.values(len(scores_T), modes_T)
    tracker = start(threshold)
    modes = [None] * len(scores_T) if modes_T is None else [int(mode) if mode >= 0 else None for mode in modes_T]
    return np.array([tracker.step(float(score), mode) for score, mode in zip(scores_T, modes, strict=True)])


def resume(threshold: Threshold, state: bytes) -> Still:
    """The tracker of a threshold, from where `state` left it.

    Raises:
        ValueError: the state is damaged, or of another threshold: begin anew with `start`.
    """
    found = TrackerState.parse(state)
    if found.threshold != digest(threshold):
        raise ValueError("the state is of another threshold")
    if len(found.ring) > 10 * KEPT:
        raise ValueError("the state holds more than any tracker does")
    return _made(threshold, found)


def _made(threshold: Threshold, state: TrackerState | None) -> Still:
    tracking = threshold.tracking
    return Still(threshold, state) if tracking is None else _KINDS[tracking.kind](threshold, tracking, state)
