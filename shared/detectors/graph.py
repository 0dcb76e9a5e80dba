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
_LSTM = (0, 3, 1, 2)  # where ONNX's gates i, o, f, g are among PyTorch's i, f, g, o
_GRU = (1, 0, 2)  # z, r, h among r, z, n
_Constants = dict[str, onnx.TensorProto]
_Floats = NDArray[np.float32]


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
        """`x W^T + b` over the last axis of an nn.Linear; b may be missing."""
        weight = self.constant(f"{layer}.weight", self._weights[f"{layer}.weight"].T)
        if f"{layer}.bias" not in self._weights:
            return self.node("MatMul", [value, weight], [to])
        product = self.node("MatMul", [value, weight], [f"{to}.product"])
        return self.node("Add", [product, self.constant(f"{layer}.bias", self._weights[f"{layer}.bias"])], [to])

    def latents(self, value: str, layer: str, bottleneck: str) -> str:
        """The linear layer that gives the graph's `latents`, bounded if the bottleneck is."""
        if bottleneck != "tanh":
            return self.linear(value, layer, "latents")
        return self.node("Tanh", [self.linear(value, layer, "latents.free")], ["latents"])

    def conv(self, value: str, layer: str, to: str, dilation: int = 1) -> str:
        """One nn.Conv1d of odd kernel over (N, C, W), padded with zeros to as many steps as came in."""
        weight = self._weights[f"{layer}.weight"]
        constants = [self.constant(f"{layer}.{part}", self._weights[f"{layer}.{part}"]) for part in ("weight", "bias")]
        pads = [dilation * (weight.shape[2] // 2)] * 2
        return self.node("Conv", [value, *constants], [to], dilations=[dilation], pads=pads)

    def normalised(self, value: str, width: int, to: str) -> str:
        """Each row in units of its own mean and deviation: functional.layer_norm without trained factors."""
        ones = self.constant(f"{to}.ones", np.ones(width, np.float32))
        return self.node("LayerNormalization", [value, ones], [to], axis=-1, epsilon=1e-5)

    def attention(self, value: str, layer: str, heads: int) -> str:
        """`shared.detectors.layers.Attention` over (1, T, C); returns the name of (1, T, C)."""
        inner = self._weights[f"{layer}.query.weight"].shape[0]
        depth = inner // heads

        def split(part: str, perm: list[int]) -> str:
            rows = self.linear(value, f"{layer}.{part}", f"{layer}.{part}.rows")
            rows = self.reshape(rows, [0, 0, heads, depth], f"{layer}.{part}.heads")
            return self.node("Transpose", [rows], [f"{layer}.{part}.split"], perm=perm)

        scale = self.constant(f"{layer}.scale", np.array(depth**-0.5, np.float32))
        keys = [split("query", [0, 2, 1, 3]), split("key", [0, 2, 3, 1])]
        scaled = self.node("Mul", [self.node("MatMul", keys, [f"{layer}.products"]), scale], [f"{layer}.scaled"])
        shares = self.node("Softmax", [scaled], [f"{layer}.shares"])
        seen = self.node("MatMul", [shares, split("value", [0, 2, 1, 3])], [f"{layer}.seen"])
        beside = self.node("Transpose", [seen], [f"{layer}.beside"], perm=[0, 2, 1, 3])
        return self.linear(self.reshape(beside, [0, 0, inner], f"{layer}.joined"), f"{layer}.out", f"{layer}.given")

    def twice(self, value: str, steps: int, kept: int, to: str) -> str:
        """Every step of (T, 1, C) twice, and of these the first `kept`: (kept, 1, C)."""
        shape = self.constant(f"{to}.pairs", np.array([steps, 2, 1], np.int64))
        pairs = self.node("Expand", [value, shape], [f"{to}.expanded"])  # T, 2, C
        rows = self.reshape(pairs, [2 * steps, 1, -1], f"{to}.all")
        return self.parts(rows, 0, kept, to)

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

    def gru(self, value: str, layer: str) -> str:
        """One nn.GRU layer, one way, over (W, N, D): the reset gate is applied to what comes of the old state and its
        bias, `linear_before_reset`. Returns the name of all states (W, N, H).
        """
        hidden = self._weights[f"{layer}.weight_hh_l0"].shape[1]
        inputs = [value, *(self._packed(layer, ("",), part, _GRU) for part in ("weight_ih", "weight_hh", "bias"))]
        states = self.node("GRU", inputs, [f"{layer}.states"], hidden_size=hidden, linear_before_reset=1)
        return self.reshape(states, [0, -1, hidden], f"{layer}.out")  # W, ways, N, H: the one way goes

    def parts(self, value: str, start: int, end: int, to: str) -> str:
        """Steps `start` to `end` of (W, N, D)."""
        ends = [self.constant(f"{to}.{name}", np.array([at], np.int64)) for name, at in (("from", start), ("to", end))]
        return self.node("Slice", [value, *ends], [to])

    def _packed(self, layer: str, ways: Sequence[str], part: str, order: Sequence[int] = _LSTM) -> str:
        """Gates in ONNX's order and both ways in one tensor; the two biases follow each other."""
        kinds = ("bias_ih", "bias_hh") if part == "bias" else (part,)
        packed = [
            np.concatenate([_gates(self._weights[f"{layer}.{kind}_l0{way}"], order) for kind in kinds]) for way in ways
        ]
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


def _gates(rows: NDArray[np.float32], order: Sequence[int]) -> NDArray[np.float32]:
    """From PyTorch's order of gates to ONNX's."""
    gates = np.split(rows, len(order))
    return np.concatenate([gates[at] for at in order])


def _described(shapes: Mapping[str, Sequence[int]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, _FLOAT, list(shape)) for name, shape in shapes.items()]


def in_eight_bits(graph: bytes) -> bytes:
    """The same model with its large weights in 8 bits, one scale a gate and unit, column or channel: a quarter of the
    bytes.

    Runs in onnxruntime only. LSTM and linear layers take their inputs to 8 bits, too (its operators DynamicQuantizeLSTM
    and DynamicQuantizeMatMul); the weights of a convolution or a GRU become floats again on their way in. Linear layers
    beside LSTMs stay as they are: they are few, and the last one gives the reconstruction.
    """
    model = onnx.load_from_string(graph)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    kinds = {node.op_type for node in model.graph.node}
    known = {"LSTM": _eight_bit_lstm, "GRU": _eight_bit_gru, "Conv": _eight_bit_conv}
    if "LSTM" not in kinds:
        known["MatMul"] = _eight_bit_matmul
    nodes = [new for node in model.graph.node for new in known.get(node.op_type, _as_it_is)(node, constants)]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants.values())
    model.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return bytes(model.SerializeToString(deterministic=True))


def _as_it_is(node: onnx.NodeProto, constants: _Constants) -> list[onnx.NodeProto]:
    return [node]


def _eight_bit_lstm(node: onnx.NodeProto, constants: _Constants) -> list[onnx.NodeProto]:
    """The node's counterpart; its two weights are replaced among the constants."""
    value, weight, recurrent, bias = node.input[:4]
    scaled: list[str] = []
    for name in (weight, recurrent):
        gates_KGI = numpy_helper.to_array(constants[name]).astype(np.float32)  # ways K, gates and units G, inputs I
        eight_KGI, scale_KG = _in_steps(gates_KGI, (2,))
        parts = _parts(name, eight_KGI.transpose(0, 2, 1), scale_KG[:, :, 0])
        constants |= {key: numpy_helper.from_array(np.ascontiguousarray(part), key) for key, part in parts.items()}
        scaled += [f"{name}.scale", f"{name}.zero"]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    inputs = [value, weight, recurrent, bias, "", "", "", "", *scaled]
    return [helper.make_node("DynamicQuantizeLSTM", inputs, list(node.output), domain=_MICROSOFT, **attributes)]


def _eight_bit_matmul(node: onnx.NodeProto, constants: _Constants) -> list[onnx.NodeProto]:
    """The counterpart of a product with a weight; other products stay."""
    value, name = node.input
    if name not in constants:
        return [node]
    eight_IG, scale_1G = _in_steps(numpy_helper.to_array(constants[name]), (0,))
    parts = _parts(name, eight_IG, scale_1G[0])
    constants |= {key: numpy_helper.from_array(part, key) for key, part in parts.items()}
    return [helper.make_node("DynamicQuantizeMatMul", [value, *parts], list(node.output), domain=_MICROSOFT)]


def _eight_bit_conv(node: onnx.NodeProto, constants: _Constants) -> list[onnx.NodeProto]:
    """The node, and before it one that makes floats of its weight (C, I, K)."""
    value, weight, bias = node.input
    return [_floats_again(weight, 0, constants), _with_inputs(node, [value, f"{weight}.float", bias])]


def _eight_bit_gru(node: onnx.NodeProto, constants: _Constants) -> list[onnx.NodeProto]:
    """The node, and before it two that make floats of its weights (1, G, I): onnxruntime has no GRU in 8 bits."""
    value, *weights, bias = node.input
    floats = [_floats_again(name, 1, constants) for name in weights]
    return [*floats, _with_inputs(node, [value, *(f"{name}.float" for name in weights), bias])]


def _floats_again(name: str, axis: int, constants: _Constants) -> onnx.NodeProto:
    """The node that makes floats of a weight of three axes, of which 8 bits are kept, with a scale along one axis."""
    others = tuple(other for other in range(3) if other != axis)
    eight, scale = _in_steps(numpy_helper.to_array(constants[name]), others)
    parts = _parts(name, eight, scale.ravel())
    constants |= {key: numpy_helper.from_array(part, key) for key, part in parts.items()}
    return helper.make_node("DequantizeLinear", list(parts), [f"{name}.float"], axis=axis)


def _with_inputs(node: onnx.NodeProto, inputs: Sequence[str]) -> onnx.NodeProto:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return helper.make_node(node.op_type, list(inputs), list(node.output), **attributes)


def _in_steps(weight: _Floats, axes: tuple[int, ...]) -> tuple[NDArray[np.int8], _Floats]:
    """A weight in 255 steps about 0, and their size, one for everything along the axes."""
    scale = np.maximum(np.abs(weight).max(axis=axes, keepdims=True) / 127, np.finfo(np.float32).tiny)
    return np.round(weight / scale).astype(np.int8), scale


def _parts(name: str, eight: NDArray[np.int8], scale: _Floats) -> dict[str, NDArray[np.generic]]:
    """What takes a weight's place: steps, their size, and where 0 is."""
    return {name: eight, f"{name}.scale": scale, f"{name}.zero": np.zeros(scale.shape, np.int8)}
