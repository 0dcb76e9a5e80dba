"""Sensor faults, told apart from a plant in trouble: `step(state, sample, limits, rules) -> (state, records)`. Pure.

    missing   no reading for longer than ever in normal data
    range     a reading that no healthy sensor gives (several in a row)
    stuck     exactly the same reading for longer than ever; tags that normally rest for long are not judged
    flat      hardly any change over a block of rows, where normal data always has some
    noise     again and again within a block of rows, changes larger than ever
    spike     one or a few readings far off, and back at once
    frozen    all readings of the source together stay the same
    clock     the source's time stands still or goes back while readings come

The last two, and `missing` of more than half of the tags, are faults of the source and not of a tag: one record, not
fifty. A jump that stays is no spike: it may be an attack, and is left to the models. Shapes: D tags.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from client.edge.records import Record, Sample
from shared.artefact import Artefact
from shared.sensor_limits import BLOCK, SensorLimits
from shared.series import BoolArray

SOURCE = "source"  # stands in a record's place of a tag
KINDS = ("", "missing", "range", "stuck", "flat", "noise", "spike")  # of a tag, the first that holds counts
_SPIKE_ROWS = 3  # a spike is back within so many rows
_LOUD_ROWS = 6  # of a block: more than a jump and its way back

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]
Limits = dict[str, NDArray[Any]]


class FaultRules(Artefact, frozen=True, kw_only=True):
    """`[faults]`.

    Attributes:
        range_rows: readings in a row beyond the range that make a fault.
        recover_rows: healthy rows that end one.
        clock_rows: samples in a row without progress of the source's time that make a fault.
        ranges: the instruments' own ranges by tag, [low, high]; they count instead of the learnt ones.
    """

    range_rows: Annotated[int, Meta(ge=1)] = 3
    recover_rows: Annotated[int, Meta(ge=1)] = 60
    clock_rows: Annotated[int, Meta(ge=1)] = 5
    ranges: dict[str, tuple[float, float]] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """A record: a sensor's or the source's fault begins or ends.

    Attributes:
        time: when, by the plant's clock.
        tag: whose; `source` for the source's own.
        kind: see above.
        state: `active` or `cleared`.
        since: when it began.
        reading: newest; NaN where there is none.
        text: for a person.
    """

    time: float
    tag: str
    kind: str
    state: Literal["active", "cleared"]
    since: float
    reading: float
    text: str

    def as_json(self) -> dict[str, Any]:
        """The record as it is written."""
        reading = self.reading if math.isfinite(self.reading) else None
        return {
            "type": "fault", "time": self.time, "tag": self.tag, "kind": self.kind, "state": self.state,
            "since": self.since, "reading": reading, "text": self.text,
        }  # fmt: skip


@dataclass(frozen=True)
class FaultState:
    """What is remembered of D tags. Arrays are never written into once they are here.

    Attributes:
        last_D, before_D: newest reading, and the one before the newest jump.
        same_D, gap_D, off_D: rows for which a reading stayed the same, was missing, was beyond its range.
        jump_D: rows since a jump that may turn out a spike; 0: none.
        low_D, high_D, loud_D, count_D: of the block so far: extremes, large changes, readings.
        noisy_D, flat_D: what the last whole block was.
        kind_D, since_D, good_D: the fault that each tag has (index into `KINDS`), since when, healthy rows since.
        rows: in the block so far.
        row_same, still: rows for which all readings, or the time, stayed the same.
        time: of the newest sample.
        source: faults of the source by kind: since when.
    """

    last_D: Numbers
    before_D: Numbers
    same_D: Counts
    gap_D: Counts
    off_D: Counts
    jump_D: Counts
    low_D: Numbers
    high_D: Numbers
    loud_D: Counts
    count_D: Counts
    noisy_D: BoolArray
    flat_D: BoolArray
    kind_D: Counts
    since_D: Numbers
    good_D: Counts
    rows: int = 0
    row_same: int = 0
    still: int = 0
    time: float = -math.inf
    source: dict[str, float] = field(default_factory=dict)

    @classmethod
    def fresh(cls, dim: int) -> FaultState:
        """Nothing seen yet."""
        nan, zero, none = np.full(dim, np.nan), np.zeros(dim, np.int64), np.zeros(dim, bool)
        return cls(
            last_D=nan,
            before_D=nan,
            same_D=zero,
            gap_D=zero,
            off_D=zero,
            jump_D=zero,
            low_D=np.full(dim, np.inf),
            high_D=np.full(dim, -np.inf),
            loud_D=zero,
            count_D=zero,
            noisy_D=none,
            flat_D=none,
            kind_D=zero,
            since_D=np.zeros(dim),
            good_D=zero,
        )

    def restarted(self) -> FaultState:
        """At the beginning of a recording: runs and blocks begin anew, faults that stand go on standing."""
        new = replace(FaultState.fresh(len(self.last_D)), time=self.time, still=self.still, source=self.source)
        return replace(new, kind_D=self.kind_D, since_D=self.since_D, good_D=self.good_D)

    @property
    def json(self) -> bytes:
        """The faults that stand: all that a restart needs."""
        found = {"kind": self.kind_D.tolist(), "since": self.since_D.tolist(), "source": self.source}
        return json.dumps(found, allow_nan=False).encode()

    @classmethod
    def parse(cls, data: bytes, dim: int) -> FaultState:
        """Read `json`.

        Raises:
            ValueError: it is none, or is for another number of tags.
        """
        try:
            found = json.loads(data)
            kind_D, since_D = np.array(found["kind"], np.int64), np.array(found["since"], np.float64)
            source = {str(kind): float(since) for kind, since in found["source"].items()}
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"it is no state of faults: {error}") from error
        if kind_D.shape != (dim,) or since_D.shape != (dim,) or not np.isin(kind_D, range(len(KINDS))).all():
            raise ValueError(f"it is no state of faults of {dim} tags")
        return replace(cls.fresh(dim), kind_D=kind_D, since_D=since_D, source=source)


def arrays(limits: SensorLimits) -> Limits:
    """Limits as arrays, (D,) each: made once."""
    fields = limits.as_dict()
    made: Limits = {name: np.array(fields[name]) for name in ("low", "high", "step", "rest", "gap", "loud", "quiet")}
    made["rest"] = np.where(made["rest"] == 0, np.iinfo(np.int64).max, made["rest"])
    return made


def step(
    state: FaultState, sample: Sample, limits: SensorLimits, rules: FaultRules, made: Limits | None = None
) -> tuple[FaultState, tuple[Record, ...]]:
    """Take a sample.

    Args:
        state: what was seen.
        sample: the newest readings.
        limits: of healthy sensors.
        rules: how sure to be.
        made: `arrays(limits)`, if the caller has kept them.

    Example:
        >>> from shared.sensor_limits import NEVER, SensorLimits
        >>> limits = SensorLimits(tags=("LIT101",), low=(0.0,), high=(9.0,), step=(NEVER,), rest=(0,), gap=(5,),
        ...                       loud=(NEVER,), quiet=(0.0,), centre=(5.0,), spread=(1.0,))
        >>> seen = FaultState.fresh(1), ()
        >>> for number in range(3):
        ...     seen = step(seen[0], Sample(float(number), np.float32([99.0]), number), limits, FaultRules())
        >>> seen[1][0].kind, seen[1][0].text
        ('range', 'LIT101 reads 99, beyond 0 to 9.')
    """
    made = made or arrays(limits)
    state, spiked_D = _advanced(state, sample, made, limits.row_rest)
    holds_KD = np.stack(
        [
            state.gap_D >= made["gap"],
            state.off_D >= rules.range_rows,
            state.same_D + 1 >= made["rest"],
            state.flat_D,
            state.noisy_D,
            spiked_D,
        ]
    )
    state, source = _of_source(state, sample, limits, rules, holds_KD)
    state, tags = _of_tags(state, sample, limits, rules, holds_KD)
    return state, (*source, *tags)


def _advanced(state: FaultState, sample: Sample, made: Limits, row_rest: int) -> tuple[FaultState, BoolArray]:
    """Count on: runs, blocks, jumps; and which tags have just come back from a spike."""
    values_D = sample.values_D.astype(np.float64)
    known_D = np.isfinite(values_D)
    change_D = values_D - state.last_D  # NaN where either is unknown
    same_D = np.where(change_D == 0, state.same_D + 1, 0)
    out_D = known_D & ((values_D < made["low"]) | (values_D > made["high"]))
    jumped_D = np.abs(change_D) > made["step"]
    away_D = np.abs(values_D - state.before_D)
    back_D = (state.jump_D > 0) & (state.jump_D <= _SPIKE_ROWS) & (away_D <= made["step"])
    begins_D = jumped_D & (state.jump_D == 0)
    jump_D = np.where(begins_D, 1, np.where((state.jump_D > 0) & (state.jump_D < _SPIKE_ROWS), state.jump_D + 1, 0))
    state = replace(
        state,
        last_D=np.where(known_D, values_D, state.last_D),
        before_D=np.where(begins_D, state.last_D, state.before_D),
        same_D=same_D,
        gap_D=np.where(known_D, 0, state.gap_D + 1),
        off_D=np.where(out_D, state.off_D + 1, 0),
        jump_D=np.where(back_D, 0, jump_D),
        low_D=np.fmin(state.low_D, values_D),
        high_D=np.fmax(state.high_D, values_D),
        loud_D=state.loud_D + (np.abs(change_D) > made["loud"]),
        count_D=state.count_D + known_D,
        rows=state.rows + 1,
        row_same=state.row_same + 1 if np.all((change_D == 0) | ~known_D) and known_D.any() else 0,
        still=state.still + 1 if sample.time <= state.time else 0,
        time=sample.time,
    )
    return (_block_ended(state, made) if state.rows >= BLOCK else state), back_D


def _block_ended(state: FaultState, made: Limits) -> FaultState:
    full_D = state.count_D * 2 >= BLOCK
    spread_D = np.where(full_D, state.high_D - state.low_D, np.inf)
    inside_D = (state.low_D >= made["low"]) & (state.high_D <= made["high"])
    new = FaultState.fresh(len(state.last_D))
    return replace(
        state,
        noisy_D=full_D & inside_D & (state.loud_D >= _LOUD_ROWS),
        flat_D=full_D & (spread_D < made["quiet"]) & (spread_D > 0),
        low_D=new.low_D,
        high_D=new.high_D,
        loud_D=new.loud_D,
        count_D=new.count_D,
        rows=0,
    )


def _of_source(
    state: FaultState, sample: Sample, limits: SensorLimits, rules: FaultRules, holds_KD: BoolArray
) -> tuple[FaultState, tuple[Record, ...]]:
    """Faults of the source. What they explain is taken out of the tags' own."""
    lost = int(holds_KD[0].sum())
    holds = {
        "missing": lost * 2 > limits.dim,
        "frozen": limits.row_rest > 0 and state.row_same + 1 >= limits.row_rest,
        "clock": state.still >= rules.clock_rows,
    }
    if holds["missing"]:
        holds_KD[0] = False
    if holds["frozen"]:
        holds_KD[2:4] = False
    if not any(holds.values()) and not state.source:
        return state, ()
    told = {
        "missing": f"{lost} of {limits.dim} tags give no reading.",
        "frozen": f"all readings have been the same for {state.row_same + 1} samples.",
        "clock": f"the source's time has stood still or gone back for {state.still} samples.",
    }
    records: list[Record] = []
    source = dict(state.source)
    for kind, on in holds.items():
        if on and kind not in source:
            source[kind] = sample.time
            records.append(Fault(sample.time, SOURCE, kind, "active", sample.time, math.nan, told[kind]))
        elif not on and kind in source:
            text = "it is over."
            records.append(Fault(sample.time, SOURCE, kind, "cleared", source.pop(kind), math.nan, text))
    return replace(state, source=source), tuple(records)


