"""What must hold for the real agent under the real coordinator, whatever the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.tensors import TensorWindows
from client.training.workspace import prepare
from shared.config import RunConfig
from shared.detectors import build
from shared.model import initial_weights
from shared.schema import SensorSchema
from shared.series import SiteData
from tests.support import plants
from tests.support.plants import federate

SCHEMA = SensorSchema(tags=("FIT101", "LIT101"), period_s=1)
CPU = torch.device("cpu")


def site(name: str, seed: int, rows: int) -> SiteData:
    """An oscillation of its own, with noise; within [-3, 3], so that no guard clips it."""
    rng = np.random.default_rng(seed)
    phase = np.arange(rows)[:, None] * rng.uniform(0.1, 0.6, 2) + rng.uniform(0, 6, 2)
    values = np.sin(phase) * rng.uniform(0.3, 2, 2) + 0.1 * rng.normal(size=(rows, 2))
    return SiteData(name, SCHEMA, values.astype(np.float32), np.empty((0, 2), np.float32), None)


def modal(name: str, seed: int) -> SiteData:
    """Two of three common operating points by turns, some thirty rows each."""
    rng = np.random.default_rng(seed)
    points = np.asarray([[-1.0, 0.5], [1.0, 1.0], [0.5, -1.0]])[rng.permutation(3)[:2]]
    values = np.concatenate([np.repeat(points[i % 2][None], 30 + rng.integers(9), axis=0) for i in range(6)])
    values = values + 0.05 * rng.normal(size=values.shape)
    return SiteData(name, SCHEMA, values.astype(np.float32), np.empty((0, 2), np.float32), None)


def one_step(rounds: int, learning_rate: float, **groups: dict[str, object]) -> RunConfig:
    """Each round one full-batch step of plain gradient descent at every plant."""
    recipe = {
        "detector": {"window": 8, "hidden": 8, "latent": 4, "dropout": 0.0},
        "preprocess": {"scaling": "none", "clip_quantile": None},
        "training": {
            "optimizer": "sgd",
            "batch_size": 0,
            "local_epochs": 1,
            "learning_rate": learning_rate,
            "stride": 3,
        },
    }
    return plants.settings(recipe=recipe, rounds={"pretrain": rounds, "joint": 0}, **groups)


def central(sites: list[SiteData], config: RunConfig, rounds: int) -> dict[str, np.ndarray]:
    """The same steps in a plain loop over the windows of all sites together."""
    recipe = config.recipe
    parts = [prepare(s, recipe).train for s in sites]
    windows = torch.cat(
        [w.batch(torch.arange(len(w))) for w in (TensorWindows(part, recipe.detector.window, CPU) for part in parts)]
    )
    model = build(recipe.detector, SCHEMA.dim)
    model.load_weights(initial_weights(model.manifest(), config.seed))
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.training.learning_rate)
    for _ in range(rounds):
        optimizer.zero_grad()
        (model(windows)[0] - windows).square().mean().backward()
        optimizer.step()
    return dict(model.weights())


def assert_near(federated: object, expected: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> None:
    moved = max(float(np.abs(expected[name] - start[name]).max()) for name in expected)
    assert moved > 1e-3  # else it would not matter what was trained
    for name, value in expected.items():
        np.testing.assert_allclose(federated[name], value, rtol=0, atol=1e-5)


@settings(max_examples=6)
@given(
    shards=st.integers(2, 5),
    rows=st.integers(80, 160),
    rounds=st.integers(1, 6),
    rate=st.sampled_from([0.05, 0.5]),
    weighting=st.sampled_from(["examples", "bucket", "uniform"]),
    seed=st.integers(0, 10**6),
)
def test_fedavg_over_equal_shards_is_central_full_batch_descent(
    shards: int, rows: int, rounds: int, rate: float, weighting: str, seed: int
) -> None:
    config = one_step(rounds, rate)
    config = config.model_copy(update={"rounds": config.rounds.model_copy(update={"weighting": weighting})})
    sites = [site(f"plant {i}", seed + i, rows) for i in range(shards)]
    state, journal, _ = federate(sites, config)
    assert len({m.examples for m in state.members}) == 1
    assert_near(state.model.weights, central(sites, config, rounds), journal.states[0].model.weights)


@settings(max_examples=4)
@given(rows=st.lists(st.integers(70, 240), min_size=2, max_size=4), seed=st.integers(0, 10**6))
def test_weighted_by_examples_it_is_central_descent_over_unequal_shards_too(rows: list[int], seed: int) -> None:
    config = one_step(3, 0.5)
    sites = [site(f"plant {i}", seed + i, n) for i, n in enumerate(rows)]
    state, journal, _ = federate(sites, config)
    assert_near(state.model.weights, central(sites, config, 3), journal.states[0].model.weights)


def test_uniform_weights_over_unequal_shards_are_something_else() -> None:
    config = one_step(3, 0.5)
    config = config.model_copy(update={"rounds": config.rounds.model_copy(update={"weighting": "uniform"})})
    sites = [site("plant 0", 1, 300), site("plant 1", 2, 80)]
    state, _, _ = federate(sites, config)
    expected = central(sites, config, 3)
    assert max(float(np.abs(state.model.weights[name] - value).max()) for name, value in expected.items()) > 1e-4


def test_one_local_step_under_the_servers_adam_is_central_adam() -> None:
    config = one_step(5, 1.0)
    rounds = config.rounds.model_copy(update={"server_optimizer": "adam", "server_learning_rate": 0.01})
    config = config.model_copy(update={"rounds": rounds})
    sites = [site(f"plant {i}", i, 100) for i in range(3)]
    state, journal, _ = federate(sites, config)
    parts = [prepare(s, config.recipe).train for s in sites]
    windows = torch.cat([w.batch(torch.arange(len(w))) for w in (TensorWindows(part, 8, CPU) for part in parts)])
    model = build(config.recipe.detector, SCHEMA.dim)
    model.load_weights(journal.states[0].model.weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        (model(windows)[0] - windows).square().mean().backward()
        optimizer.step()
    # A step of rate 1 is sent as weights: a gradient below 1e-7 of its weight is lost in rounding, but Adam takes steps
    # of full length along gradients however small.
    gaps = np.concatenate([np.abs(state.model.weights[name] - v).ravel() for name, v in model.weights().items()])
    assert np.quantile(gaps, 0.97) < 2e-4
    assert gaps.max() < 0.01


@settings(max_examples=3)
@given(order=st.permutations(range(4)), seed=st.integers(0, 10**6))
def test_the_order_of_the_sites_changes_not_one_bit(order: list[int], seed: int) -> None:
    """Dropout, mini-batches, clusters and all: weights and centroids of a whole run."""
    sites = [site(f"plant {i}", seed + i, 90 + 17 * i) for i in range(4)]
    config = plants.settings()
    first, told, _ = federate(sites, config)
    other, again, _ = federate([sites[i] for i in order], config)
    assert other.model.digest == first.model.digest
    assert [r.model for r in again.records] == [r.model for r in told.records]
    assert [p.plant for p in again.records[-1].plants] == [p.plant for p in told.records[-1].plants]
    assert again.records[-1].metrics == told.records[-1].metrics


def test_other_data_gives_another_model() -> None:
    config = plants.settings()
    runs = [federate([site("a", seed, 90), site("b", 7, 90)], config)[0].model.digest for seed in (0, 1)]
    assert runs[0] != runs[1]
    assert federate([site("a", 0, 90), site("b", 7, 90)], config)[0].model.digest == runs[0]


@pytest.mark.parametrize("target", ["released", "local"])
def test_after_the_last_refresh_every_centroid_is_the_mean_of_its_members(target: str) -> None:
    """Centroids belong to the encoder they are published with."""
    config = plants.settings(
        recipe={"clustering": {"target": target}, "training": {"stride": 1}}, rounds={"pretrain": 2, "joint": 3}
    )
    sites = [modal(f"plant {i}", i) for i in range(3)]
    state, _, _ = federate(sites, config)
    clusters = state.model.clusters
    model = build(config.recipe.detector, SCHEMA.dim)
    model.load_weights(state.model.weights)
    latents, shares = [], []
    for one in sites:
        made = prepare(one, config.recipe)
        windows = TensorWindows(made.train, config.recipe.detector.window, CPU)
        with torch.no_grad():
            latents.append(model.encode(windows.batch(torch.arange(len(windows)))).numpy())
        shares.append(1 / np.bincount(made.segments_N)[made.segments_N])
    z, share = np.concatenate(latents), np.concatenate(shares)
    nearest = ((z[:, None] - clusters.centroids_KZ[None]) ** 2).sum(2).argmin(1)
    populated = [j for j in range(clusters.count) if share[nearest == j].sum() >= config.recipe.clustering.n_min]
    assert len(populated) >= 2
    for j in populated:
        mean = np.average(z[nearest == j], axis=0, weights=share[nearest == j])
        assert np.linalg.norm(clusters.centroids_KZ[j] - mean) < 0.1 * clusters.radius
