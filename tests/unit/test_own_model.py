from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.agent.bench import set_up
from client.agent.service import PlantAgent
from client.training.loop import round_generator, train_epochs
from client.training.own_model import Own, clearly_lower, kept_model
from client.training.workspace import prepare
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle.whole import read_bundle
from shared.config import Recipe
from shared.detectors.adapter import OWN
from shared.model import Clusters, GlobalModel, initial_weights
from tests.support import differ
from tests.support.plants import Loopback, Memory

CLUSTERS = Clusters(
    np.linspace(-0.5, 0.5, 12, dtype=np.float32).reshape(3, 4),
    np.full(3, 1 / 3, np.float32),
    np.ones(3, np.bool_),
    np.zeros(3, np.int64),
    1.0,
)


def kept(trained: int, **sharing: Any) -> tuple[Own, GlobalModel]:
    """What a plant keeps of a federation's model that was trained for some epochs on the plant's own rows."""
    recipe: Recipe = differ.config(sharing).recipe
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"learning_rate": 1e-2})})
    site = differ.site("south", 1600)
    bench = set_up(recipe, site.schema.period_s, torch.device("cpu"), lambda own: prepare(site, own))
    bench.detector.load_weights(initial_weights(bench.detector.manifest(), 7))
    if trained:
        config = recipe.training.model_copy(update={"local_epochs": trained})
        train_epochs(bench.detector, bench.train, None, config, round_generator(0, "a", 0, torch.device("cpu")))
    federated = GlobalModel(bench.detector.weights(), CLUSTERS)
    found = kept_model(federated, bench.means("south", 9, lambda: False))
    for name, value in found.model.weights.items():  # the detector is left with what is kept
        np.testing.assert_array_equal({**bench.detector.weights(), **bench.detector.own_weights()}[name], value)
    return found, federated


def test_windows_that_overlap_are_worth_few() -> None:
    rng = np.random.default_rng(0)
    eight = rng.normal(size=8)
    drift_N = np.repeat((eight - eight.mean()) / eight.std() + 0.5, 100)  # 1.4 standard errors of eight, 14 of 800
    assert clearly_lower(-np.abs(rng.normal(size=800)) - 0.1, np.zeros(800))
    assert not clearly_lower(-drift_N, np.zeros(800))
    assert not clearly_lower(np.full(5, np.nan), np.zeros(5))


@pytest.mark.parametrize("share", ["all", "trunk"])
def test_without_a_choice_the_federations_model_is_kept(share: str) -> None:
    found, federated = kept(0, share=share)
    assert (found.origin, found.losses) == ("federated", ())
    assert (found.model is federated) == (share == "all")
    assert any(name.startswith(OWN) for name in found.model.weights) == (share == "trunk")


@pytest.mark.parametrize("share", ["all", "trunk"])
def test_a_plant_keeps_a_model_of_its_own_where_the_federations_is_clearly_worse(share: str) -> None:
    found, _ = kept(0, share=share, keep="better", alone_epochs=30)
    losses = dict(found.losses)
    assert found.origin == "alone"
    assert losses["alone"] < losses["federated"]


def test_a_plant_keeps_the_federations_model_where_its_own_is_no_better() -> None:
    found, _ = kept(40, keep="better", alone_epochs=1)
    assert found.origin == "federated"
    assert set(dict(found.losses)) == {"federated", "alone"}


def test_personal_models_are_kept_without_a_choice_and_judged_with_one() -> None:
    assert kept(0, personal_epochs=2)[0].origin == "personal"
    assert kept(40, personal_epochs=1, personal_proximal=1e6, keep="better", alone_epochs=0)[0].origin == "federated"


def test_a_personal_model_is_held_back_by_its_proximal_term() -> None:
    def moved(proximal: float) -> float:
        found, federated = kept(0, share="all", personal_epochs=5, personal_proximal=proximal)
        return float(sum(np.square(found.model.weights[n] - w).sum() for n, w in federated.weights.items()))

    assert moved(100.0) < 0.2 * moved(0.0)


def test_clusters_follow_the_encoder_that_is_kept() -> None:
    alone, _ = kept(0, keep="better", alone_epochs=30)
    assert alone.model.clusters is not None
    assert alone.model.clusters.centroids_KZ.shape == CLUSTERS.centroids_KZ.shape
    assert not np.allclose(alone.model.clusters.centroids_KZ, CLUSTERS.centroids_KZ)
    assert alone.model.clusters.frequency_K.sum() == pytest.approx(1.0)


def test_the_same_question_has_the_same_answer() -> None:
    one, other = (kept(0, keep="better", personal_epochs=1, alone_epochs=2)[0] for _ in range(2))
    assert one.model.digest == other.model.digest
    assert one.losses == other.losses


def test_the_bundle_and_the_coordinator_hear_what_was_kept(tmp_path: Path) -> None:
    run = differ.config({"keep": "better", "alone_epochs": 25, "personal_epochs": 1})
    journal = Memory()
    agents = [PlantAgent(site, tmp_path) for site in differ.sites()]
    Coordinator(run, Loopback(agents), journal).run(RunState("r", run.digest))
    told = {report.plant: report.metrics["own_model"] for report in journal.records[-1].plants}
    for plant, own in told.items():
        bundle = read_bundle(tmp_path / f"{plant}.bundle")
        made = bundle.provenance
        assert (made.origin != "federated") == bool(own)
        assert [name for name, _ in made.compared] == ["federated", "personal", "alone"]
        assert made.base == journal.states[-1].model.digest  # type: ignore[union-attr]
        assert made.model == bundle.model.digest != made.base
