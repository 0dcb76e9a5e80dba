"""ONNX graphs of detectors, written node by node: what an edge box runs.

PyTorch's exporter writes the same operators, takes 6 to 26 s for it on our machines, and its graph is 1.2 times as slow
for one window; writing them takes milliseconds (docs/decisions/0012). Shapes here are ONNX's: time first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

OPSET = 17
_IR_VERSION = 9
_FLOAT = onnx.TensorProto.FLOAT
_MICROSOFT = "com.microsoft"


class Graph:
    """A graph under construction: nodes in order, constants by name. Values are named by the caller.

    Args:
        weights: of the detector, by PyTorch's names.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Enter a constant; returns its name."""
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> str:
        """Add an operator; returns the name of its first output that is used."""
        self._nodes.append(helper.make_node(kind, list(inputs), list(outputs), **attributes))
        return next(name for name in outputs if name)

    def reshape(self, value: str, shape: Sequence[int], to: str) -> str:
        """Reshape; 0 keeps a size, -1 is what is left."""
        return self.node("Reshape", [value, self.constant(f"{to}.shape", np.array(shape, np.int64))], [to])

    def linear(self, value: str, layer: str, to: str) -> str:
        """`x W^T + b` over the last axis of an nn.Linear."""
        weight = self.constant(f"{layer}.weight", self._weights[f"{layer}.weight"].T)
        product = self.node("MatMul", [value, weight], [f"{to}.product"])
        return self.node("Add", [product, self.constant(f"{layer}.bias", self._weights[f"{layer}.bias"])], [to])

    def lstm(self, value: str, layer: str, both_ways: bool, last_only: bool = False) -> str:
        """One nn.LSTM layer over (W, N, D).

        Args:
            value: its input.
            layer: its name; the weights are `layer.weight_ih_l0` and so on, `_reverse` for the way back.
            both_ways: whether there is a way back.
            last_only: give out the last states (1 or 2, N, H) and not all of them.

        Returns:
            name of (W, N, H), or (W, N, 2H) both ways.
        """
        ways = ("", "_reverse") if both_ways else ("",)
        hidden = self._weights[f"{layer}.weight_hh_l0"].shape[1]
        inputs = [value, *(self._packed(layer, ways, part) for part in ("weight_ih", "weight_hh", "bias"))]
        outputs = ["", f"{layer}.last"] if last_only else [f"{layer}.states"]
        direction = "bidirectional" if both_ways else "forward"
        states = self.node("LSTM", inputs, outputs, hidden_size=hidden, direction=direction)
        if last_only:
            return states
        beside = self.node("Transpose", [states], [f"{layer}.beside"], perm=[0, 2, 1, 3])  # W, N, ways, H
        return self.reshape(beside, [0, 0, len(ways) * hidden], f"{layer}.out")

    def _packed(self, layer: str, ways: Sequence[str], part: str) -> str:
        """Gates in ONNX's order (i, o, f, g) and both ways in one tensor; the two biases follow each other."""
        kinds = ("bias_ih", "bias_hh") if part == "bias" else (part,)
        packed = [np.concatenate([_gates(self._weights[f"{layer}.{kind}_l0{way}"]) for kind in kinds]) for way in ways]
        return self.constant(f"{layer}.{part}", np.stack(packed))

    def model(self, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]) -> bytes:
        """The finished model, checked by ONNX; input and output shapes by name."""
        graph = helper.make_graph(
            self._nodes, "detector", _described(inputs), _described(outputs), list(self._constants.values())
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
        model.producer_name = "crossplant"
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def _gates(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """From PyTorch's order of gates (i, f, g, o) to ONNX's (i, o, f, g)."""
    i, f, g, o = np.split(rows, 4)
    return np.concatenate([i, o, f, g])


def _described(shapes: Mapping[str, Sequence[int]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, _FLOAT, list(shape)) for name, shape in shapes.items()]


def in_eight_bits(graph: bytes) -> bytes:
    """The same model with the weights of its LSTM layers in 8 bits, one scale a gate and unit: a quarter of the bytes.

    Runs in onnxruntime only (its operator DynamicQuantizeLSTM, which takes the inputs to 8 bits, too). Linear layers
    stay as they are: they are few, and the last one gives the reconstruction.
    """
    model = onnx.load_from_string(graph)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [_eight_bit_lstm(node, constants) if node.op_type == "LSTM" else node for node in model.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants.values())
    model.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return bytes(model.SerializeToString(deterministic=True))


def _eight_bit_lstm(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> onnx.NodeProto:
    """The node's counterpart; its two weights are replaced among the constants."""
    value, weight, recurrent, bias = node.input[:4]
    scaled: list[str] = []
    for name in (weight, recurrent):
        gates_KGI = numpy_helper.to_array(constants[name]).astype(np.float32)  # ways K, gates and units G, inputs I
        scale_KG = np.maximum(np.abs(gates_KGI).max(axis=2) / 127, np.finfo(np.float32).tiny)
        eight_KIG = np.round(gates_KGI / scale_KG[:, :, None]).astype(np.int8).transpose(0, 2, 1)
        parts = {name: eight_KIG, f"{name}.scale": scale_KG, f"{name}.zero": np.zeros(scale_KG.shape, np.int8)}
        constants |= {key: numpy_helper.from_array(np.ascontiguousarray(part), key) for key, part in parts.items()}
        scaled += [f"{name}.scale", f"{name}.zero"]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    inputs = [value, weight, recurrent, bias, "", "", "", "", *scaled]
    return helper.make_node("DynamicQuantizeLSTM", inputs, list(node.output), domain=_MICROSOFT, **attributes)
