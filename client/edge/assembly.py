"""A scorer put together: the models and what watches over them, sensor faults, drift, alarms, a threshold that follows.

    whole = assemble(bundle, settings, state)
    whole.start()
    records = whole.engine.feed(sample)
    records = whole.turn(time)        # once a second
    whole.close()

With a state folder new bundles are looked for, and alarms, drift and models outlive the process; without one, nothing
is kept and the bundle stays what it is.
"""

from __future__ import annotations

import time as wall_clock
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from client.edge.budget import budgeted
from client.edge.engine import Engine
from client.edge.loading import load_edge, make_model
from client.edge.promise import refuse_unsupported, unsupported
from client.edge.records import Notice, Record
from client.edge.settings import Settings
from client.edge.watch import Watch, WatchRules
from shared.bundle.edge import EdgeBundle
from shared.errors import CrossplantError

if TYPE_CHECKING:
    from client.edge.keeper import Keeper


@dataclass
class Assembly:
    """One scorer's parts.

    Attributes:
        bundle: in force at the start; its schema is what a source delivers.
        engine: takes samples.
        watch: sensor faults, drift, alarms, the threshold that follows.
        keeper: of the models; None without a state folder.
        budget: false alarms a day that set the thresholds; None: they are the bundle's own.
    """

    bundle: EdgeBundle
    engine: Engine
    watch: Watch
    keeper: Keeper | None = None
    budget: float | None = None

    def start(self) -> tuple[Notice, ...]:
        """Look for new bundles from now on.

        Returns:
            what a person should know at the beginning.
        """
        if self.keeper is not None:
            self.keeper.start()
        now = wall_clock.time()
        return (self._started(now), *(Notice(now, "trouble", told) for told in self.watch.troubles))

    def turn(self, time: float) -> tuple[Record, ...]:
        """Take what people ordered, keep what must outlive the process; `time` is the plant's."""
        self.watch.digest = self.engine.model.scorer.digest
        return self.watch.turn(time)

    def close(self) -> None:
        """Keep the states; look for nothing any more."""
        if self.keeper is not None:
            self.keeper.close()
        self.watch.digest = self.engine.model.scorer.digest
        self.watch.save()

    def _started(self, now: float) -> Notice:
        made, lacking = self.bundle.provenance, unsupported(self.bundle, self.budget)
        guard = "with a local guard" if self.engine.model.guard is not None else "without a local guard"
        kept = "" if self.keeper is not None else "; without --state nothing is kept and no newer bundle is looked for"
        text = (
            f"bundle {self.bundle.digest[:12]} of {made.site}, run {made.run}, round {made.round}, "
            f"signed by {self.bundle.signer}, {guard}{kept}. Scoring needs no server."
        )
        return Notice(now, "started", text + "".join(f" UNCALIBRATED: {one.cause} {one.cure}" for one in lacking))


def assemble(
    folder: Path,
    settings: Settings | None = None,
    state: Path | None = None,
    trust: Path | None = None,
    int8: bool = False,
) -> Assembly:
    """Put a scorer together.

    Args:
        folder: one bundle, or a folder of versions.
        settings: of the edge.toml.
        state: folder that outlives the process; None: nothing is kept.
        trust: file with the agent's public key.
        int8: run graphs in 8 bits.

    Raises:
        BundleInvalid: there is none that can score.
        FileTrouble: the state folder or the key cannot be used.
        InvalidConfig: the state folder is another plant's.
        MissingExtra: a package is not installed.
        RateNotSupported: the edge.toml names an alarm budget or wants calibrated thresholds only, and the plant's
            normal data cannot carry that.
        SchemaMismatch: limits of sensors are for other tags.
    """
    found = settings or Settings()
    rules, budget = WatchRules(found.alarms, found.faults, found.drift, found.adapt), found.alarms.budget_a_day
    if state is None:
        bundle = budgeted(load_edge(folder, trust), budget)
        _check(bundle, found)
        model = make_model(bundle, found.top, int8)
        watch = Watch(model, bundle, None, rules, bundle.limits)
        return Assembly(bundle, Engine(model, watch.stages), watch, budget=budget)
    from client.edge.examine import examine_apart  # Both bring subprocess along, and a plant without a state folder has
    from client.edge.keeper import Keeper  # no use for it.

    apart = partial(examine_apart, budget=budget)
    keeper = Keeper(folder, state, found.swap, trust, found.top, int8, apart, budget)
    try:
        _check(keeper.bundle, found)
    except CrossplantError:
        keeper.close()
        raise
    watch = Watch(keeper.model, keeper.bundle, state, rules, keeper.bundle.limits)
    return Assembly(keeper.bundle, Engine(keeper.model, watch.stages, keeper.shadow), watch, keeper, budget)


def _check(bundle: EdgeBundle, settings: Settings) -> None:
    """Refuse thresholds that the plant's data cannot carry, where its edge.toml says so or names a budget."""
    budget = settings.alarms.budget_a_day
    if (settings.model.uncalibrated or ("warn" if budget is None else "refuse")) == "refuse":
        refuse_unsupported(bundle, budget)
