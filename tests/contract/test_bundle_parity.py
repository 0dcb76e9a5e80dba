"""A published bundle scores on the edge, by its graph and NumPy, as PyTorch scored at the plant: on trained weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.bundle.folder import versions
from shared.bundle.trust import Trust
from shared.bundle.whole import Bundle, read_bundle
from shared.config import RunConfig, ThresholdConfig
from shared.detectors import known
from shared.scoring import entropy, student_t_assignments
from shared.series import SiteData
from simulations.evaluate import score_rows
from simulations.generate import generate
from tests.support.plants import Loopback, Memory, settings

RECIPES = {
    "plain": {},
    "tail and joined rows": {"scoring": {"tail": 3}, "preprocess": {"every": 2}},
    "rolling, raw scores": {"preprocess": {"rolling": 20}, "scoring": {"standardise": False, "evidence": False}},
    "set on training data": {"threshold": {"fit_on": "train", "rule": "mean-sigma"}, "scoring": {"evidence": False}},
}


def config(detector: str, recipe: str) -> RunConfig:
    return settings(
        recipe={
            **RECIPES[recipe],
            "detector": {"name": detector, "window": 12, "hidden": 8, "latent": 4},
            "training": {"stride": 4, "batch_size": 64},
            "clustering": {"clusters": 3, "unit": 12, "oversampling": 2, "seed_steps": 1, "refine_steps": 1},
        },
        rounds={"pretrain": 2, "joint": 2},
    )


Published = tuple[Path, SiteData]


@pytest.fixture(scope="module", params=[(name, recipe) for name in known() for recipe in RECIPES], ids=": ".join)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A plant's folder of versions after a small federation, and its data."""
    home, sites = tmp_path_factory.mktemp("home"), generate(2, 1200, 3)
    run = config(*request.param)
    Coordinator(run, Loopback([PlantAgent(site, home) for site in sites]), Memory()).run(RunState("r", run.digest))
    return home / f"{sites[0].name}.bundle", sites[0]


@pytest.fixture
def edge(published: Published) -> EdgeBundle:
    folder, _ = published
    return read_edge_bundle(folder, Trust(folder.parent / "bundle.pub"))


