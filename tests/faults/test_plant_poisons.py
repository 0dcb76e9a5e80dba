"""Fault: one of five plants poisons every update that it sends; what the other four detect must not suffer.

Under the settings for networks (`shared.config.TRUSTED`), on made plants with labelled faults. `pytest -s` prints the
table. The attack in norm is stopped by no rule of aggregation (docs/decisions/0007): what it teaches as normal is seen
by the plant's local guard, which it cannot reach.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from benchmarks import poison
from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.rounds import RoundRecord, RunState
from shared.bundle.whole import read_bundle
from shared.config import TRUSTED, RunConfig, build
from shared.errors import InvalidConfig
from shared.series import FloatArray, SiteData
from simulations.evaluate import evaluate_site
from simulations.faults import Accomplice, Attack, Attacker, every_second_stretch
from simulations.generate import generate
from tests.support.plants import Loopback, Memory

MOST = 0.02  # AUPRC
STOPPED = (Attack.SIGN_FLIP, Attack.SCALING, Attack.NAN, Attack.NOISE)
CPU = torch.device("cpu")


def config(aggregation: str, **rounds: object) -> RunConfig:
    recipe = {
        "detector": {"window": 20, "hidden": 16, "layers": 1, "latent": 8, "dropout": 0.0},
        "training": {"stride": 3, "learning_rate": 3e-3, "batch_size": 64},
        "scoring": {"tail": 3, "evidence": False},  # what the federation taught shows in the network alone
        "clustering": {"clusters": 4},
    }
    base = {"rounds": {"pretrain": 4, "joint": 6, "deadline_s": 60.0}, "recipe": recipe}
    own = {"rounds": {"aggregation": aggregation, **rounds}}
    return build({"base": base, "trusted": TRUSTED, "own": own})[0]


@cache
def plants() -> tuple[SiteData, ...]:
    return generate(5, 2000, 0)


def attacks_of_others() -> FloatArray:
    """What the other plants will be attacked with, in scaled units."""
    others = plants()[:-1]
    scaled = [
        (s.test_TD[np.asarray(s.labels_T)] - s.train_TD.mean(axis=0)) / (s.train_TD.std(axis=0) + 1e-9) for s in others
    ]
    return np.concatenate(scaled).clip(-20, 20).astype(np.float32)


@cache
def conduct(attack: Attack | None, aggregation: str) -> tuple[tuple[float, ...], list[RoundRecord]]:
    """AUPRC of the four honest plants, and the rounds."""
    *honest, last = plants()
    settings, journal = config(aggregation), Memory()
    with TemporaryDirectory(prefix="crossplant-") as home:
        agents = [PlantAgent(site, Path(home)) for site in honest]
        culprit = PlantAgent(last, Path(home))
        accomplice = Accomplice(last, every_second_stretch(attacks_of_others())) if attack is Attack.IN_NORM else None
        fifth = culprit if attack is None else Attacker(culprit, attack, accomplice)
        Coordinator(settings, Loopback([*agents, fifth]), journal).run(RunState("run", settings.digest))
        bundles = [read_bundle(Path(home) / f"{site.name}.bundle") for site in honest]
        results = [evaluate_site(site, bundle, CPU) for site, bundle in zip(honest, bundles, strict=True)]
    return tuple(r.evaluation.auprc for r in results if r.evaluation), journal.records


def macro(attack: Attack | None, aggregation: str = "robust") -> float:
    return float(np.mean(conduct(attack, aggregation)[0]))


@pytest.mark.parametrize("attack", STOPPED)
def test_detection_of_the_others_stays(attack: Attack) -> None:
    clean, poisoned = macro(None), macro(attack)
    print(f"\n{attack.value}: AUPRC {poisoned:.4f}, clean {clean:.4f}, {poisoned - clean:+.4f}")
    assert clean > 0.2  # a random score has 0.1
    assert poisoned >= clean - MOST


def test_the_attack_in_norm_is_told() -> None:
    clean, poisoned = macro(None), macro(Attack.IN_NORM)
    print(f"\nin norm: AUPRC {poisoned:.4f}, clean {clean:.4f}, {poisoned - clean:+.4f} (told, not promised)")
    records = conduct(Attack.IN_NORM, "robust")[1]
    culprit = [next(p for p in r.plants if p.plant == "plant-5") for r in records if "train" in r.label]
    assert all(report.accepted for report in culprit)  # nothing about it can be seen
    norms = [p.metrics["update_norm"] for r in records if "train" in r.label for p in r.plants]
    assert max(report.metrics["update_norm"] for report in culprit) <= max(norms)


SIZE = 1.0  # standard deviations that three meters read too much; so little escapes the federated model unpoisoned, too


@cache
def taught() -> poison.Case:
    return poison.targeted(poison.calm_plants("generated", 2000, 0), "generated", "meters", SIZE)


def test_the_local_guard_sees_what_the_federation_was_taught_is_normal() -> None:
    case = taught()
    bundles = poison.federate(case, poison.config("robust", 9, 0), Attack.IN_NORM)
    honest = case.sites[:-1]
    models, guards = [poison.by_bundle(site, bundles[site.name]) for site in honest], [*map(poison.by_guard, honest)]
    alone, guarding, both = (
        [poison.figures(*each) for each in zip(honest, *sets, strict=True)]
        for sets in ((models,), (guards,), (models, guards))
    )
    recalls = [float(np.mean([plant.recall for plant in plants])) for plants in (alone, guarding, both)]
    print("\ntaught: recall {:.2f} of the federated model, {:.2f} of the guard, {:.2f} of both".format(*recalls))
    assert recalls[0] < 0.6
    assert np.mean([plant.live_recall for plant in alone]) < 0.6
    assert min(min(plant.recall, plant.live_recall) for plant in both) > 0.95
    # 0.01 is asked for; 400 held-out rows promise no more.
    assert np.mean([plant.live_false for plant in guarding]) < 0.03


def test_a_guard_that_learnt_the_taught_rows_would_be_blind() -> None:
    """So the test above can fail: it is what the guard learnt from that makes the difference, not what it is."""
    case = taught()
    site, shift_D = case.sites[0], case.shifts_D[0] * case.sites[0].train_TD.std(axis=0)
    marked_T = poison.stretches(len(site.train_TD), poison.EVERY // 2, poison.EVERY)
    reached = replace(site, train_TD=(site.train_TD + marked_T[:, None] * shift_D).astype(np.float32))
    seen, blind = poison.by_guard(site), poison.by_guard(reached)
    assert poison.figures(site, seen).recall > 0.95
    assert poison.figures(site, blind).recall < 0.2


def test_the_mean_would_have_failed() -> None:
    """So the test above can: behind the same gate and vote, the mean loses more than twice what is allowed."""
    clean, poisoned = macro(None, "mean"), macro(Attack.SCALING, "mean")
    print(f"\nscaling under the mean with a vote: AUPRC {poisoned:.4f}, clean {clean:.4f}, {poisoned - clean:+.4f}")
    assert poisoned < clean - 2 * MOST


def test_updates_that_shout_are_clipped_and_told() -> None:
    records = conduct(Attack.SCALING, "robust")[1]
    trained = [r for r in records if "train" in r.label and r.status.value == "committed"]
    factors = [next(p for p in r.plants if p.plant == "plant-5").metrics.get("clipped", 1.0) for r in trained]
    assert np.median(factors) == pytest.approx(0.1, abs=0.06)
    assert any("clipped" in p.metrics for r in trained for p in r.plants if p.plant != "plant-5")


def test_nan_is_absence() -> None:
    records = conduct(Attack.NAN, "robust")[1]
    for record in (r for r in records if "train" in r.label):
        report = next(p for p in record.plants if p.plant == "plant-5")
        assert report.reason is not None
        assert "NaN or infinite" in report.reason


@pytest.mark.parametrize(
    ("attack", "wire", "telling"), [(Attack.NOISE, "int8", "fp32"), (Attack.IN_NORM, "fp32", "acc")]
)
def test_an_attacker_that_cannot_do_what_it_is_told_says_so(attack: Attack, wire: str, telling: str) -> None:
    settings = config("robust", wire=wire, pretrain=1, joint=0)
    first, second = (PlantAgent(site) for site in generate(2, 200, 0))
    coordinator = Coordinator(settings, Loopback([first, Attacker(second, attack)]), Memory())
    with pytest.raises(InvalidConfig, match=telling):
        coordinator.run(RunState("run", settings.digest))
