"""Plants that differ: what a shared trunk, training held back and models of a plant's own do (docs/differ.md).

    .venv/bin/python -m benchmarks.differ mixed      # data under CROSSPLANT_DATA, else ../shared/data
    .venv/bin/python -m benchmarks.differ alike
    .venv/bin/python -m benchmarks.differ files --seeds 3 --stride 1

`mixed`: BATADAL, four files of SKAB and two twin plants in one federation; `alike`: four twin plants of one make, of
which the fourth has 5 % of the usual training data; `files`: eight files of SKAB, the last cut to half. `local`: each
site a federation of its own, with as many rounds. All others differ from plain averaging in the settings that their
name says. What is compared is the network by its own error: no lag model and no judge beside it, unless --evidence is
given. Few rounds, one detector: differences, not records.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.processes import ROOT
from client.ingest.base import load
from shared.config import RunConfig, Settings, build
from shared.errors import CrossplantError
from shared.preprocess import join_labels, join_rows
from shared.schema import SensorSchema
from shared.series import SiteData
from simulations.evaluate import evaluate_site
from simulations.mixed import shrunk
from simulations.study.neural import FittedBundle, federated
from simulations.twin.make import as_site, simulate

DAYS, EVERY, LATE = 2.0, 30, 0.05
SMALL: Settings = {
    "recipe": {
        "detector": {"window": 24, "hidden": 32, "latent": 8},
        "clustering": {"refresh_every": 0},
        "scoring": {"evidence": False},
        "lag": {"on": False},
    },
    "rounds": {"weighting": "uniform", "patience": 0},
    "engine": {"workers": 1},
}
OWN = {"personal_epochs": 5, "personal_proximal": 0.1}
BETTER = {**OWN, "keep": "better"}
Variants = Mapping[str, tuple[dict[str, Any], dict[str, Any]]]
"""`recipe.sharing` and `rounds` of each; `local` has no federation."""

MIXED: Variants = {
    "local": ({}, {}),
    "trunk": ({}, {}),
    "trunk, personal": (OWN, {}),
    "trunk, better kept": (BETTER, {}),
}
ALIKE: Variants = {
    "local": ({}, {}),
    "FedAvg": ({}, {}),
    "FedProx 0.01": ({"proximal": 0.01}, {}),
    "FedProx 0.1": ({"proximal": 0.1}, {}),
    "FedAvgM": ({}, {"server_optimizer": "fedavgm"}),
    "FedYogi": ({}, {"server_optimizer": "fedyogi"}),
    "FedAvg, personal": (OWN, {}),
    "FedAvg, better kept": (BETTER, {}),
    "trunk": ({"share": "trunk"}, {}),
}


def twin(number: int, seed: int) -> SiteData:
    """A twin plant whose historian keeps a row every half minute."""
    site = as_site(f"twin-{number}", *simulate(number, DAYS, "swat", seed))
    train_TD, train_starts = join_rows(site.train_TD, site.train_starts, EVERY, "median")
    test_TD, test_starts = join_rows(site.test_TD, site.test_starts, EVERY, "median")
    labels_T = join_labels(np.asarray(site.labels_T), site.test_starts, EVERY)
    schema = SensorSchema(tags=site.schema.tags, period_s=site.schema.period_s * EVERY)
    return replace(
        site,
        schema=schema,
        train_TD=train_TD,
        test_TD=test_TD,
        labels_T=labels_T,
        train_starts=train_starts,
        test_starts=test_starts,
        ranges=None,
    )


def mixed(root: Path, seed: int) -> tuple[SiteData, ...]:
    """Sites of three makes."""
    skab = [site for site in load("skab", root / "skab") if site.name.startswith("valve1")][:4]
    return (*load("batadal", root / "batadal"), *skab, twin(1, seed), twin(2, seed))


def alike(_: Path, seed: int) -> tuple[SiteData, ...]:
    """Plants of one make, one of them new."""
    return shrunk([twin(number, seed) for number in (1, 2, 3, 4)], [f"twin-4:{LATE}"])


def files(root: Path, _: int) -> tuple[SiteData, ...]:
    """Runs of one test bench, 400 rows of training each, the last of them half of that."""
    sites = [site for site in load("skab", root / "skab") if site.name.startswith("valve1")][:8]
    return shrunk(sites, [f"{sites[-1].name}:0.5"])


def settings(sharing: dict[str, Any], rounds: dict[str, Any], seed: int, count: int, stride: int) -> RunConfig:
    """A run of so many rounds, three tenths of them without clusters."""
    pretrain = round(0.3 * count)
    recipe: Settings = {"sharing": {"alone_epochs": count, **sharing}, "training": {"stride": stride}}
    own = {"recipe": recipe, "rounds": rounds}
    base = {"seed": seed, "rounds": {"pretrain": pretrain, "joint": count - pretrain}}
    return build({"small": SMALL, "count": base, "variant": own})[0]


def with_evidence(config: RunConfig) -> RunConfig:
    """The same, scored by the plant's judge."""
    scoring = config.recipe.scoring.model_copy(update={"evidence": True})
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"scoring": scoring})})


