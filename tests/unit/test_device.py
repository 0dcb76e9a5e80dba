"""Where training runs: the GPU when there is one, and the same results up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.agent.service import PlantAgent
from client.training.tensors import check_device, resolve_device
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.config import build
from shared.errors import InvalidConfig
from simulations.generate import generate
from tests.support.plants import Loopback, Memory


def test_auto_takes_a_gpu_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    assert resolve_device("cpu").type == "cpu"


@pytest.mark.parametrize(("wanted", "count", "telling"), [("cuda", 0, "no CUDA device"), ("cuda:2", 2, "only 2")])
def test_a_gpu_that_is_not_there_is_refused(
    wanted: str, count: int, telling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InvalidConfig, match=telling):
        check_device(wanted)
    with pytest.raises(InvalidConfig, match=telling):
        resolve_device(wanted)
    check_device("cpu")
    check_device("auto")


def _losses(device: str) -> tuple[list[float], np.ndarray]:
    overlay = {
        "rounds": {"pretrain": 2, "joint": 2},
        "recipe": {"training": {"stride": 8}, "detector": {"dropout": 0.0}, "clustering": {"clusters": 4}},
    }
    config = build({"test": overlay})[0]
    agents = [PlantAgent(site, device=torch.device(device)) for site in generate(3, 1200, 0)]
    journal = Memory()
    state = Coordinator(config, Loopback(agents), journal).run(RunState("test", config.digest))
    assert state.model is not None
    assert state.model.clusters is not None
    losses = [r.metrics["holdout_loss"] for r in journal.records if "holdout_loss" in r.metrics]
    return losses, state.model.clusters.frequency_K


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_whole_run_on_the_gpu_agrees_with_the_cpu() -> None:
    """Batches are drawn by the device's own generator, so the order differs: losses agree, weights need not."""
    on_gpu, occupancy = _losses("cuda")
    on_cpu, _ = _losses("cpu")
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=0.1)
    assert np.isclose(occupancy.sum(), 1, atol=1e-5)
