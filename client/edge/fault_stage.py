"""Sensor faults as a stage of the engine: put it before the alarms, which ask it for the faulty tags."""

from __future__ import annotations

from client.edge.engine import BREAKS, Model
from client.edge.faults import FaultRules, FaultState, arrays, faulty, mute, step
from client.edge.records import Notice, Record, Sample, Scored
from shared.sensor_limits import SensorLimits


class Faults:
    """A `client.edge.engine.Stage`.

    Args:
        limits: of healthy sensors, for the tags of the samples in their order.
        rules: how sure to be.
        state: to go on from.

    Attributes:
        state: what was seen.
        tags: those that are faulty now.
        mute: those of them that no alarm is raised for: `Alarms(faulty=lambda: faults.mute)`.
    """

    def __init__(self, limits: SensorLimits, rules: FaultRules | None = None, state: FaultState | None = None) -> None:
        self._rules = rules or FaultRules()
        self._limits = limits.with_ranges(self._rules.ranges) if self._rules.ranges else limits
        self._made = arrays(self._limits)
        self.state = state or FaultState.fresh(limits.dim)
        self._name()

    @property
    def quiet(self) -> bool:
        """Whether every sensor is healthy: only then may anything learn."""
        return not self.tags and not self.state.source

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`."""
        self.state, records = step(self.state, sample, self._limits, self._rules, self._made)
        if records:
            self._name()
        return records

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`."""
        if notice.kind in BREAKS:
            self.state = self.state.restarted()
        return ()

    def swapped(self, model: Model) -> tuple[Record, ...]:
        """See `client.edge.engine.Stage`: sensors know nothing of models."""
        return ()

    def _name(self) -> None:
        self.tags, self.mute = faulty(self.state, self._limits), mute(self.state, self._limits, self._rules)
