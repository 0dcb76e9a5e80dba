"""A threshold that follows slow, harmless change, and cannot be taught a slow attack.

`shared.thresholds.tracking` moves it, in a cage: between 0.8 and 1.25 of the calibrated value, at a bounded rate, from
scores below it only. Here are the bars that need the plant (docs/edge/drift.md):

- nothing is learnt while an alarm is pending or stands, while a tag is faulty (the engine asks all stages: `quiet`),
  or when the local guard, which learns nothing, is above its own threshold;
- by itself the threshold moves by 5 % at most; farther only as far as it had come in a time that a person has
  confirmed to be normal (`crossplant client alarms confirm-normal`), and never out of the cage;
- at the end of the cage it says `recalibration required`, and stays there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from client.edge.alarm_values import Confirm
from client.edge.engine import Model
from client.edge.records import Notice, Record, Sample, Scored
from shared.artefact import Artefact
from shared.thresholds import Threshold, resume, start
from shared.thresholds.tracking import HIGHEST, LOWEST

_HISTORY = 1000
_END = 0.999  # of the way to the end of the cage


class AdaptRules(Artefact, frozen=True, kw_only=True):
    """`[adapt]`.

    Attributes:
        free: share of the calibrated value by which the threshold moves without a person.
        mark_s: seconds between two remembered positions, which a confirmation is held against.
    """

    free: Annotated[float, Meta(ge=0, le=0.2)] = 0.05
    mark_s: Annotated[float, Meta(gt=0)] = 3600.0


class Adaptation:
    """How far a threshold has moved, and how far it may.

    Args:
        threshold: as calibrated; one without `tracking` never moves.
        rules: how far it may move by itself.

    Attributes:
        rules, threshold: as given.
        granted: least and greatest position that may be in force: shares of the calibrated value.

    Example:
        >>> import numpy as np
        >>> from shared.config import ThresholdConfig
        >>> from shared.thresholds import fit
        >>> scores = np.random.default_rng(0).gamma(4.0, size=2000)
        >>> moves = Adaptation(fit("ewma", scores, ThresholdConfig(memory=200)))
        >>> for score in (1.15 * scores).tolist():
        ...     value = moves.step(score)
        >>> moves.position, moves.granted
        (0.05, (-0.05, 0.05))
    """

    def __init__(self, threshold: Threshold, rules: AdaptRules | None = None) -> None:
        self.rules = rules or AdaptRules()
        self._tracker, self.threshold = start(threshold), threshold
        self.granted = (-self.rules.free, self.rules.free)
        self._marks: list[tuple[float, float]] = []
        self._asked = self._ended = False

    @property
    def position(self) -> float:
        """In force: a share of the calibrated value, within what is granted."""
        return min(max(self._tracker.position, self.granted[0]), self.granted[1])

    def adjusted(self, value: float) -> float:
        """A calibrated threshold, moved."""
        return value + self.position * abs(value)

    def step(self, score: float, mode: int | None = None, quiet: bool = True) -> float:
        """See `shared.thresholds.Tracker.step`: the threshold that this score is held against. It teaches only when it
        is quiet and below what is in force, which may be less than where the tracker stands. A rule that is bounded by
        itself (`settled`) is not held back further.
        """
        if self._tracker.bounded:
            return self._tracker.step(score, mode, quiet)
        value = self.adjusted(self.threshold.value_for(mode))
        if quiet and math.isfinite(score) and score <= value:
            self._tracker.step(score, mode, quiet=True)
        return value

    @property
    def state(self) -> bytes:
        """See `shared.thresholds.Tracker.state`: of the tracker inside; `json` has all."""
        return self._tracker.state

    def tell(self, time: float) -> tuple[Record, ...]:
        """What a person should know now; also remembers where the tracker stood, once every `mark_s`."""
        if not self._marks or time - self._marks[-1][0] >= self.rules.mark_s or time < self._marks[-1][0]:
            self._marks = [*self._marks, (time, self._tracker.position)][-_HISTORY:]
        return self._told(time)

    def confirm(self, order: Confirm, time: float, alarmed: Callable[[float, float], bool]) -> tuple[Record, ...]:
        """Grant what was learnt between two times that somebody says were normal.

        Args:
            order: who says so, and when it was.
            time: now, by the plant's clock.
            alarmed: whether there was an alarm between two times.
        """
        if not order.first < order.last <= time or alarmed(order.first, order.last):
            why = "there was an alarm then" if order.last <= time else "that time is not over"
            return (Notice(time, "rejected", f"{order.by} cannot confirm that time as normal: {why}."),)
        reached = [position for at, position in self._marks if order.first <= at <= order.last]
        if not reached:
            return (Notice(time, "rejected", f"nothing was learnt in the time that {order.by} confirms as normal."),)
        low, high = self.granted
        self.granted = (max(LOWEST, min(low, *reached)), min(HIGHEST, max(high, *reached)))
        self._asked = False
        span = f"{1 + self.granted[0]:.2f} to {1 + self.granted[1]:.2f}"
        told = f"{order.by} confirmed normal operation: the threshold may be {span} of the calibrated one. {order.note}"
        return (Notice(time, "confirmed", told.strip()),)

    def _told(self, time: float) -> tuple[Record, ...]:
        wanted = self._tracker.position
        ended = wanted >= HIGHEST * _END or wanted <= LOWEST * _END
        if ended and not self._ended:
            self._ended = True
            text = f"recalibration required: normal scores would have the threshold at {1 + wanted:.2f} of what it was."
            return (Notice(time, "recalibration", text),)
        self._ended = self._ended and not (LOWEST / 2 < wanted < HIGHEST / 2)
        beyond = not self.granted[0] <= wanted <= self.granted[1]
        if beyond and not self._asked:
            self._asked = True
            text = (
                f"the threshold would move to {1 + wanted:.2f} of the calibrated one. If the plant runs normally, say "
            )
            return (Notice(time, "confirm", f"{text}so: `crossplant client alarms confirm-normal --from .. --to ..`."),)
        return ()

    @property
    def json(self) -> str:
        """What it remembers."""
        kept = {"tracker": self._tracker.state.decode(), "granted": self.granted, "marks": self._marks}
        return json.dumps({**kept, "asked": self._asked, "ended": self._ended}, allow_nan=False)

    def resume(self, text: str) -> None:
        """Go on from what `json` gave for the same threshold.

        Raises:
            ValueError: it is none, or another threshold's.
        """
        try:
            found = json.loads(text)
            low, high = (float(x) for x in found["granted"])
            marks = [(float(at), float(position)) for at, position in found["marks"]][-_HISTORY:]
            tracker = resume(self.threshold, str(found["tracker"]).encode())
            flags = bool(found["asked"]), bool(found["ended"])
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it is no adaptation: {error}") from error
        if not LOWEST <= low <= high <= HIGHEST:
            raise ValueError("it grants what is outside the cage")
        self._tracker, self.granted, self._marks = tracker, (low, high), marks
        self._asked, self._ended = flags


class Adapting:
    """A `client.edge.engine.Stage`: put it last. It keeps the tracker of the scorer within what is granted.

    Args:
        adaptation: what moves the threshold: also the scorer's `tracker`.
    """

    def __init__(self, adaptation: Adaptation) -> None:
        self.adaptation = adaptation
        self._agrees = True

    @property
    def quiet(self) -> bool:
        """Whether the local guard, which learns nothing, sees nothing: else no score teaches."""
        return self._agrees

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`."""
        if scored is None:
            return ()
        guard, most = scored.guard, scored.guard_threshold
        self._agrees = guard is None or most is None or guard <= most
        return self.adaptation.tell(scored.time)

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`."""
        return ()

    def swapped(self, model: Model) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`: what was learnt and granted belongs to the old threshold."""
        self.adaptation = follow(model, self.adaptation.rules)
        return ()


def follow(model: Model, rules: AdaptRules) -> Adaptation:
    """Put the threshold of a model's scorer on the leash; one that does not move is left as it is."""
    tracker = getattr(model.scorer, "tracker", None)
    threshold = getattr(tracker, "threshold", None)
    if isinstance(tracker, Adaptation) or not isinstance(threshold, Threshold):
        return tracker if isinstance(tracker, Adaptation) else Adaptation(_STILL, rules)
    found = Adaptation(threshold, rules)
    if threshold.tracking is not None:
        model.scorer.tracker = found  # type: ignore[attr-defined]
    return found


_STILL = Threshold(value=0.0, rule="none", fitted_on="holdout", calibration_size=1, effective_size=1.0)
