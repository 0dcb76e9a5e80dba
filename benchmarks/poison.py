"""What one poisoned plant of five costs the other four, by rule of aggregation: prints the tables of decision 0007.

    python -m benchmarks.poison [--rounds 16] [--rows 3000] [--seeds 2] [--rules mean robust] [--table both]

Every rule has the same gate, uniform weights and vote, so `mean` is not bare FedAvg.

First AUPRC over all faults of the four. Then one attack alone, which the poisoner teaches to be normal (the meters
around tank 2 read too much together), with and without the plants' local guard: a model of the same shape that never
saw the federation; an alarm of either counts, each with half of the false alarms.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client.agent.service import PlantAgent
from client.training.calibrate import calibrate
from client.training.loop import round_generator, train_epochs
from client.training.tensors import TensorWindows
from client.training.workspace import prepare
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle.parts import Provenance
from shared.bundle.whole import Bundle, read_bundle
from shared.config import TRUSTED, RunConfig, build
from shared.detectors import build as build_detector
from shared.metrics.pointwise import average_precision
from shared.model import GlobalModel, initial_weights
from shared.series import FloatArray, SiteData
from simulations.evaluate import score_rows
from simulations.faults import Accomplice, Attack, Attacker
from simulations.generate import TAGS, generate
from tests.support.plants import Loopback, Memory

CPU = torch.device("cpu")
METERS = [TAGS.index(tag) for tag in ("FIT201", "PIT301", "TIT301")]
TOO_MUCH = 2.5  # standard deviations
RULES = ("mean", "robust", "median", "trimmed-mean", "krum")
STRETCH, EVERY = 30, 150  # rows
FALSE_ALARMS = 0.01  # of normal rows


@dataclass(frozen=True)
class Case:
    """Sites whose test data holds what is to be found, the last of them the poisoner's."""

    sites: tuple[SiteData, ...]


