"""Every detector's ONNX graph gives what the detector gives, whatever its size."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from shared.config import DetectorConfig
from shared.detectors import build, known
from shared.detectors.graph import in_eight_bits

SIZES = (
    DetectorConfig(hidden=8, latent=4),
    DetectorConfig(window=5, hidden=4, latent=3, layers=1, bottleneck="linear"),
    DetectorConfig(window=12, hidden=6, latent=2, layers=3),
)


def run(graph: bytes, window_1WD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    reconstruction, latents = session.run(["reconstruction", "latents"], {"windows": window_1WD})
    return reconstruction, latents


@pytest.mark.parametrize("name", known())
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dim", [1, 7])
def test_the_graph_gives_what_the_detector_gives(name: str, size: DetectorConfig, dim: int) -> None:
    torch.manual_seed(3)
    detector = build(size.model_copy(update={"name": name}), dim).eval()
    window_1WD = np.random.default_rng(0).normal(size=(1, size.window, dim)).astype(np.float32)
    reconstruction, latents = run(detector.graph(), window_1WD)
    with torch.no_grad():
        due, due_latents = detector(torch.from_numpy(window_1WD))
    np.testing.assert_allclose(reconstruction, due.numpy(), atol=1e-5)
    np.testing.assert_allclose(latents, due_latents.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", known())
def test_the_same_weights_give_the_same_bytes(name: str) -> None:
    detector = build(DetectorConfig(name=name, hidden=4, latent=2), 3)
    assert detector.graph() == detector.graph()


@pytest.mark.parametrize("name", known())
@pytest.mark.parametrize("size", [*SIZES, DetectorConfig()])
def test_eight_bits_are_smaller_and_nearly_the_same(name: str, size: DetectorConfig) -> None:
    torch.manual_seed(3)
    graph = build(size.model_copy(update={"name": name}), 7).graph()
    small = in_eight_bits(graph)
    assert in_eight_bits(graph) == small
    window_1WD = np.random.default_rng(0).normal(size=(1, size.window, 7)).astype(np.float32)
    (rows, latents), (due, due_latents) = run(small, window_1WD), run(graph, window_1WD)
    np.testing.assert_allclose(rows, due, atol=0.02)
    np.testing.assert_allclose(latents, due_latents, atol=0.02)
    assert not np.array_equal(latents, due_latents)  # Otherwise nothing was quantised.
    if size == DetectorConfig():
        assert len(small) < 0.35 * len(graph)
