"""Every detector that can be a trunk: plants with other tags train it together, an edge box scores what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from client.agent.service import PlantAgent
from client.edge.loading import load_edge
from client.edge.scorer import Scorer
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle.whole import read_bundle
from shared.detectors import Detector, known
from shared.detectors.base import _REGISTRY
from simulations.evaluate import score_rows
from tests.support import differ
from tests.support.edge import samples
from tests.support.plants import Loopback, Memory

TRUNKS = [name for name in known() if _REGISTRY[name].loss is Detector.loss and name != "ewad"]


def test_all_but_the_ensemble_can_be_one() -> None:
    assert set(known()) - set(TRUNKS) == {"ewad"}


@pytest.mark.parametrize("name", TRUNKS)
def test_what_is_trained_together_is_scored_alone(name: str, tmp_path: Path) -> None:
    detector = {"name": name, "window": 8, "hidden": 8, "latent": 4}
    run = differ.config(recipe={"detector": detector}, rounds={"pretrain": 1, "joint": 1})
    sites = {site.name: site for site in differ.sites()}
    agents = [PlantAgent(site, tmp_path) for site in sites.values()]
    ended = Coordinator(run, Loopback(agents), Memory()).run(RunState("r", run.digest))
    assert {member.plant for member in ended.members} == set(sites)
    for plant in ("north", "west"):
        folder = tmp_path / f"{plant}.bundle"
        rows_TD = sites[plant].test_TD[:100]
        scorer = Scorer(load_edge(folder, None))
        found = [scored.score for one in samples(rows_TD) if (scored := scorer.feed(one)) is not None]
        due_T = score_rows(sites[plant], read_bundle(folder), torch.device("cpu"))[:100]
        np.testing.assert_allclose(found, due_T[np.isfinite(due_T)][: len(found)], rtol=0, atol=1e-5)
