"""The alarm machine as a stage of the engine: judges scores, keeps the newest rows, takes orders, keeps its state."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from msgspec import structs

from client.edge.alarm_values import (
    Ack,
    Alarm,
    AlarmRules,
    AlarmState,
    Broken,
    Event,
    Judged,
    Ordered,
    Shelve,
    Stalled,
    Told,
    Unshelve,
)
from client.edge.alarms import step
from client.edge.engine import BREAKS, Model
from client.edge.records import Notice, Record, Sample, Scored
from client.edge.shelving import ALL, silenced
from shared.contributions import clear_level, score_without, share_of
from shared.scoring import ScoreScale

_STALLS = {"stalled": False, "resumed": True, "reconnected": True}
_LONGEST_STEP = 10.0  # periods; a longer one is a gap, which no timer counts


class Keeping(Protocol):
    """Where states and windows are kept: `client.edge.alarm_files.AlarmFiles`."""

    def save(self, state: AlarmState) -> None: ...

    def keep_window(self, name: str, rows: dict[str, Any]) -> bool: ...


class Alarms:
    """A `client.edge.engine.Stage`. Put it after the stage of sensor faults.

    Args:
        rules: when alarms are raised, cleared and told.
        tags, period_s: of the schema; seconds between two scores.
        scale: of the federated model's scores; None: they are errors themselves.
        window: raw rows that are kept with an alarm.
        faulty: tells which tags are faulty now.
        keeping: where state and windows are kept; None keeps nothing.
        state: to go on from.

    Attributes:
        state: what the machine remembers; `state.standing`, `state.listed`.
    """

    def __init__(
        self,
        rules: AlarmRules,
        tags: Sequence[str],
        period_s: float,
        scale: ScoreScale | None = None,
        window: int = 30,
        faulty: Callable[[], frozenset[str]] = frozenset,
        keeping: Keeping | None = None,
        state: AlarmState | None = None,
    ) -> None:
        self.state = state or AlarmState()
        self._rules, self._tags, self._scale, self._faulty, self._keeping = rules, tuple(tags), scale, faulty, keeping
        self._rows: deque[Sample] = deque(maxlen=window)
        self._longest_s, self._time = _LONGEST_STEP * period_s, math.nan

    @property
    def quiet(self) -> bool:
        """Whether nothing is pending or active: only then may anything learn."""
        return self.state.current is None and not self.state.bits and not self.state.shelves

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`."""
        self._rows.append(sample)
        if scored is None:
            return ()
        back = () if self.state.known else self._step(Stalled(sample.time, over=True))
        return (*back, *self._step(self._judged(scored)))

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`."""
        if notice.kind in BREAKS:
            self._rows.clear()
            return self._step(Broken(notice.time))
        return self._step(Stalled(notice.time, _STALLS[notice.kind])) if notice.kind in _STALLS else ()

    def swapped(self, model: Model) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`."""
        bundle = getattr(model.scorer, "bundle", None)
        self._scale = self._scale if bundle is None else bundle.alarm_scale
        return self._step(Broken(self._time))

    def told(self, order: Ack | Shelve | Unshelve, time: float) -> tuple[Record, ...]:
        """Take what a person orders, at the plant's time; a tag that is not there is refused."""
        if not isinstance(order, Ack) and order.tag not in {ALL, *self._tags}:
            return (Notice(time, "rejected", f"there is no tag {order.tag} to shelve (by {order.by})."),)
        return self._step(Ordered(self._time if math.isfinite(self._time) else time, order))

    def _judged(self, scored: Scored) -> Judged:
        elapsed_s = scored.time - self._time
        self._time = scored.time
        elapsed_s = elapsed_s if 0 < elapsed_s <= self._longest_s else 0.0
        by = scored.raised_by
        if not by:
            return Judged(scored, below=self._below(scored), elapsed_s=elapsed_s)
        faulty, silent = self._faulty(), silenced(self.state.shelves)
        free_by = by if not faulty and not silent else self._by_without(scored, faulty | silent)
        cause = "fault" if faulty and not self._by_without(scored, faulty) else "shelved"
        return Judged(scored, by, free_by, False, "fault" if cause == "fault" else "shelved", elapsed_s)

    def _below(self, scored: Scored) -> bool:
        rules = self._rules
        if not scored.score <= clear_level(scored.threshold, rules.clear_fraction, self._scale):
            return False
        if scored.guard is None or scored.guard_threshold is None:
            return True
        return scored.guard <= clear_level(scored.guard_threshold, rules.clear_fraction, None)

    def _by_without(self, scored: Scored, tags: frozenset[str]) -> tuple[str, ...]:
        """Models that would be above their threshold had these tags no share in it."""
        if ALL in tags:
            return ()
        share = share_of([(part.tag, part.share) for part in scored.parts], tags)
        by, scale = scored.raised_by, self._scale or ScoreScale(entropy_weight=0)
        left = score_without(scored.score, scored.error, share, scale)
        found = ("federated",) if "federated" in by and left > scored.threshold else ()
        rest = 0.0 if scored.guard is None or share >= 1 else scored.guard * (1 - share)
        guard = "guard" in by and scored.guard_threshold is not None and rest > scored.guard_threshold
        return (*found, "guard") if guard else found

    def _step(self, event: Event) -> tuple[Record, ...]:
        before = self.state
        self.state, records = step(before, event, self._rules)
        records = tuple(self._with_window(record) for record in records)
        stands = (before.current is None) != (self.state.current is None)  # Getting worse is not worth a write.
        if self._keeping is not None and (records or stands or self.state.shelves is not before.shelves):
            self._keeping.save(self.state)
        return records

    def _with_window(self, record: Record) -> Record:
        """A new alarm without its reference, when the rows that raised it cannot be kept."""
        if not isinstance(record, Told) or record.what != "raised" or self._kept(record.alarm):
            return record
        alarm = structs.replace(record.alarm, window="")
        self.state = structs.replace(self.state, current=alarm)
        return replace(record, alarm=alarm)

    def _kept(self, alarm: Alarm) -> bool:
        if self._keeping is None or not self._rows:
            return False
        rows = [[_number(value) for value in sample.values_D.tolist()] for sample in self._rows]
        times = [sample.time for sample in self._rows]
        kept = {"alarm": alarm.id, "bundle": alarm.bundle, "tags": list(self._tags), "times": times, "rows": rows}
        return self._keeping.keep_window(alarm.id, kept)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
