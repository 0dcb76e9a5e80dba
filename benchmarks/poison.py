"""What one poisoned plant of five costs the other four: prints the tables of decision 0007.

    python -m benchmarks.poison                                                # under 4 minutes: a sketch of all tables
    python -m benchmarks.poison --table all --rounds 10 --seeds 3
    python -m benchmarks.poison --table taught --rounds 40 --seeds 2
    python -m benchmarks.poison --table guard --seeds 3 --plants generated twin --attacks meters habit --sizes 0.25 1

First AUPRC over all faults of the four, by rule of aggregation; every rule has the same gate, uniform weights and vote,
so `mean` is not bare FedAvg. Then one attack alone, which the poisoner teaches to be normal, with and without the
plants' local guard (`shared.local_guard`), which never sees the federation. An alarm of either counts, each with half
of the false alarms. Last the guards alone, which takes seconds.

How taught attacks are measured. Plants train on the first two thirds of a normal recording and are attacked in the
rest, so nothing but the attack is in the test data. Rows right after an attack whose window still holds some of it are
neither normal nor attacked, and are left out: with them in, they fix the threshold for 1 % false alarms.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
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
from shared import local_guard
from shared.bundle.parts import Provenance
from shared.bundle.whole import Bundle, read_bundle
from shared.config import TRUSTED, RunConfig, ThresholdConfig, build
from shared.detectors import build as build_detector
from shared.metrics.pointwise import average_precision
from shared.model import GlobalModel, initial_weights
from shared.preprocess import join_rows
from shared.schema import SensorSchema
from shared.scoring import RobustScale
from shared.series import FloatArray, SiteData
from shared.thresholds import fit as fit_threshold
from simulations.evaluate import score_rows
from simulations.faults import Accomplice, Attack, Attacker
from simulations.generate import generate
from simulations.twin import make
from tests.support.plants import Loopback, Memory

Scores = NDArray[np.float64]
Rows = NDArray[np.bool_]

CPU = torch.device("cpu")
METERS = {
    "generated": ("FIT201", "PIT301", "TIT301"),  # around tank 2
    "twin": ("FIT201", "LIT301", "DPIT301"),  # what comes into the ultrafiltration, its tank, its filter
}
RULES = ("mean", "robust", "median", "trimmed-mean", "krum")
STRETCH, EVERY = 30, 150  # rows
FALSE_ALARMS = 0.01  # of normal rows
WINDOW = 20
TWIN_DAYS, JOINED = 3.0, 10  # of normal operation; seconds that become one row
HEAD = f"{'':30} AUPRC (seeds)      recall at 1 % (worst) live: recall (worst), false alarms (worst)"
HELD = 0.2  # of the training rows, at their end: what no model was trained on


@dataclass(frozen=True)
class Case:
    """Sites whose test data holds what is to be found, the last of them the poisoner's.

    Attributes:
        shifts_D: for each site, what the attack adds to its scaled rows; empty where the test data has faults of its
            own.
    """

    sites: tuple[SiteData, ...]
    shifts_D: tuple[FloatArray, ...] = ()


def config(rule: str, rounds: int, seed: int) -> RunConfig:
    recipe = {
        "detector": {"window": WINDOW, "hidden": 16, "layers": 1, "latent": 8, "dropout": 0.0},
        "training": {"stride": 3, "learning_rate": 3e-3, "batch_size": 64, "holdout": HELD},
        "scoring": {"tail": 3, "evidence": False},
        "clustering": {"clusters": 4},
    }
    own = {"seed": seed, "recipe": recipe, "rounds": {"pretrain": rounds // 3, "joint": rounds - rounds // 3}}
    return build({"trusted": TRUSTED, "own": own, "rule": {"rounds": {"aggregation": rule, "deadline_s": 60.0}}})[0]


# ---- plants and attacks ----------------------------------------------------------------------------------------------


def calm_plants(kind: str, rows: int, seed: int) -> tuple[SiteData, ...]:
    """Five plants of normal operation only, half as many rows to test on as to train on."""
    sites = generate(5, rows * 3 // 2, seed) if kind == "generated" else _twins(seed)
    return tuple(_halved(site) for site in sites)


def _halved(site: SiteData) -> SiteData:
    cut = len(site.train_TD) * 2 // 3
    rest_TD = site.train_TD[cut:]
    return replace(site, train_TD=site.train_TD[:cut], test_TD=rest_TD, labels_T=np.zeros(len(rest_TD), np.bool_))


def _twins(seed: int) -> tuple[SiteData, ...]:
    """SWaT twins at one row every 10 s."""
    made = (make.as_site(f"plant-{n}", *make.simulate(n, TWIN_DAYS, "swat", seed)) for n in range(1, 6))
    return tuple(
        replace(
            site,
            schema=SensorSchema(tags=site.schema.tags, period_s=float(JOINED)),
            train_TD=join_rows(site.train_TD, (0,), JOINED, "median")[0],
        )
        for site in made
    )


def meters(site: SiteData, kind: str, size: float) -> FloatArray:
    """Some meters read too much together."""
    return np.where(np.isin(site.schema.tags, METERS[kind]), size, 0.0).astype(np.float32)


def habit(site: SiteData, kind: str, size: float) -> FloatArray:
    """All tags move as they mostly move together: along the first principal direction of the plant's own rows."""
    scaled_TD = (site.train_TD - site.train_TD.mean(axis=0)) / np.maximum(site.train_TD.std(axis=0), 1e-6)
    values_D, vectors_DD = np.linalg.eigh(np.cov(scaled_TD.T))
    return np.asarray(size * np.sqrt(values_D[-1]) * vectors_DD[:, -1], np.float32)