def _of_tags(
    state: FaultState, sample: Sample, limits: SensorLimits, rules: FaultRules, holds_KD: BoolArray
) -> tuple[FaultState, tuple[Record, ...]]:
    any_D = holds_KD.any(axis=0)
    if not any_D.any() and not state.kind_D.any():
        return state, ()
    found_D = np.where(any_D, holds_KD.argmax(axis=0) + 1, 0)
    begins_D = any_D & (state.kind_D == 0)
    good_D = np.where(any_D, 0, state.good_D + 1)
    ends_D = (state.kind_D > 0) & (good_D >= rules.recover_rows)
    kind_D = np.where(begins_D, found_D, np.where(ends_D, 0, state.kind_D))
    records: list[Record] = []
    for d in np.flatnonzero(begins_D | ends_D):
        kind = KINDS[int(found_D[d] if begins_D[d] else state.kind_D[d])]
        since = sample.time if begins_D[d] else float(state.since_D[d])
        text = _text(kind, int(d), state, sample, limits) if begins_D[d] else f"{limits.tags[d]} is healthy again."
        reading, standing = float(sample.values_D[d]), "active" if begins_D[d] else "cleared"
        records.append(Fault(sample.time, limits.tags[d], kind, standing, since, reading, text))  # type: ignore[arg-type]
    since_D = np.where(begins_D, sample.time, state.since_D)
    return replace(state, kind_D=kind_D, since_D=since_D, good_D=good_D), tuple(records)


