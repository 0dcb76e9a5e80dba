"""Every detector in a federation, from the command line: plain, under differential privacy, on the edge in 8 bits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from client.edge.scorer import Graph
from shared.bundle.edge import read_edge_bundle
from shared.bundle.trust import Trust
from shared.bundle.whole import read_bundle
from shared.detectors import known
from tests.support.command import crossplant_here, simulate_here

NEW = [name for name in known() if name != "hac-uml"]  # that one has test_simulate.py and test_private_simulation.py


@pytest.fixture(scope="module", params=NEW)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detector") / "run"
    done = simulate_here(out, "--sites", "2", "--set", f"recipe.detector.name={request.param}", rounds=2)
    assert done.returncode == 0, done.stderr
    return out


def test_two_rounds_train_it_and_score_every_site(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    assert [site["site"] for site in results["sites"]] == ["plant-1", "plant-2"]
    assert 0 <= results["macro"]["auprc"] <= 1
    listed = json.loads(crossplant_here("rounds", "list", "--store", run, "--json").stdout)["rounds"]
    assert all(one["status"] == "committed" and one["rejected"] == [] for one in listed)
    losses = [one["metrics"]["holdout_loss"] for one in listed if "holdout_loss" in one["metrics"]]
    assert losses[-1] < losses[0]


def test_its_bundle_runs_on_an_edge_box_as_at_the_plant_and_in_eight_bits(run: Path) -> None:
    folder = run / "bundles" / "plant-1.bundle"
    edge = read_edge_bundle(folder, Trust(folder.parent / "bundle.pub"))
    assert edge.clusters is not None
    assert edge.setup.latent == read_bundle(folder).recipe.detector.latent == 4
    window = np.random.default_rng(0).normal(size=(1, edge.setup.window, edge.schema.dim)).astype(np.float32)
    exact, latents = (value.copy() for value in Graph(edge)(window))
    rough, rough_latents = Graph(edge, int8=True)(window)
    np.testing.assert_allclose(rough, exact, atol=0.05)
    np.testing.assert_allclose(rough_latents, latents, atol=0.05)
    assert not np.array_equal(rough_latents, latents)


PRIVATE = [
    "--epsilon", "8", "--unit", "8", "--public-start", "none", "--sites", "2",
    "--set", "data.rows=6000", "--set", "recipe.clustering.refresh_every=0",
    "--set", "recipe.scoring.evidence=false",  # test_private_simulation.py has judges
]  # fmt: skip


UNCLIPPED = ["ewad"]


@pytest.mark.parametrize("name", [name for name in NEW if name not in UNCLIPPED])
def test_it_trains_under_local_differential_privacy(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = simulate_here(out, "--set", f"recipe.detector.name={name}", *PRIVATE, rounds=2)
    assert done.returncode == 0, done.stderr
    spent = json.loads(crossplant_here("privacy", "ledger", "--store", out, "--json").stdout)["plants"]
    assert all(0 < plant["epsilon"] <= 8 for plant in spent)
    assert len(spent) == 2


@pytest.mark.parametrize("name", UNCLIPPED)
def test_it_is_refused_under_local_differential_privacy_before_anything_is_written(name: str, tmp_path: Path) -> None:
    done = simulate_here(tmp_path / "run", "--set", f"recipe.detector.name={name}", *PRIVATE, rounds=2)
    assert done.returncode == 1
    assert f"CP-901 PrivacyUnmet: no exact clipping is known for the detector '{name}'" in done.stderr
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_a_network_that_no_machine_holds_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    sizes = {"window": 1000, "hidden": 64, "latent": 1024, "name": "multiscale"}
    large = [word for key, value in sizes.items() for word in ("--set", f"recipe.detector.{key}={value}")]
    done = simulate_here(tmp_path / "run", "--sites", "2", "--set", "data.rows=6000", *large)
    assert done.returncode == 1
    assert "CP-101 InvalidConfig: the detector would have a layer of 64,000 x 1,024 weights" in done.stderr
    assert "recipe.detector.window" in done.stderr
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())
