"""Sensor faults as a stage of the engine: put it before the alarms, which ask it for the faulty tags."""

from __future__ import annotations

from msgspec import structs

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
        self._take(limits)
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
        """See `client.edge.engine.Stage`: what a sensor does knows nothing of models, so what was seen stays. But the
        agent learns the limits again when the plant's data change, and publishes them with a bundle.
        """
        bundle = getattr(model.scorer, "bundle", None)
        if bundle is None or bundle.limits == self._learnt or bundle.limits.tags != self._learnt.tags:
            return ()
        changed = differing(self._learnt, bundle.limits)
        self._take(bundle.limits)
        self._name()
        told = f"bundle {bundle.digest[:12]} has other limits for {', '.join(changed[:5]) or 'all tags together'}"
        more = f" and {len(changed) - 5} more tags" if len(changed) > 5 else ""
        return (Notice(max(self.state.time, 0.0), "limits", f"{told}{more}; sensors are judged by them from now on."),)

    def _take(self, limits: SensorLimits) -> None:
        """Judge by these, but for ranges that a person gave."""
        self._learnt = limits
        self._limits = limits.with_ranges(self._rules.ranges) if self._rules.ranges else limits
        self._made = arrays(self._limits)

    def _name(self) -> None:
        self.tags, self.mute = faulty(self.state, self._limits), mute(self.state, self._limits, self._rules)


def differing(old: SensorLimits, new: SensorLimits) -> tuple[str, ...]:
    """Tags whose limits are not the same in both; both are for the same tags.

    Example:
        >>> from shared.schema import SensorSchema
        >>> from shared.sensor_limits import unknown
        >>> old = unknown(SensorSchema(tags=("LIT101", "P101"), period_s=1))
        >>> differing(old, structs.replace(old, gap=(7, old.gap[1])))
        ('LIT101',)
    """
    each = [value for name, value in structs.asdict(new).items() if name not in ("tags", "row_rest")]
    before = [value for name, value in structs.asdict(old).items() if name not in ("tags", "row_rest")]
    rows = zip(old.tags, zip(*before, strict=True), zip(*each, strict=True), strict=True)
    return tuple(tag for tag, was, now in rows if was != now)
