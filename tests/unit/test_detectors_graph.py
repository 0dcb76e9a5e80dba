"""What the writer of graphs writes: every node beside PyTorch's layer, golden bytes of hac-uml, and 8 bits."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from shared.config import DetectorConfig
from shared.detectors import build
from shared.detectors.graph import Graph, in_eight_bits
from shared.detectors.layers import Attention
from shared.model import initial_weights

HAC_UML = {
    "graph": "623c990346820d99bd9e4fb32fa9de8345b6aa3146f78f88d4f3dc2bdda8abc3",
    "eight bits": "c62f0cbe3b482ebc546243c169d8788b91758e7a5a3ab62c1da1c2617a0f952e",
}


def ran(graph: Graph, value: torch.Tensor, outputs: dict[str, tuple[int, ...]]) -> list[np.ndarray]:
    data = graph.model({"x": tuple(value.shape)}, outputs)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(list(outputs), {"x": value.numpy()})
    return found


def named(layer: nn.Module, name: str) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": value.detach().numpy() for part, value in layer.named_parameters()}


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (7, 1), (3, 8)])
def test_a_convolution(kernel: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv1d(3, 5, kernel, padding=dilation * (kernel // 2), dilation=dilation), values(1, 3, 11)
    graph = Graph(named(layer, "c"))
    graph.conv("x", "c", "y", dilation)
    np.testing.assert_allclose(ran(graph, x, {"y": (1, 5, 11)})[0], layer(x).detach(), atol=1e-5)


@pytest.mark.parametrize(("width", "heads"), [(16, 8), (5, 8), (6, 1)])
def test_attention(width: int, heads: int) -> None:
    torch.manual_seed(0)
    layer, x = Attention(width, heads), values(1, 7, width)
    graph = Graph(named(layer, "a"))
    graph.node("Identity", [graph.attention("x", "a", heads)], ["y"])
    np.testing.assert_allclose(ran(graph, x, {"y": (1, 7, width)})[0], layer(x).detach(), atol=1e-5)


def test_normalised_rows() -> None:
    graph, x = Graph({}), 3 + 2 * values(1, 4, 6)
    graph.normalised("x", 6, "y")
    np.testing.assert_allclose(ran(graph, x, {"y": (1, 4, 6)})[0], functional.layer_norm(x, [6]), atol=1e-5)


@pytest.mark.parametrize(("steps", "kept"), [(4, 8), (4, 7), (1, 2)])
def test_every_step_twice(steps: int, kept: int) -> None:
    graph, x = Graph({}), values(steps, 1, 3)
    graph.twice("x", steps, kept, "y")
    np.testing.assert_array_equal(ran(graph, x, {"y": (kept, 1, 3)})[0], x.repeat_interleave(2, 0)[:kept])


def test_a_linear_layer_without_a_bias() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3, bias=False), values(1, 4)
    graph = Graph(named(layer, "l"))
    graph.linear("x", "l", "y")
    np.testing.assert_allclose(ran(graph, x, {"y": (1, 3)})[0], layer(x).detach(), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 6])
def test_a_gru(steps: int) -> None:
    torch.manual_seed(0)
    layer, x = nn.GRU(3, 5), values(steps, 1, 3)
    graph = Graph(named(layer, "g"))
    graph.node("Identity", [graph.gru("x", "g")], ["y"])
    np.testing.assert_allclose(ran(graph, x, {"y": (steps, 1, 5)})[0], layer(x)[0].detach(), atol=1e-6)


def test_some_steps_of_many() -> None:
    graph, x = Graph({}), values(5, 1, 3)
    graph.parts("x", 1, 4, "y")
    np.testing.assert_array_equal(ran(graph, x, {"y": (3, 1, 3)})[0], x[1:4])


def made(name: str, dim: int = 7) -> bytes:
    detector = build(DetectorConfig(name=name), dim)
    detector.load_weights(initial_weights(detector.manifest(), 0))
    return detector.graph()


def test_the_bytes_of_the_default_detector_are_those_of_earlier_builds() -> None:
    """A plant's next bundle of the same weights is the same bundle."""
    graph = made("hac-uml")
    found = {"graph": graph, "eight bits": in_eight_bits(graph)}
    assert {key: hashlib.sha256(data).hexdigest() for key, data in found.items()} == HAC_UML


KINDS = {
    "hac-uml": {"DynamicQuantizeLSTM": 4, "MatMul": 2},
    "cnn-lstm": {"DynamicQuantizeLSTM": 4, "DequantizeLinear": 2, "Conv": 2},
    "foresee": {"DequantizeLinear": 2, "GRU": 1, "DynamicQuantizeMatMul": 2},
    "vae": {"DynamicQuantizeMatMul": 6},
    "multiscale": {"DequantizeLinear": 12, "Conv": 12, "DynamicQuantizeMatMul": 11, "MatMul": 4},
}


@pytest.mark.parametrize("name", KINDS)
def test_what_becomes_eight_bits(name: str) -> None:
    """Products of two computed values stay, and so do linear layers beside LSTMs."""
    model = onnx.load_from_string(in_eight_bits(made(name)))
    kinds = Counter(node.op_type for node in model.graph.node)
    every = set().union(*KINDS.values())
    assert {kind: count for kind, count in kinds.items() if kind in every} == KINDS[name]


@pytest.mark.parametrize("name", ["cnn-lstm", "foresee", "vae", "multiscale"])
def test_every_weight_is_within_half_a_step(name: str) -> None:
    graph = made(name)
    plain, small = (
        {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(data).graph.initializer}
        for data in (graph, in_eight_bits(graph))
    )
    eights = [key for key, value in small.items() if value.dtype == np.int8 and value.any() and value.ndim != 4]
    assert len(eights) > 3
    for key in eights:
        steps, scale, due = small[key].astype(np.float32), small[f"{key}.scale"], plain[key]
        if steps.shape != due.shape:  # an LSTM's are the other way round
            back = steps.transpose(0, 2, 1) * scale[:, :, None]
        else:
            back = steps * (scale if due.ndim == 2 else scale[:, None] if len(due) == 1 else scale[:, None, None])
        assert np.abs(back - due).max() <= 0.5001 * scale.max()
        assert abs(int(small[key].min())) <= 127


def test_a_channel_of_zeros_stays_zero_in_eight_bits() -> None:
    detector = build(DetectorConfig(name="vae", window=4, hidden=4, latent=2), 3)
    weights = {key: np.zeros_like(value) for key, value in detector.weights().items()}
    detector.load_weights(weights)
    session = onnxruntime.InferenceSession(in_eight_bits(detector.graph()), providers=["CPUExecutionProvider"])
    rebuilt, _ = session.run(None, {"windows": np.ones((1, 4, 3), np.float32)})
    assert not np.any(rebuilt)