def _text(kind: str, d: int, state: FaultState, sample: Sample, limits: SensorLimits) -> str:
    tag, reading = limits.tags[d], float(sample.values_D[d])
    return {
        "missing": f"{tag} has given no reading for {state.gap_D[d]} samples.",
        "range": f"{tag} reads {reading:g}, beyond {limits.low[d]:g} to {limits.high[d]:g}.",
        "stuck": f"{tag} has read exactly {reading:g} for {state.same_D[d] + 1} samples.",
        "flat": f"{tag} has hardly changed over the last {BLOCK} samples.",
        "noise": f"{tag} changed far more than ever over the last {BLOCK} samples.",
        "spike": f"{tag} jumped and came back to {reading:g} at once.",
    }[kind]


def faulty(state: FaultState, limits: SensorLimits) -> frozenset[str]:
    """Tags that have a fault now."""
    return frozenset(limits.tags[d] for d in np.flatnonzero(state.kind_D))


def mute(state: FaultState, limits: SensorLimits, rules: FaultRules) -> frozenset[str]:
    """Tags whose fault takes their word away: all faulty ones but those that are beyond a range that was only learnt,
    for an attack may drive a plant there. A range that a person gave is the instrument's own.
    """
    beyond = KINDS.index("range")
    given = {limits.tags[d] for d in np.flatnonzero(state.kind_D == beyond)} - set(rules.ranges)
    return faulty(state, limits) - given
