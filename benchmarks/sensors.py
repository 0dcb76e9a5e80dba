"""Sensor faults and drift on twin plants: `python -m benchmarks.sensors [--plants 4] [--far 3]`.

Limits are learnt from the first four fifths of a normal day; then the rest of it, the whole day, and a day with
scripted attacks are looked at.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks.explain import attacked
from client.edge.drift_stage import Drift, DriftRules, Drifts, Reference
from client.edge.fault_stage import Faults
from client.edge.faults import Fault
from client.edge.records import Sample
from shared.catalogue import tags
from shared.schema import SensorSchema
from shared.sensor_limits import fit

LEARNT = 0.8


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plants", type=int, default=4)
    parser.add_argument("--far", type=float, default=3.0)
    given = parser.parse_args()
    schema = SensorSchema(tags=tuple(tag.name for tag in tags("swat")), period_s=1.0)
    for number in range(1, given.plants + 1):
        normal_TD, attack_TD, events = attacked(number, 1.0, 0)
        cut = round(len(normal_TD) * LEARNT)
        limits = fit(normal_TD[:cut], schema)
        stuck = [event.target for event in events if event.kind == "stuck"]
        print(f"plant-{number}: stuck by attacks: {', '.join(stuck) or 'none'}")
        for name, rows_TD in (("rest", normal_TD[cut:]), ("whole day", normal_TD), ("attacks", attack_TD)):
            reference = Reference(np.array(limits.centre), np.array(limits.spread), 0.0, 1.0)
            drifts = Drifts(schema.tags, reference, DriftRules(far=given.far, near=given.far / 2))
            faults, began = Faults(limits), time.process_time()
            found = [r for i, row_D in enumerate(rows_TD) for stage in (faults, drifts)
                     for r in stage.feed(Sample(float(i), row_D, i), None)]  # fmt: skip
            cost = (time.process_time() - began) / len(rows_TD) * 1e6
            faulty = [f"{r.tag} {r.kind}" for r in found if isinstance(r, Fault) and r.state == "active"]
            moved = [f"{r.tag} {r.shift:+.1f}" for r in found if isinstance(r, Drift) and r.state == "drifting"]
            print(f"  {name:<10} {cost:4.0f} us  faults: {', '.join(faulty) or '-'}  drifts: {', '.join(moved) or '-'}")


if __name__ == "__main__":
    main()
