"""Drift of the inputs, tag by tag, and of the scores, as a stage of the engine.

A change of the mean alone is no drift: a plant that goes through its modes changes all the time. A tag *drifts* when
ADWIN has cut its window, or the window is long, and its mean lies far from that of normal data; it *settles* when it is
back near.
What is looked at are means of `every` readings in spreads of normal data, a few tags at each sample, so that 123 tags
cost little. Readings and not prepared values: a drift is the plant's, whatever model scores it. Nothing is adapted
here: drift is told. Shapes: D tags.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from client.edge.drift import Adwin, PageHinkley
from client.edge.engine import Model
from client.edge.records import Notice, Record, Sample, Scored
from shared.artefact import Artefact
from shared.bundle.edge import EdgeBundle
from shared.scoring import Float64Array
from shared.sensor_limits import SensorLimits

SCORE = "score"
_LEAST_SPREAD = 1e-3  # of scores
_ONE_SIGMA = 0.8413  # quantile one standard deviation above the median of a normal distribution
_RANGE_SHARE = 0.25  # a spread of what is scaled by its range
_HIGHEST_SCORE = 1e6
_LONG = 60  # values: a window that never was near normal data has nothing to be cut from


class DriftRules(Artefact, frozen=True, kw_only=True):
    """`[drift]`.

    Attributes:
        every: samples whose mean is one value.
        delta: ADWIN's confidence, for one tag.
        far, near: in spreads of normal data: a tag drifts beyond `far` and settles within `near`.
        rise: Page-Hinkley's threshold on scores, in spreads of normal scores, summed.
    """

    every: Annotated[int, Meta(ge=1)] = 60
    delta: Annotated[float, Meta(gt=0, lt=1)] = 1e-4
    far: Annotated[float, Meta(gt=0)] = 3.0
    near: Annotated[float, Meta(gt=0)] = 1.5
    rise: Annotated[float, Meta(gt=0)] = 50.0

    def check(self) -> None:
        if self.near > self.far:
            raise ValueError(f"near must be at most far, {self.far:g}, not {self.near:g}")


@dataclass(frozen=True, slots=True)
class Drift:
    """A record: a tag, or the score, drifts or has settled.

    Attributes:
        time: when.
        tag: which; `score` for the score.
        state: `drifting` or `settled`.
        shift: of its mean from that of normal data, in spreads of it.
    """

    time: float
    tag: str
    state: Literal["drifting", "settled"]
    shift: float

    def as_json(self) -> dict[str, Any]:
        """The record as it is written."""
        return {"type": "drift", "time": self.time, "tag": self.tag, "state": self.state, "shift": round(self.shift, 3)}


@dataclass(frozen=True)
class Reference:
    """What normal data is like, in the tags' own units.

    Attributes:
        mean_D, spread_D: of each tag; one whose spread is 0 is not judged.
        score, score_spread: of the scores.
    """

    mean_D: Float64Array
    spread_D: Float64Array
    score: float
    score_spread: float

    @classmethod
    def of(cls, bundle: EdgeBundle, limits: SensorLimits | None) -> Reference:
        """Of what was learnt of the sensors, else of the scaler that was fitted on training data; the scores are those
        that the bundle was calibrated on.
        """
        scaler, scores = bundle.preprocessor.scaler, bundle.calibration.distribution
        middle = scores.quantile(0.5)
        spread = max(scores.quantile(_ONE_SIGMA) - middle, _LEAST_SPREAD)
        if limits is not None:
            return cls(np.array(limits.centre), np.array(limits.spread), middle, spread)
        part = _RANGE_SHARE if scaler.kind == "minmax" else 1.0
        spread_D = np.array(scaler.scale) * part
        spread_D[bundle.preprocessor.silent] = 0.0
        return cls(np.array(scaler.centre), spread_D, middle, spread)


class Drifts:
    """A `client.edge.engine.Stage`.

    Args:
        tags: names, (D,).
        reference: what normal data is like.
        rules: when to tell.

    Attributes:
        drifting: by name of a tag, or `score`: the shift, while it drifts.
    """

    def __init__(self, tags: tuple[str, ...], reference: Reference, rules: DriftRules | None = None) -> None:
        self._tags, self._rules, self._reference = tags, rules or DriftRules(), reference
        self.drifting: dict[str, float] = {}
        self._judged = np.flatnonzero(reference.spread_D > 0)
        self._windows = [Adwin(self._rules.delta, clock=8) for _ in self._judged]
        self._cut = [False for _ in self._judged]
        self._sum_D, self._count_D, self._at = np.zeros(len(tags)), np.zeros(len(tags), np.int64), 0
        self._begin_scores()

    def _begin_scores(self) -> None:
        self._score, self._hinkley = Adwin(self._rules.delta, clock=8), PageHinkley(threshold=self._rules.rise)
        self._scores: list[float] = []
        self._score_cut = False

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`."""
        records: list[Record] = [] if scored is None else self._of_score(scored)
        known_D = np.isfinite(sample.values_D)
        self._sum_D += np.where(known_D, sample.values_D, 0.0)
        self._count_D += known_D
        count, every = len(self._judged), self._rules.every
        turn = self._at % every
        self._at += 1
        for slot in range(turn * count // every, (turn + 1) * count // every):
            records += self._of_tag(slot, sample.time)
        return tuple(records)

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`: a gap is no drift."""
        return ()

    def swapped(self, model: Model) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`: the tags are the same, the scores are another model's."""
        bundle = getattr(model.scorer, "bundle", None)
        if bundle is not None:
            scores = Reference.of(bundle, None)
            self._reference = replace(self._reference, score=scores.score, score_spread=scores.score_spread)
        self._begin_scores()
        self.drifting.pop(SCORE, None)
        return ()

    def _of_tag(self, slot: int, time: float) -> list[Record]:
        d = int(self._judged[slot])
        if not self._count_D[d]:
            return []
        value = (self._sum_D[d] / self._count_D[d] - self._reference.mean_D[d]) / self._reference.spread_D[d]
        self._sum_D[d], self._count_D[d] = 0.0, 0
        window = self._windows[slot]
        self._cut[slot] = window.update(float(value)) or self._cut[slot]
        return self._told(self._tags[d], window, self._cut[slot], time)

    def _of_score(self, scored: Scored) -> list[Record]:
        """Alarmed scores say nothing of drift."""
        if scored.raised_by or not math.isfinite(scored.score):
            return []
        self._scores.append(min(scored.score, _HIGHEST_SCORE))
        if len(self._scores) < self._rules.every:
            return []
        value = (math.fsum(self._scores) / len(self._scores) - self._reference.score) / self._reference.score_spread
        self._scores.clear()
        cut, rises = self._score.update(value), self._hinkley.update(value)
        self._score_cut = cut or rises or self._score_cut
        return self._told(SCORE, self._score, self._score_cut, scored.time)

    def _told(self, name: str, window: Adwin, cut: bool, time: float) -> list[Record]:
        shift = window.mean
        if name in self.drifting:
            self.drifting[name] = shift
            if abs(shift) > self._rules.near:
                return []
            del self.drifting[name]
            return [Drift(time, name, "settled", shift)]
        if abs(shift) <= self._rules.far or not (cut or window.width >= _LONG):
            return []
        self.drifting[name] = shift
        return [Drift(time, name, "drifting", shift)]

    @property
    def json(self) -> str:
        """What it remembers, but for the samples of the means under way."""
        windows = [window.json for window in self._windows]
        parts = {"windows": windows, "cut": self._cut, "score": self._score.json, "hinkley": self._hinkley.json}
        return json.dumps({**parts, "score_cut": self._score_cut, "drifting": self.drifting}, allow_nan=False)

    def resume(self, text: str) -> None:
        """Go on from what `json` gave.

        Raises:
            ValueError: it is none, or is for another number of tags.
        """
        try:
            found = json.loads(text)
            windows, cut = list(found["windows"]), [bool(flag) for flag in found["cut"]]
            drifting = {str(name): float(shift) for name, shift in found["drifting"].items()}
            score, hinkley, score_cut = found["score"], found["hinkley"], bool(found["score_cut"])
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is no state of drift: {error}") from error
        if len(windows) != len(self._windows) or len(cut) != len(windows):
            raise ValueError(f"it is no state of drift of {len(self._windows)} tags")
        for window, kept in zip((*self._windows, self._score), (*windows, score), strict=True):
            window.resume(str(kept))
        self._hinkley.resume(str(hinkley))
        self._cut, self._score_cut, self.drifting = cut, score_cut, drifting