def figures(name: str, sites: Sequence[SiteData], config: RunConfig, scratch: Path) -> dict[str, tuple[float, str]]:
    """AUPRC of each site, and which model it kept."""
    alone = config.model_copy(update={"rounds": config.rounds.model_copy(update={"fewest": 1})})
    groups = [([site], alone) for site in sites] if name == "local" else [(list(sites), config)]
    found: dict[str, tuple[float, str]] = {}
    for at, (group, run) in enumerate(groups):
        for site, fitted in zip(group, federated(group, run, scratch / str(at)), strict=True):
            found[site.name] = _figure(site, fitted) if isinstance(fitted, FittedBundle) else (float("nan"), fitted.why)
    return found


def _figure(site: SiteData, fitted: FittedBundle) -> tuple[float, str]:
    result = evaluate_site(site, fitted.bundle, torch.device("cpu"))
    auprc = None if result.evaluation is None else result.evaluation.to_dict()["auprc"]
    return float("nan") if auprc is None else auprc, fitted.bundle.provenance.origin


def measure(which: str, variants: Variants, root: Path, given: argparse.Namespace) -> None:
    """Print a line for each variant and seed as it is done, then the table."""
    seeds, rounds = given.seeds, given.rounds
    make, share = {"mixed": (mixed, "trunk"), "alike": (alike, "all"), "files": (files, "all")}[which]
    table: dict[str, list[dict[str, tuple[float, str]]]] = {name: [] for name in variants}
    for seed in range(seeds):
        sites = make(root, seed)
        for name, (sharing, other) in variants.items():
            config = settings({"share": share, **sharing}, other, seed, rounds, given.stride)
            if given.evidence:
                config = with_evidence(config)
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    found = figures(name, sites, config, Path(scratch))
                except CrossplantError as error:
                    print(f"{name}: {error}", flush=True)
                    continue
            table[name].append(found)
            shown = ", ".join(f"{site} {value:.3f} {origin}" for site, (value, origin) in found.items())
            print(f"seed {seed} | {name} | {time.perf_counter() - began:.0f} s | {shown}", flush=True)
    names = [site.name for site in sites]
    print(f"\n| AUPRC, mean of {seeds} seeds, {rounds} rounds | mean | {' | '.join(names)} |")
    print("| --- " * (len(names) + 2) + "|")
    for name, runs in table.items():
        if runs:
            cells = [float(np.mean([run[site][0] for run in runs])) for site in names]
            print(f"| {name} | {np.mean(cells):.3f} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["mixed", "alike", "files"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--stride", type=int, default=6, help="rows from one training window to the next")
    parser.add_argument("--evidence", action="store_true", help="score with the plant's judge, as the default does")
    parser.add_argument("--only", action="append", help="a variant; may be given more than once")
    given = parser.parse_args()
    torch.set_num_threads(1)
    every = MIXED if given.which == "mixed" else ALIKE
    variants = {name: every[name] for name in given.only or every}
    root = Path(os.environ.get("CROSSPLANT_DATA") or ROOT.parent / "shared" / "data")
    measure(given.which, variants, root, given)


if __name__ == "__main__":
    main()
