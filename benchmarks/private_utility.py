"""What privacy costs in detection: AUPRC on twin plants by epsilon, recipe and records a site (docs/privacy.md).

    python -m benchmarks.private_utility                                         # the whole table: hours on two cores
    python -m benchmarks.private_utility --segments 1500 6000 --epsilon 3 none   # what issue 6 asks for

Every cell is a run of `crossplant simulate` in a process of its own. `none` is the same run without differential
privacy: the same network, the same public start, one exact gradient an exchange and the same Adam at the server.
Recipes: `exchange` is the default under privacy; `fresh` is the same without the public start.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

ROWS = 60  # in a record
RECIPES = {"exchange": (), "fresh": ("--public-start", "none")}
SAME = (
    "recipe.detector.hidden=32",
    "recipe.detector.dropout=0.0",
    "recipe.clustering.clip=cloud",
    "recipe.clustering.kappa=50.0",
    "recipe.clustering.refresh_every=10",
    "recipe.training.stride=30",
    "recipe.preprocess.scaling=ranges",
    "rounds.server_optimizer=adam",
    "rounds.weighting=uniform",
    "rounds.pretrain=45",
    "rounds.joint=105",
)


def main() -> None:
    """Print the table in Markdown, a row as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.private_utility", description=__doc__)
    parser.add_argument("--segments", type=int, nargs="+", default=[500, 1500, 6000])
    parser.add_argument("--epsilon", nargs="+", default=["1", "3", "8", "none"])
    parser.add_argument("--recipe", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--held", type=float, default=0.2, help="share held out; all of it is scored in every exchange")
    parser.add_argument("--more", nargs="*", default=[], help="further settings, NAME=VALUE")
    given = parser.parse_args()
    print("| records a site | epsilon | recipe | AUPRC | AUROC | seconds |")
    print("|---|---|---|---|---|---|")
    for segments, recipe, epsilon in product(given.segments, given.recipe, given.epsilon):
        more = [*given.more, f"recipe.training.holdout={given.held}"]
        days = (segments + 5) * ROWS / (1 - given.held) / 86_400
        cells = [cell(days, epsilon, recipe, given.sites, seed, more) for seed in range(given.seeds)]
        found = {name: np.array([one[name] for one in cells]) for name in cells[0]}
        figures = " | ".join(f"{values.mean():.3f} ({values.std():.3f})" for values in found.values())
        print(f"| {segments:,} | {epsilon} | {recipe} | {figures} |", flush=True)


def cell(days: float, epsilon: str, recipe: str, sites: int, seed: int, more: list[str]) -> dict[str, float]:
    """Figures of one run: means over the sites."""
    private = ["--epsilon", epsilon] if epsilon != "none" else [part for one in SAME for part in ("--set", one)]
    start = RECIPES[recipe] or (() if epsilon != "none" else ("--public-start", "twin-swat"))
    with tempfile.TemporaryDirectory() as scratch:
        out, began = Path(scratch) / "run", time.monotonic()
        command = [sys.executable, "-m", "shared", "simulate", "--dataset", "twin-swat", "--days", f"{days:.4f}"]
        command += ["--sites", str(sites), "--seed", str(seed), "--out", str(out), *private, *start]
        command += [part for one in more for part in ("--set", one)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command[2:])}\n{done.stderr[-2000:]}")
        results = json.loads((out / "results.json").read_text())
        return {
            "auprc": results["macro"]["auprc"],
            "auroc": results["macro"]["auroc"],
            "seconds": time.monotonic() - began,
        }


if __name__ == "__main__":
    main()
