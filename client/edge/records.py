"""What flows through the edge runtime: samples in, records out. A record is a value with one JSON form.

Shapes: D tags, in the order of the bundle's schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from shared.series import FloatArray


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of readings, as a source delivers it.

    Attributes:
        time: of the readings by the source's clock, in seconds since 1970-01-01 UTC.
        values_D: float32 (D,), in the order of the schema; NaN where a reading is missing or of bad quality.
        number: running number of the sample within this run of the source, from 0 on.
    """

    time: float
    values_D: FloatArray
    number: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to a source or inside the runtime, which is no reading.

    Attributes:
        time: seconds since 1970-01-01 UTC.
        kind: `stalled`, `resumed`, `reconnected`, `gap` (the next sample begins a recording), `clock` (time went
            backwards or stood still), `rejected` (a message that is no sample), `ended`, or a part's own word.
        text: for a person.
    """

    time: float
    kind: str
    text: str

    def as_json(self) -> dict[str, Any]:
        """The record as it is written."""
        return {"type": "notice", "time": self.time, "kind": self.kind, "text": self.text}


@dataclass(frozen=True, slots=True)
class Part:
    """One tag's share in a score.

    Attributes:
        tag: its name.
        share: of the window's error, in [0, 1].
        direction: +1 where the reading is above what the model expects, -1 below, 0 neither.
        reading, expected: newest raw reading and what the model expects it to be, in the tag's unit.
    """

    tag: str
    share: float
    direction: Literal[-1, 0, 1]
    reading: float
    expected: float


@dataclass(frozen=True, slots=True)
class Scored:
    """What the models say of the window that ends with a sample.

    Attributes:
        time, number: of its newest sample.
        score, threshold: of the federated model; above the threshold the window is anomalous.
        p_value: share of calibration scores at least as high, (1 + #{>=}) / (n + 1).
        guard, guard_threshold, guard_p: score, threshold and p-value of the plant's local guard; None without one.
        mode: operating mode, the nearest active cluster; None without clusters.
        error: mean squared reconstruction error.
        parts: the tags of the score, the most telling first (`shared.contributions.telling`).
        named: where only the federated model is above its threshold, the same as the local guard tells it, which names
            the cause more often (docs/edge/alarms.md); empty: as `parts`.
        bundle: first 12 digits of the bundle's digest.
        shadow: score of the model in shadow divided by its threshold; None without one.
    """

    time: float
    number: int
    score: float
    threshold: float
    p_value: float
    error: float
    mode: int | None
    parts: tuple[Part, ...]
    bundle: str
    guard: float | None = None
    guard_threshold: float | None = None
    guard_p: float | None = None
    shadow: float | None = None
    named: tuple[Part, ...] = ()

    @property
    def sensors(self) -> tuple[Part, ...]:
        """What an alarm names: `named`, else `parts`."""
        return self.named or self.parts

    @property
    def raised_by(self) -> tuple[str, ...]:
        """Which models call the window anomalous: `federated`, `guard`, both or none."""
        by = ("federated",) if self.score > self.threshold else ()
        guard = self.guard is not None and self.guard_threshold is not None and self.guard > self.guard_threshold
        return (*by, "guard") if guard else by

    def as_json(self) -> dict[str, Any]:
        """The record as it is written: finite numbers only, an infinite score is the string `inf`."""
        return {
            "type": "score", "time": self.time, "number": self.number, "score": _finite(self.score),
            "threshold": _finite(self.threshold), "p": self.p_value, "error": _finite(self.error), "mode": self.mode,
            "anomalous": list(self.raised_by), "guard": _finite(self.guard),
            "guard_threshold": _finite(self.guard_threshold), "guard_p": self.guard_p, "shadow": _finite(self.shadow),
            "bundle": self.bundle,
            "sensors": [
                {"tag": p.tag, "share": p.share, "direction": p.direction, "reading": _finite(p.reading),
                 "expected": _finite(p.expected)}
                for p in self.parts
            ],
        }  # fmt: skip


class Record(Protocol):
    """Anything that a sink may be given. `as_json()["type"]` tells what it is: `score`, `alarm`, `fault`, `drift`,
    `swap`, `notice`.
    """

    def as_json(self) -> dict[str, Any]:
        """The record as it is written, JSON-ready: no NaN, no infinity, no NumPy type."""


def _finite(value: float | None) -> float | str | None:
    if value is None:
        return None
    if np.isfinite(value):
        return float(value)
    return "nan" if value != value else ("inf" if value > 0 else "-inf")
