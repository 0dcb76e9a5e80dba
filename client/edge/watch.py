"""Sensor faults, drift, alarms and the threshold that follows, put together for one plant: what the runtime needs.

    watch = Watch(model, bundle, home, WatchRules())
    engine = Engine(model, watch.stages)
    records = engine.feed(sample)
    records = watch.turn(time)        # once a second: what people ordered; states are kept

Whatever was kept is taken up again; what cannot be read begins anew, and `troubles` says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from client.edge.adapt import Adaptation, Adapting, AdaptRules, follow
from client.edge.alarm_files import AlarmFiles
from client.edge.alarm_stage import Alarms
from client.edge.alarm_values import AlarmRules, AlarmState, Confirm
from client.edge.confirmed import FOLDER as RING
from client.edge.confirmed import Remembered
from client.edge.drift_stage import DriftRules, Drifts, Reference
from client.edge.engine import Model, Stage
from client.edge.fault_stage import Faults
from client.edge.faults import FaultRules, FaultState
from client.edge.records import Record
from shared.bundle.edge import EdgeBundle
from shared.bundle.files import read_file
from shared.disk import replace_file
from shared.errors import BundleInvalid
from shared.sensor_limits import SensorLimits

FILE = "watch.json"
_MOST = 8 * 2**20
_SAVE_S = 60.0  # of the plant's time
_REST_S = 10.0  # of this process's: a replay's minute is a moment, and scoring waits for the disk


@dataclass(frozen=True)
class WatchRules:
    """The groups of an edge.toml that are meant here."""

    alarms: AlarmRules = field(default_factory=AlarmRules)
    faults: FaultRules = field(default_factory=FaultRules)
    drift: DriftRules = field(default_factory=DriftRules)
    adapt: AdaptRules = field(default_factory=AdaptRules)


class Watch:
    """The stages of one plant, wired.

    Args:
        model: in force at the start; the threshold of its scorer is put on a leash.
        bundle: that it was made of.
        home: the state folder; None keeps nothing.
        rules: see `WatchRules`.
        limits: of healthy sensors; None: faults of sensors are not looked for.

    Attributes:
        stages: for `Engine`, in their order.
        alarms, faults, drifts, adapting: the parts; `faults` is None without limits.
        digest: of the bundle in force, which what is kept belongs to; whoever swaps models keeps it right.
        troubles: what could not be taken up again, in words.

    Raises:
        SchemaMismatch: limits or ranges are for other tags.
    """

    def __init__(
        self, model: Model, bundle: EdgeBundle, home: Path | None, rules: WatchRules, limits: SensorLimits | None = None
    ) -> None:
        self.troubles: list[str] = []
        self._files = None if home is None else AlarmFiles(home)
        self._home, self._saved, self._rested = home, float("-inf"), float("-inf")
        self.digest = bundle.digest
        kept = self._kept()
        tags, every = bundle.schema.tags, bundle.preprocessor.every
        self.faults = None if limits is None else self._faults(limits, rules.faults, kept)
        self.drifts = Drifts(tags, Reference.of(bundle, limits), rules.drift)
        self.adapting = Adapting(follow(model, rules.adapt))
        if kept.get("bundle") == bundle.digest:  # Scores of another model would be taken for drift.
            self._resumed("drift", self.drifts, kept)
            self._resumed("adaptation", self.adapting.adaptation, kept)
        self.alarms = Alarms(
            rules.alarms,
            tags,
            bundle.schema.period_s * every,
            bundle.alarm_scale,
            bundle.setup.window * every,
            self._mute,
            self._files,
            self._alarm_state(),
        )
        faults: tuple[Stage, ...] = () if self.faults is None else (self.faults,)
        self._remembered = Remembered(bundle.schema, None if home is None else home / RING)
        self.stages: tuple[Stage, ...] = (*faults, self.drifts, self.alarms, self._remembered, self.adapting)

    def turn(self, time: float) -> tuple[Record, ...]:
        """Take what people ordered, and keep the states once a minute of the plant's time, which `time` is, but not all
        the time where that runs fast.
        """
        if self._files is None:
            return ()
        orders, notices = self._files.orders(time)
        records: list[Record] = list(notices)
        for order in orders:
            if isinstance(order, Confirm):
                records += self.adapting.adaptation.confirm(order, time, self._alarmed)
                records += self._remembered.confirm(order, time, self._alarmed)
            else:
                records += self.alarms.told(order, time)
        if orders or (abs(time - self._saved) >= _SAVE_S and monotonic() - self._rested >= _REST_S):
            self._saved, self._rested = time, monotonic()
            self.save()
        return tuple(records)

    def save(self) -> None:
        """Keep the states; a disk that refuses is counted, and nothing stops."""
        if self._files is None or self._home is None:
            return
        self._files.save(self.alarms.state)
        faults = "" if self.faults is None else self.faults.state.json.decode()
        parts = {"drift": self.drifts.json, "adaptation": self.adapting.adaptation.json, "faults": faults}
        try:
            replace_file(self._home / FILE, json.dumps({"bundle": self.digest, **parts}).encode())
        except OSError as error:
            self._files.failures += 1
            self._files.trouble = error.strerror or str(error)

    def _mute(self) -> frozenset[str]:
        return frozenset() if self.faults is None else self.faults.mute

    def _alarmed(self, first: float, last: float) -> bool:
        state = self.alarms.state
        stands = state.current is not None and state.current.began <= last
        return stands or any(first <= time <= last for time in state.tally.times)

    def _alarm_state(self) -> AlarmState | None:
        if self._files is None:
            return None
        state, trouble = self._files.load()
        if trouble:
            self.troubles.append(trouble)
        return state

    def _kept(self) -> dict[str, str]:
        if self._home is None or not (self._home / FILE).exists():
            return {}
        try:
            found = json.loads(read_file(self._home, FILE, _MOST))
            return {str(name): str(part) for name, part in found.items()}
        except (BundleInvalid, ValueError, AttributeError, RecursionError) as error:
            self.troubles.append(f"drift and faults begin anew: {getattr(error, 'cause', None) or error}")
            return {}

    def _faults(self, limits: SensorLimits, rules: FaultRules, kept: dict[str, str]) -> Faults:
        state = None
        if kept.get("faults"):
            try:
                state = FaultState.parse(kept["faults"].encode(), limits.dim)
            except ValueError as error:
                self.troubles.append(f"faults begin anew: {error}")
        return Faults(limits, rules, state)

    def _resumed(self, name: str, part: Drifts | Adaptation, kept: dict[str, str]) -> None:
        try:
            part.resume(kept.get(name, ""))
        except ValueError as error:
            self.troubles.append(f"{name} begins anew: {error}")
