"""Do alarms name the attacked tag? `python -m benchmarks.explain RUN [RUN ...] [--days 1]`

RUN is the folder of `crossplant simulate --dataset twin-swat --days DAYS ...`, or of twin-wadi. A day of scripted
attacks on each of its plants goes through engine, guard and alarm stage as live samples would, with ten minutes of
normal rows before each event. An event is detected when an alarm is raised while it lasts or within half a minute
after; the tag is named when it is among the first three of that alarm. The federated model is looked at alone, too: at
the whole false alarm rate, with its own attributions.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence, default_rng

from client.edge.alarm_stage import Alarms
from client.edge.alarm_values import AlarmRules, Told
from client.edge.engine import Engine, Model
from client.edge.loading import make_model
from client.edge.records import Notice, Sample
from client.edge.scorer import Graph, Scorer
from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.bundle.whole import read_bundle
from shared.catalogue import tags
from shared.contributions import telling
from shared.series import FloatArray
from simulations.twin import base
from simulations.twin.make import DAY_S
from simulations.twin.script import Event

LEAD_S, AFTER_S = 600, 30
RULES = AlarmRules()
NOTICED = 0.1  # p-value of the federated model: far from an alarm, but not nothing


@dataclass(frozen=True)
class Found:
    """One event, and the alarm that it raised.

    Attributes:
        event: what was done.
        by: models that raised the alarm; empty: not detected.
        sensors: that it names, largest first.
        delay_s: from the beginning of the event.
    """

    event: Event
    by: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    delay_s: float = 0.0

    def named(self, top: int = 3) -> bool:
        """Whether the attacked tag is among the first ones."""
        return self.event.target in self.sensors[:top]

    @property
    def line(self) -> str:
        """For a person."""
        seen, named = f"by {'+'.join(self.by)} after {self.delay_s:.0f} s", "named" if self.named() else "-"
        told = f"{named} {seen}: {', '.join(self.sensors[:3])}" if self.by else "not seen"
        return f"{self.event.kind} {self.event.target} {told}"


@dataclass(frozen=True)
class Measured:
    """What was found at one plant: by both models, by the federated one alone, and `by_error` of each event."""

    both: list[Found]
    alone: list[Found]
    ranks: list[tuple[float, int, int]]


def attacked(
    number: int, days: float, seed: int, seconds: int = DAY_S, layout: str = "swat"
) -> tuple[FloatArray, FloatArray, list[Event]]:
    """Normal rows and rows with attacks of plant `number` of `crossplant simulate --seed`."""
    twin = base.find(layout)
    build, script, life = (default_rng(child) for child in SeedSequence([seed, number]).spawn(3))
    plant, normal = twin.draw(build), round(days * DAY_S)
    events = twin.plan(plant, seconds, script)
    moved = tuple(replace(event, first_s=event.first_s + normal, end_s=event.end_s + normal) for event in events)
    whole = twin.run(plant, twin.attack_begins - timedelta(seconds=normal), normal + seconds, moved, life)
    return whole.values_TD[:normal], whole.values_TD[normal:], list(events)


def measure(bundle: EdgeBundle, attack_TD: FloatArray, events: list[Event]) -> list[Found]:
    """What the alarms of one plant say of each event: by both models, as an edge box runs them, or by a bundle's
    federated model where it has no guard.
    """
    return [one(make_model(bundle), bundle, attack_TD, event) for event in events]


def one(model: Model, bundle: EdgeBundle, attack_TD: FloatArray, event: Event) -> Found:
    """What the first alarm within one event says."""
    stage = Alarms(RULES, bundle.schema.tags, bundle.schema.period_s, bundle.scale)
    engine = Engine(model, [stage])
    engine.heard(Notice(0.0, "gap", ""))
    for second in range(max(0, event.first_s - LEAD_S), min(event.end_s + AFTER_S, len(attack_TD))):
        for record in engine.feed(Sample(float(second), attack_TD[second], second)):
            if isinstance(record, Told) and record.what in ("raised", "returned") and second >= event.first_s:
                sensors = tuple(part.tag for part in record.alarm.sensors)
                return Found(event, record.alarm.by, sensors, second - event.first_s)
    return Found(event)


def by_error(bundle: EdgeBundle, attack_TD: FloatArray, event: Event) -> tuple[float, int, int]:
    """The federated model alone, whether it alarms or not: at the highest score within the event its p-value, and the
    attacked tag's place (0 is first) by the error itself and by `shared.contributions.telling`.
    """
    scorer, worst, window_WD = Scorer(bundle), -np.inf, None
    for second in range(max(0, event.first_s - bundle.setup.window), event.end_s):
        scored = scorer.feed(Sample(float(second), attack_TD[second], second))
        if scored is not None and second >= event.first_s and scored.score > worst:
            worst, window_WD = scored.score, scorer.window_WD
    if window_WD is None:
        return 1.0, bundle.schema.dim, bundle.schema.dim
    rebuilt_1WD, _ = Graph(bundle)(window_WD[None])
    tail = bundle.setup.tail or bundle.setup.window
    error_D = np.mean(np.square(rebuilt_1WD[0, -tail:] - window_WD[-tail:]), axis=0)
    told_D, tag = telling(error_D, np.array(bundle.calibration.tag_error_high)), bundle.schema.tags.index(event.target)
    return bundle.calibration.p_value(worst), int((error_D > error_D[tag]).sum()), int((told_D > told_D[tag]).sum())


def table(found: list[Found]) -> str:
    """Counts by who raised the alarm, as lines of text."""
    lines = [f"{'raised by':<20} {'detected':>8} {'first':>6} {'top 3':>6} {'top 5':>6}"]
    groups = {
        "any": found,
        **{by: [f for f in found if "+".join(f.by) == by] for by in sorted({"+".join(f.by) for f in found})},
    }
    for name, group in groups.items():
        seen = [f for f in group if f.by]
        if seen:
            counts = " ".join(f"{sum(f.named(top) for f in seen):>6}" for top in (1, 3, 5))
            lines.append(f"{name:<20} {len(seen):>8} {counts}")
    return "\n".join([*lines, f"{len(found)} events in all"])


def of_plant(folder: Path, days: float) -> Measured:
    """What is found at one plant of a run; says each event on standard output."""
    bundle = read_edge_bundle(folder)
    seed = read_bundle(bundle.folder).recipe.training.seed  # of the plants, too
    layout = next(one for one in base.known() if tuple(tag.name for tag in tags(one)) == bundle.schema.tags)
    _, attack_TD, events = attacked(int(folder.stem.rpartition("-")[2]), days, seed, layout=layout)
    both, alone = measure(bundle, attack_TD, events), measure(replace(bundle, guard=None), attack_TD, events)
    for with_guard, federated in zip(both, alone, strict=True):
        print(f"{layout} {seed} {folder.stem} {with_guard.line}; federated alone {federated.line}", flush=True)
    return Measured(both, alone, [by_error(bundle, attack_TD, event) for event in events])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--days", type=float, default=1.0)
    given = parser.parse_args()
    folders = [folder for run in given.runs for folder in sorted((run / "bundles").glob("*.bundle"))]
    plants = [of_plant(folder, given.days) for folder in folders]
    print(table([found for plant in plants for found in plant.both]))
    print("the federated model alone:")
    print(table([found for plant in plants for found in plant.alone]))
    noticed = [(raw, told) for plant in plants for p, raw, told in plant.ranks if p <= NOTICED]
    raw, told = (sum(pair[at] < 3 for pair in noticed) for at in (0, 1))
    print(f"and {len(noticed)} events with p <= {NOTICED}: top 3 by error {raw}, by telling error {told}")


if __name__ == "__main__":
    main()
