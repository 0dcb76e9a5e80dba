"""What a bundle says of itself: where it came from, what scoring needs of the recipe, what normal data scored.

Shapes: D tags, K clusters, R raw rows, M windows of the probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import safetensors.numpy
from msgspec import Meta
from safetensors import SafetensorError

from shared.artefact import Artefact
from shared.distribution import Distribution
from shared.scoring import Float64Array
from shared.series import FloatArray
from shared.thresholds.base import Threshold
from shared.thresholds.budget import Bursts

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]


class Provenance(Artefact, frozen=True, kw_only=True):
    """Where a bundle came from.

    Attributes:
        site: whose it is.
        run, round: the federated round that its model came out of.
        model: SHA-256 of the model's file, hex: the global model's, where the plant has nothing of its own in it.
        holdout_loss: mean reconstruction error on the site's held-out normal data, in prepared units squared.
        number: of this bundle among those that this plant has published, from 1 on. It only grows: an old bundle that
            somebody puts back in the place of the newest has a lower one.
        version: of the software that published it.
        origin: whether the plant kept the federation's model, fine-tuned that, or trained one alone.
        base: digest of the global model that was sent, where the model is not that one; empty where it is.
        compared: origin of every model that there was to choose from, and its loss on the held-out normal data.
    """

    site: str
    run: str
    round: Count
    model: str
    holdout_loss: float
    number: Positive = 1
    version: str = ""
    origin: Literal["federated", "personal", "alone"] = "federated"
    base: str = ""
    compared: tuple[tuple[str, float], ...] = ()


class Setup(Artefact, frozen=True, kw_only=True):
    """What of a run's recipe scoring needs, and setting thresholds anew.

    `shared.scoring.fit_score_scale` reads `entropy_weight` and `standardise` from it, `shared.thresholds.fit` what
    `recipe.threshold` has, too.

    Attributes:
        detector: its name.
        window: rows of a window, W, after joining.
        latent: latent coordinates, Z.
        tail: newest rows of a window whose error counts; None: all of them.
        max_imputed: share of a window's readings that may stand in for missing ones if it is to calibrate anything.
        entropy_weight, standardise: how error and entropy are added (`recipe.scoring`).
        evidence: whether a judge was wanted; an older version wanted none.
        rule, alarms_a_day, sigmas, fit_on, memory, peaks, members: how the threshold is set (`recipe.threshold`).
        false_alarm_rate: what it was set for, in the end.
    """

    detector: str
    window: Annotated[int, Meta(ge=2)]
    latent: Positive
    tail: Positive | None = None
    max_imputed: Share = 0.5
    entropy_weight: Annotated[float, Meta(ge=0)] = 0.1
    standardise: bool = True
    evidence: bool = False
    rule: str = "conformal"
    false_alarm_rate: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    alarms_a_day: Annotated[float, Meta(gt=0)] = 1.0
    sigmas: Annotated[float, Meta(gt=0)] = 3.0
    fit_on: Literal["holdout", "train"] = "holdout"
    memory: Positive = 10_000
    peaks: Annotated[float, Meta(gt=0, lt=1)] = 0.02
    members: tuple[str, ...] = ("conformal", "mixture", "pot")

    def check(self) -> None:
        if self.tail is not None and self.tail > self.window:
            raise ValueError(f"tail must be at most the window of {self.window} rows, not {self.tail}")


class Rehearsal(Artefact, frozen=True, kw_only=True):
    """What the way of setting the threshold does to normal data that it has not seen: set on the first half of the
    held-out windows, applied to the second.

    Attributes:
        size: windows in the second half.
        effective_size: how many independent ones they are worth.
        rate: share of them that are alarmed.
        asked: share that the rule was asked for; None if it cannot be asked.
    """

    size: Positive
    effective_size: Annotated[float, Meta(ge=1)]
    rate: Share
    asked: Share | None = None


class Calibration(Artefact, frozen=True, kw_only=True):
    """What a bundle's model gives on the site's held-out normal data.

    Attributes:
        holdout_loss: mean reconstruction error, in prepared units squared.
        effective_size: how many independent windows the held-out ones are worth.
        distribution: their scores; its `size` is their number, n.
        rehearsal: the false alarm rate that was reached on unseen normal data; None where half of them is too little.
        occupancy: share of the windows whose nearest active cluster is k, (K,); empty without clusters.
        tag_error: mean squared error by tag, (D,), over the rows that count (`Setup.tail`).
        tag_error_high: its highest value in a window, (D,): what the tags of an alarm are ordered against.
        beside_guard: the threshold at half of the false alarm rate, by the same rule: the plant's local guard has the
            other half. None for a rule that cannot be asked for a rate.
        bursts: how the held-out scores come in episodes: what an alarm budget needs. None: of an older version.
        unjudged: why the plant has no judge although one was wanted; empty: it has, or none was.

    With a judge (`shared.evidence`) the scores are those of all normal rows, each by models that had not seen it, and
    `tag_error` and `tag_error_high` are the tags' parts of the scores of held-out ones (`Judge.parts`).
    """

    holdout_loss: float
    effective_size: Annotated[float, Meta(ge=1)]
    distribution: Distribution
    rehearsal: Rehearsal | None
    occupancy: tuple[Share, ...]
    tag_error: tuple[Annotated[float, Meta(ge=0)], ...]
    tag_error_high: tuple[Annotated[float, Meta(ge=0)], ...]
    beside_guard: Threshold | None = None
    bursts: Bursts | None = None
    unjudged: str = ""

    def p_value(self, score: float) -> float:
        """See `Distribution.p_value`."""
        return self.distribution.p_value(score)


_PROBE_PARTS: Mapping[str, type[np.generic]] = {"rows": np.float32, "scores": np.float64, "errors": np.float64}


@dataclass(frozen=True, eq=False)
class Probe:
    """Held-out normal rows, and what the trainer gave for them: whoever scores can check itself before it goes live.

    The rows begin a recording: windows are those of `Preprocessor.live(rows_RD)` or of a fresh `Preprocessor.stream()`.

    Attributes:
        rows_RD: float32 (R, D), raw, may hold NaN.
        scores_M: float64 (M,), the score of each window, oldest first; M >= 1.
        errors_M: float64 (M,), its mean squared reconstruction error over the rows that count.
    """

    rows_RD: FloatArray
    scores_M: Float64Array
    errors_M: Float64Array

    @property
    def file_bytes(self) -> bytes:
        """As one safetensors file; equal probes give equal bytes."""
        arrays = {"rows": self.rows_RD, "scores": self.scores_M, "errors": self.errors_M}
        return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `file_bytes` wrote.

        Raises:
            ValueError: it is no probe.
        """
        try:
            arrays = safetensors.numpy.load(data)
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"it is no probe: {error}") from error
        if {name: array.dtype.type for name, array in arrays.items()} != dict(_PROBE_PARTS):
            raise ValueError("it is no probe: rows, scores and errors are due, in float32 and float64")
        rows_RD, scores_M, errors_M = (arrays[name] for name in _PROBE_PARTS)
        if rows_RD.ndim != 2 or scores_M.ndim != 1 or scores_M.shape != errors_M.shape or not len(scores_M):
            raise ValueError(f"rows {rows_RD.shape}, scores {scores_M.shape}, errors {errors_M.shape} do not fit")
        return cls(rows_RD, scores_M, errors_M)