ATTACKS = {"meters": meters, "habit": habit}


def stretches(rows: int, length: int, every: int) -> Rows:
    """Which rows are attacked: the last `length` of every `every`."""
    marked_T: Rows = np.arange(rows) % every >= every - length
    return marked_T


def targeted(sites: tuple[SiteData, ...], kind: str, attack: str, size: float) -> Case:
    """One attack, `size` standard deviations large, in test data that has no other."""
    shifts_D = tuple(ATTACKS[attack](site, kind, size) for site in sites)

    def attacked(site: SiteData, shift_D: FloatArray) -> SiteData:
        marked_T = stretches(len(site.test_TD), STRETCH, EVERY)
        added_TD = marked_T[:, None] * (shift_D * site.train_TD.std(axis=0))
        return replace(site, test_TD=(site.test_TD + added_TD).astype(np.float32), labels_T=marked_T)

    return Case(tuple(map(attacked, sites, shifts_D)), shifts_D)


# ---- models ----------------------------------------------------------------------------------------------------------


def federate(case: Case, settings: RunConfig, attack: Attack | None) -> dict[str, Bundle]:
    """The bundles of the four honest plants."""
    *honest, last = case.sites

    def teach(values_TD: FloatArray) -> FloatArray:
        """The poisoner's training rows, half of them attacked."""
        marked_T = stretches(len(values_TD), EVERY // 2, EVERY)
        return np.asarray(values_TD + marked_T[:, None] * case.shifts_D[-1], np.float32)

    with tempfile.TemporaryDirectory(prefix="crossplant-") as home:
        agents = [PlantAgent(site, Path(home)) for site in honest]
        culprit = PlantAgent(last, Path(home))
        accomplice = Accomplice(last, teach) if attack is Attack.IN_NORM else None
        fifth = culprit if attack is None else Attacker(culprit, attack, accomplice)
        Coordinator(settings, Loopback([*agents, fifth]), Memory()).run(RunState("run", settings.digest))
        return {site.name: read_bundle(Path(home) / f"{site.name}.bundle") for site in honest}


def own_network(site: SiteData, settings: RunConfig) -> Bundle:
    """The federation's network on this site's data alone, after as many epochs as the federation had rounds."""
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


# ---- figures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """One model at one plant: its scores of the plant's held-out normal rows and of its test rows."""

    calm_T: Scores
    test_T: Scores


def by_bundle(site: SiteData, bundle: Bundle) -> Scored:
    held = replace(site, test_TD=_held(site), labels_T=None)
    return Scored(*(np.asarray(score_rows(one, bundle, CPU), np.float64) for one in (held, site)))


def by_guard(site: SiteData) -> Scored:
    """The guard that the plant fits to its own training rows, in the units that bundles score in."""
    guard = local_guard.fit(site.train_TD, site.schema, site.train_starts)
    calm_T, test_T = (np.log(guard.score_rows(rows_TD) + 1e-8) for rows_TD in (_held(site), site.test_TD))
    units = RobustScale.fit(calm_T[np.isfinite(calm_T)])
    return Scored(units.apply(calm_T), units.apply(test_T))


def _held(site: SiteData) -> FloatArray:
    return site.train_TD[round(len(site.train_TD) * (1 - HELD)) :]


def countable(labels_T: Rows) -> Rows:
    """Attacked rows, and those that no model's window sees an attack from."""
    sums_T = np.concatenate([np.zeros(WINDOW, np.int64), np.cumsum(labels_T)])
    return np.asarray(labels_T | (sums_T[WINDOW:] == sums_T[:-WINDOW]))


@dataclass(frozen=True)
class Figures:
    """What models find together at one plant: alarms of any count, the false alarms are shared.

    Attributes:
        auprc: of the larger score.
        recall: share of attacked rows that alarm when 1 % of the normal test rows do.
        live_recall, live_false: share of attacked and of normal rows that alarm at thresholds set beforehand for 1 %,
            on held-out normal rows: what a plant would see.
    """

    auprc: float
    recall: float
    live_recall: float
    live_false: float


def figures(site: SiteData, *models: Scored) -> Figures:
    labels_T = np.asarray(site.labels_T)
    usable_T = countable(labels_T) & np.all([np.isfinite(model.test_T) for model in models], axis=0)
    labels_M, tests = labels_T[usable_T], [model.test_T[usable_T] for model in models]
    share = FALSE_ALARMS / len(models)
    fixed_M = np.any([test_M > np.quantile(test_M[~labels_M], 1 - share) for test_M in tests], axis=0)
    rate = ThresholdConfig(false_alarm_rate=share)
    cuts = [fit_threshold("conformal", model.calm_T[np.isfinite(model.calm_T)], rate).value for model in models]
    live_M = np.any([test_M > cut for test_M, cut in zip(tests, cuts, strict=True)], axis=0)
    return Figures(
        auprc=average_precision(np.max(tests, axis=0), labels_M),
        recall=float(fixed_M[labels_M].mean()),
        live_recall=float(live_M[labels_M].mean()),
        live_false=float(live_M[~labels_M].mean()),
    )


def auprc_of_all_faults(case: Case, bundles: dict[str, Bundle]) -> float:
    """Mean AUPRC of the honest plants over every labelled row."""
    found = []
    for site in case.sites[:-1]:
        scores_T = np.asarray(score_rows(site, bundles[site.name], CPU), np.float64)
        usable_T = np.isfinite(scores_T)
        found.append(average_precision(scores_T[usable_T], np.asarray(site.labels_T)[usable_T]))
    return float(np.mean(found))


# ---- tables ----------------------------------------------------------------------------------------------------------


def all_faults(asked: argparse.Namespace) -> None:
    """The attacks that aggregation stops, or not."""
    attacks = (None, *(attack for attack in Attack if attack is not Attack.IN_NORM))
    cases = [Case(generate(5, asked.rows, seed)) for seed in range(asked.seeds)]
    print(f"all faults: AUPRC of four of five plants ({asked.rows} rows, {asked.rounds} rounds, {asked.seeds} seeds);")
    print("in brackets the smallest and largest difference from the clean run of the same seed")
    for rule in asked.rules:
        found = np.array(
            [_by_attack(case, config(rule, asked.rounds, seed), attacks) for seed, case in enumerate(cases)]
        )
        differs = found - found[:, :1]
        cells = [f"clean {found[:, 0].mean():.3f}"]
        for at, attack in enumerate(attacks[1:], 1):
            spread = f"{differs[:, at].min():+.3f} {differs[:, at].max():+.3f}"
            cells.append(f"{attack.value if attack else ''} {found[:, at].mean():.3f} ({spread})")
        print(f"{rule:13} " + "  ".join(cells), flush=True)


def _by_attack(case: Case, settings: RunConfig, attacks: Sequence[Attack | None]) -> list[float]:
    return [auprc_of_all_faults(case, federate(case, settings, attack)) for attack in attacks]


def taught_attack(kind: str, attack: str, size: float, asked: argparse.Namespace) -> None:
    """The one that it does not stop, and the guard beside it."""
    cases = [targeted(calm_plants(kind, asked.rows, seed), kind, attack, size) for seed in range(asked.seeds)]
    rows = len(cases[0].sites[0].train_TD)
    print(f"\ntaught attack `{attack}` of {size:g} sd, {kind} plants, {rows} rows each,", end=" ")
    print(f"{asked.rounds} rounds, {asked.seeds} seeds")
    print(HEAD)
    alone: dict[str, list[list[Figures]]] = {"guard alone": [], "own network alone": []}
    guards = [[by_guard(site) for site in case.sites[:-1]] for case in cases]
    for seed, case in enumerate(cases):
        settings = config("robust", asked.rounds, seed)
        nets = [by_bundle(site, own_network(site, settings)) for site in case.sites[:-1]]
        alone["guard alone"].append([*map(figures, case.sites, guards[seed])])
        alone["own network alone"].append([*map(figures, case.sites, nets)])
    _told(alone)
    for rule in asked.rules:
        _told({f"{rule}, {name}": value for name, value in _federated(rule, cases, guards, asked).items()})


def guards_alone(kind: str, asked: argparse.Namespace) -> None:
    """What the guards see by themselves, by attack and size."""
    plants = [calm_plants(kind, asked.rows, seed) for seed in range(asked.seeds)]
    print(f"\nguards alone, {kind} plants, {len(plants[0][0].train_TD)} rows each, {asked.seeds} seeds\n{HEAD}")
    for attack in asked.attacks:
        for size in asked.sizes:
            cases = [targeted(sites, kind, attack, size) for sites in plants]
            seen = [[figures(site, by_guard(site)) for site in case.sites[:-1]] for case in cases]
            _told({f"{attack} of {size:g} sd": seen})


def _federated(
    rule: str, cases: Sequence[Case], guards: Sequence[Sequence[Scored]], asked: argparse.Namespace
) -> dict[str, list[list[Figures]]]:
    told: dict[str, list[list[Figures]]] = {}
    for seed, case in enumerate(cases):
        settings, honest = config(rule, asked.rounds, seed), case.sites[:-1]
        for name, attack in (("clean", None), ("in norm", Attack.IN_NORM)):
            bundles = federate(case, settings, attack)
            models = [by_bundle(site, bundles[site.name]) for site in honest]
            told.setdefault(name, []).append([*map(figures, honest, models)])
            told.setdefault(f"{name} + guard", []).append([*map(figures, honest, models, guards[seed])])
    return told


def _told(table: dict[str, list[list[Figures]]]) -> None:
    """A line a model: means over seeds, the range over seeds of AUPRC, and the worst plant of all."""
    for name, seeds in table.items():
        auprc = [float(np.mean([plant.auprc for plant in plants])) for plants in seeds]
        every = [plant for plants in seeds for plant in plants]
        recall, live, false = (
            np.array([getattr(plant, field) for plant in every]) for field in ("recall", "live_recall", "live_false")
        )
        ranked = f"{np.mean(auprc):.3f} {min(auprc):.3f}-{max(auprc):.3f}  {recall.mean():.2f} ({recall.min():.2f})"
        lived = f"{live.mean():.2f} ({live.min():.2f})  {false.mean():.4f} ({false.max():.4f})"
        print(f"{name:30} {ranked:41}{lived}", flush=True)


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser()
    for name, default in (("--rounds", 12), ("--rows", 2000), ("--seeds", 1)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--rules", nargs="+", choices=RULES, default=("mean", "robust"))
    parser.add_argument("--table", choices=("all", "taught", "guard"), default=None, help="all three if not given")
    parser.add_argument("--plants", nargs="+", choices=METERS, default=("generated",))
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=("meters",))
    parser.add_argument("--sizes", nargs="+", type=float, default=(1.5,), help="of the taught attack, in sd")
    asked = parser.parse_args()
    if asked.table in (None, "all"):
        all_faults(asked)
    for kind in asked.plants:
        if asked.table in (None, "guard"):
            guards_alone(kind, asked)
        if asked.table in (None, "taught"):
            for attack, size in product(asked.attacks, asked.sizes):
                taught_attack(kind, attack, size, asked)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
