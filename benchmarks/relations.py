"""What relations by mode find alone on twin plants: AUPRC, events found and false alarms at a threshold without labels.

    .venv/bin/python -m benchmarks.relations [--seed 3] [--plants 4] [--days 2]

A row alarms above ln 2: twice what normal rows showed. `held`: an alarm goes on for 20 minutes after its last such row.
Every run of such rows counts as an alarm: what comes back at once is another.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from shared.metrics.events import event_recall, false_alarms_per_day
from shared.metrics.pointwise import average_precision
from shared.relations import Unfit, fit
from shared.series import BoolArray
from simulations.twin.make import simulate

THRESHOLD = float(np.log(2))
HOLD_S = 1200
_NONE = -7.0  # a score that a row has before the first


def held(alarm_T: BoolArray, rows: int) -> BoolArray:
    """Alarms, each going on for some rows."""
    last_T = np.maximum.accumulate(np.where(alarm_T, np.arange(len(alarm_T)), -rows - 1))
    found_T: BoolArray = np.arange(len(alarm_T)) - last_T <= rows
    return found_T


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line a plant, then means."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in (("seed", 3), ("plants", 4), ("days", 2)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args(arguments)
    print("plant   AUPRC  recall  FA/day  held: recall  FA/day  fit s  us/row (processor time)")
    figures = [_measured(plant, asked.days, asked.seed) for plant in range(1, asked.plants + 1)]
    means = "  ".join(f"{value:.2f}" for value in np.mean(figures, axis=0))
    print(f"mean    {means}")


def _measured(plant: int, days: int, seed: int) -> tuple[float, ...]:
    normal, attacked = simulate(plant, days, "swat", seed)
    began = time.process_time()
    found = fit(normal.values_TD.astype(np.float32))
    fitted = time.process_time()
    if isinstance(found, Unfit):
        raise SystemExit(found.reason)
    scores_T = np.nan_to_num(found.relations.scores(attacked.values_TD.astype(np.float32)), nan=_NONE)
    scored = time.process_time()
    labels_T, alarm_T = attacked.labels_T, scores_T > THRESHOLD
    figures = [average_precision(scores_T, labels_T)]
    for told_T in (alarm_T, held(alarm_T, HOLD_S)):
        figures += [event_recall(told_T, labels_T), false_alarms_per_day(told_T, labels_T, 1.0, rearm_s=0)]
    line = (*figures, fitted - began, (scored - fitted) / len(scores_T) * 1e6)
    print(f"{plant:5d}   " + "  ".join(f"{value:.3f}" for value in line), flush=True)
    return line


if __name__ == "__main__":
    main()