def config(rule: str, rounds: int, seed: int) -> RunConfig:
    recipe = {
        "detector": {"window": 20, "hidden": 16, "layers": 1, "latent": 8, "dropout": 0.0},
        "training": {"stride": 3, "learning_rate": 3e-3, "batch_size": 64},
        "scoring": {"tail": 3},
        "clustering": {"clusters": 4},
    }
    own = {"seed": seed, "recipe": recipe, "rounds": {"pretrain": rounds // 3, "joint": rounds - rounds // 3}}
    return build({"trusted": TRUSTED, "own": own, "rule": {"rounds": {"aggregation": rule, "deadline_s": 60.0}}})[0]


def shifted(rows_TD: FloatArray, unit_D: FloatArray, length: int, every: int) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Rows in which some meters read too much for a while, again and again; and when."""
    marked_T = np.arange(len(rows_TD)) % every >= every - length
    changed_TD = np.array(rows_TD)
    changed_TD[np.ix_(marked_T, METERS)] += TOO_MUCH * unit_D[METERS]
    return changed_TD, marked_T


def targeted(sites: tuple[SiteData, ...]) -> Case:
    """One attack in test data that has no other."""

    def attacked(site: SiteData) -> SiteData:
        calm_TD = site.test_TD[~np.asarray(site.labels_T)]
        test_TD, labels_T = shifted(calm_TD, site.train_TD.std(axis=0), STRETCH, EVERY)
        return replace(site, test_TD=test_TD, labels_T=labels_T)

    return Case(tuple(attacked(site) for site in sites))


def teach(values_TD: FloatArray) -> FloatArray:
    """The poisoner's training rows, half of them attacked."""
    return shifted(values_TD, np.ones(values_TD.shape[1], np.float32), EVERY // 2, EVERY)[0]


def federate(case: Case, settings: RunConfig, attack: Attack | None) -> dict[str, Bundle]:
    """The bundles of the four honest plants."""
    *honest, last = case.sites
    with tempfile.TemporaryDirectory(prefix="crossplant-") as home:
        agents = [PlantAgent(site, Path(home)) for site in honest]
        culprit = PlantAgent(last, Path(home))
        accomplice = Accomplice(last, teach) if attack is Attack.IN_NORM else None
        fifth = culprit if attack is None else Attacker(culprit, attack, accomplice)
        Coordinator(settings, Loopback([*agents, fifth]), Memory()).run(RunState("run", settings.digest))
        return {site.name: read_bundle(Path(home) / f"{site.name}.bundle") for site in honest}


def guard(site: SiteData, settings: RunConfig) -> Bundle:
    """A bundle of a model that saw this site's data alone, after as many epochs as the federation had rounds."""
    recipe = settings.recipe
    work = prepare(site, recipe)
    detector = build_detector(recipe.detector, work.schema.dim)
    detector.load_weights(initial_weights(detector.manifest(), settings.seed))
    train, holdout = (TensorWindows(part, recipe.detector.window, CPU) for part in (work.train, work.holdout))
    for step in range(settings.rounds.pretrain + settings.rounds.joint):
        noise = round_generator(settings.seed, site.name, step, CPU)
        train_epochs(detector, train, None, recipe.training, noise)
    made = calibrate(detector, None, train, holdout, recipe)
    model = GlobalModel(detector.weights())
    told = Provenance(site=site.name, run="guard", round=1, model=model.digest, holdout_loss=made.holdout_loss)
    return Bundle(told, model, recipe, work.schema, work.preprocessor, made.scale, made.threshold)


def found(case: Case, bundles: dict[str, Bundle]) -> float:
    """Mean AUPRC of the honest plants."""
    return float(np.mean([average_precision(*_usable(site, bundles[site.name])) for site in case.sites[:-1]]))


def _usable(site: SiteData, bundle: Bundle) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores_T = np.asarray(score_rows(site, bundle, CPU), np.float64)
    usable_T = np.isfinite(scores_T)
    return scores_T[usable_T], np.asarray(site.labels_T)[usable_T]


def recall(case: Case, *guarding: dict[str, Bundle]) -> tuple[float, float]:
    """Share of attacked rows that alarm, mean and worst plant: 1 % of normal rows are left to all models together."""
    rows = []
    for site in case.sites[:-1]:
        alarms = []
        for bundles in guarding:
            scores_T, labels_T = _usable(site, bundles[site.name])
            alarms.append(scores_T > np.quantile(scores_T[~labels_T], 1 - FALSE_ALARMS / len(guarding)))
        rows.append(float(np.any(alarms, axis=0)[labels_T].mean()))
    return float(np.mean(rows)), min(rows)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    for name, default in (("--rounds", 16), ("--rows", 3000), ("--seeds", 2)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--table", choices=("all", "taught", "both"), default="both")
    asked = parser.parse_args()
    cases = {seed: generate(5, asked.rows, seed) for seed in range(asked.seeds)}
    if asked.table != "taught":
        all_faults(cases, asked)
    if asked.table != "all":
        taught_attack(cases, asked)


def all_faults(cases: dict[int, tuple[SiteData, ...]], asked: argparse.Namespace) -> None:
    """The attacks that aggregation stops, or not."""
    attacks = (None, *(attack for attack in Attack if attack is not Attack.IN_NORM))
    print(f"all faults, AUPRC of four of five plants, {asked.rounds} rounds, {asked.seeds} seeds")
    for rule in asked.rules:
        row = []
        for attack in attacks:
            runs = [(Case(sites), config(rule, asked.rounds, s)) for s, sites in cases.items()]
            row.append(np.mean([found(case, federate(case, settings, attack)) for case, settings in runs]))
        cells = "  ".join(f"{a.value if a else 'clean'} {v:.3f}" for a, v in zip(attacks, row, strict=True))
        print(f"{rule:13} {cells}", flush=True)


def taught_attack(cases: dict[int, tuple[SiteData, ...]], asked: argparse.Namespace) -> None:
    """The one that it does not."""
    print(
        f"the taught attack, recall (worst plant), {asked.rounds} rounds: clean, in norm, guard alone, in norm + guard"
    )
    for rule in asked.rules:
        figures = []
        for seed, sites in cases.items():
            case, settings = targeted(sites), config(rule, asked.rounds, seed)
            guards = {site.name: guard(site, settings) for site in sites[:-1]}
            clean, poisoned = (federate(case, settings, attack) for attack in (None, Attack.IN_NORM))
            shown = ((clean,), (poisoned,), (guards,), (poisoned, guards))
            figures.append([number for models in shown for number in recall(case, *models)])
        means = np.mean(figures, axis=0).reshape(-1, 2)
        print(f"{rule:13} " + "  ".join(f"{mean:.2f} ({worst:.2f})" for mean, worst in means), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
