"""A trunk's ONNX graph with a plant's adapter before and after it: one graph, in the plant's own tags."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from shared.model import Weights

_INSIDE = {"windows": "trunk.windows", "reconstruction": "trunk.reconstruction"}


def around(graph: bytes, own: Weights) -> bytes:
    """Put a plant's two linear maps around its trunk.

    Args:
        graph: of the trunk, `windows` (1, W, M) to `reconstruction` (1, W, M) and `latents`.
        own: `adapter.inlet.weight` (M, D), `adapter.outlet.weight` (D, M), and `.bias` of both.

    Returns:
        the model with `windows` and `reconstruction` (1, W, D), checked by ONNX.
    """
    model = onnx.load_from_string(graph)
    inner = model.graph
    nodes = [*_linear("windows", "adapter.inlet", _INSIDE["windows"])]
    nodes += [_renamed(node) for node in inner.node]
    nodes += _linear(_INSIDE["reconstruction"], "adapter.outlet", "reconstruction")
    del inner.node[:]
    inner.node.extend(nodes)
    for layer in ("adapter.inlet", "adapter.outlet"):
        weight = np.ascontiguousarray(own[f"{layer}.weight"].T)
        inner.initializer.append(numpy_helper.from_array(weight, f"{layer}.weight"))
        inner.initializer.append(numpy_helper.from_array(own[f"{layer}.bias"], f"{layer}.bias"))
    for told in (*inner.input, *inner.output):
        if told.name in _INSIDE:
            told.type.tensor_type.shape.dim[2].dim_value = own["adapter.inlet.weight"].shape[1]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _linear(value: str, layer: str, to: str) -> list[onnx.NodeProto]:
    product = helper.make_node("MatMul", [value, f"{layer}.weight"], [f"{layer}.product"])
    return [product, helper.make_node("Add", [f"{layer}.product", f"{layer}.bias"], [to])]


def _renamed(node: onnx.NodeProto) -> onnx.NodeProto:
    """A node of the trunk, whose ends have other names now."""
    for names in (node.input, node.output):
        for at, name in enumerate(names):
            names[at] = _INSIDE.get(name, name)
    return node