def edge_scores(bundle: EdgeBundle, rows_RD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and errors of raw rows, row by row, as an edge box gives them."""
    session = onnxruntime.InferenceSession(bundle.graph, providers=["CPUExecutionProvider"])
    stream, window, tail = bundle.preprocessor.stream(), bundle.setup.window, bundle.setup.tail
    prepared = [row for row in map(stream.step, rows_RD) if row is not None]
    scores, errors = [], []
    judging = None if bundle.judge is None else bundle.judge.stream()
    if judging is not None:
        for row_D in prepared[: window - 1]:
            judging.take(row_D)
    for last in range(window, len(prepared) + 1):
        window_WD = np.stack(prepared[last - window : last])
        found_1WD, latents_1Z = session.run(["reconstruction", "latents"], {"windows": window_WD[None]})
        square_WD = (found_1WD[0] - window_WD) ** 2
        error_1 = np.array([square_WD[-(tail or window) :].mean()])
        entropy_1, clusters, mode = None, bundle.clusters, None
        if clusters is not None:
            q_1K = student_t_assignments(latents_1Z, clusters.centroids_KZ, clusters.active_K)
            entropy_1, mode = entropy(q_1K), int(q_1K.argmax()) if clusters.active_K.any() else None
        if judging is None:
            scores.append(bundle.scale.combine(error_1, entropy_1)[0])
        else:
            judging.take(window_WD[-1])
            scores.append(judging.judge(found_1WD[0, -1] - window_WD[-1], mode).score)
        errors.append(error_1[0])
    return np.array(scores), np.array(errors)


def test_the_graph_and_numpy_give_the_probe_of_pytorch(edge: EdgeBundle) -> None:
    scores_M, errors_M = edge_scores(edge, edge.probe.rows_RD)
    assert len(scores_M) == len(edge.probe.scores_M) > 50
    np.testing.assert_allclose(errors_M, edge.probe.errors_M, atol=1e-5)
    np.testing.assert_allclose(scores_M, edge.probe.scores_M, atol=1e-5)
    assert np.ptp(edge.probe.scores_M) > 0.1


def test_live_scores_are_those_of_batch_scoring(edge: EdgeBundle, published: Published) -> None:
    folder, site = published
    whole: Bundle = read_bundle(folder)
    few = SiteData(site.name, site.schema, site.train_TD, site.test_TD[:150], None)
    due_T = score_rows(few, whole, torch.device("cpu"))
    scores_M, _ = edge_scores(edge, few.test_TD)
    np.testing.assert_allclose(scores_M, due_T[~np.isnan(due_T)], atol=1e-5)


def test_the_figures_are_those_of_the_held_out_windows(edge: EdgeBundle) -> None:
    figures, threshold = edge.calibration, edge.threshold
    assert figures.holdout_loss == edge.provenance.holdout_loss
    assert figures.rehearsal is not None
    assert figures.rehearsal.asked == threshold.false_alarm_rate  # not the half's own: it has half of the windows
    assert edge.setup.false_alarm_rate == (threshold.false_alarm_rate or ThresholdConfig().false_alarm_rate)
    assert 0 <= figures.rehearsal.rate < 0.5
    assert sum(figures.occupancy) == pytest.approx(1.0)
    assert len(figures.tag_error) == edge.schema.dim
    assert all(mean <= high for mean, high in zip(figures.tag_error, figures.tag_error_high, strict=True))
    if threshold.fitted_on == "holdout":
        assert threshold.calibration_size == figures.distribution.size
        above = float(np.nextafter(threshold.value, np.inf))
        assert figures.p_value(above) <= max(threshold.false_alarm_rate, 1 / (figures.distribution.size + 1))
    # The probe is the beginning of the longest held-out part: its scores are among those that calibrated.
    assert max(edge.probe.scores_M) <= max(figures.distribution.scores) + 1.0


def test_a_run_publishes_once(published: Published) -> None:
    assert len(versions(published[0])) == 1


def test_a_run_publishes_as_often_as_it_is_asked_to(tmp_path: Path) -> None:
    run = settings(rounds={"pretrain": 1, "joint": 5, "calibrate_every": 2})
    sites = generate(2, 600, 3)
    Coordinator(run, Loopback([PlantAgent(site, tmp_path) for site in sites]), Memory()).run(RunState("r", run.digest))
    folder = tmp_path / f"{sites[0].name}.bundle"
    found = [read_edge_bundle(folder / one).provenance for one in reversed(versions(folder))]
    assert [one.number for one in found] == [1, 2, 3]
    assert len({one.model for one in found}) == 3
    assert found[0].round < found[1].round < found[2].round
    assert read_edge_bundle(folder).provenance == found[2]


def test_the_federation_is_the_same_however_often_plants_publish(tmp_path: Path) -> None:
    models = []
    for every in (0, 1):
        run, journal = settings(rounds={"pretrain": 1, "joint": 3, "calibrate_every": every}), Memory()
        agents = [PlantAgent(site, tmp_path / str(every)) for site in generate(2, 600, 3)]
        models.append(Coordinator(run, Loopback(agents), journal).run(RunState("r", run.digest)).model)
    assert models[0].digest == models[1].digest


def test_eight_bits_are_published_and_order_windows_as_pytorch_does(edge: EdgeBundle) -> None:
    assert edge.graph_int8 is not None
    scores_M, _ = edge_scores(replace(edge, graph=edge.graph_int8), edge.probe.rows_RD)
    assert np.corrcoef(scores_M, edge.probe.scores_M)[0, 1] > 0.99
    assert not np.array_equal(scores_M, edge.probe.scores_M)


def test_the_key_lies_where_it_is_asked_to_and_not_beside_the_bundles(tmp_path: Path) -> None:
    """`HOME/bundles` may be copied to an edge box; the key stays with the agent."""
    run, key = settings(rounds={"pretrain": 1, "joint": 1}), tmp_path / "bundle.key"
    agents = [PlantAgent(site, tmp_path / "bundles", key=key) for site in generate(2, 600, 3)]
    Coordinator(run, Loopback(agents), Memory()).run(RunState("r", run.digest))
    assert not list((tmp_path / "bundles").rglob("*.key"))
    for agent in agents:
        read_edge_bundle(tmp_path / "bundles" / f"{agent.name}.bundle", Trust(tmp_path / "bundle.pub"))
