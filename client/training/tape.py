"""A tape of what each layer's gradient is made of, kept while an ordinary loss is computed and differentiated.

    dL/dW = sum over windows and steps of delta row^T    delta: what arrives at a layer's outputs; row: what entered it

Inside `taped(detector)` the detector's layers compute what they always do; after `backward` the tape holds deltas and
rows of each, from which come the norm of each record's gradient and any weighted sum of them, without a gradient of any
single record (client/training/ghost.py). nn.LSTM (one layer, one or both ways), nn.GRU (one layer, one way),
nn.Linear and nn.Conv1d are known; a detector that has other trained layers is refused, by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from client.training import gru, lstm
from client.training.rows import times
from shared.errors import PrivacyUnmet

_CURE = "Use a detector made of nn.LSTM, nn.GRU, nn.Linear and nn.Conv1d, or run without --epsilon."


@dataclass(frozen=True)
class Factor:
    """Parameters that have the gradient `sum_t delta_t row_t^T`.

    Attributes:
        shapes: of the parameters, by name; the two biases of an LSTM have the same gradient.
        rows: (T, N, F); None stands for ones, F = 1, as a bias has them.
    """

    shapes: dict[str, torch.Size]
    rows: Tensor | None


@dataclass(frozen=True)
class Product:
    """Gradients of a layer, or of one way of it.

    Attributes:
        deltas: (T, N, G), T steps of N windows.
        factors: what they are multiplied with.
    """

    deltas: Tensor
    factors: tuple[Factor, ...]


@dataclass(frozen=True)
class Tape:
    """What was kept.

    Attributes:
        products: filled when the loss is differentiated.
        calls: how often each layer was used.
        root: a leaf, so that autograd goes through layers whose inputs are data.
    """

    products: list[Product] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    root: Tensor = field(default_factory=lambda: torch.zeros((), requires_grad=True))


@contextmanager
def taped(detector: nn.Module) -> Iterator[Tape]:
    """Let this detector's layers, and nobody else's, write on a tape. Gradients that it has are kept.

    Raises:
        PrivacyUnmet: a layer that is not known has trained parameters, or layers share one; at the end: a layer was
            used twice, or its weights outside it.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> with taped(layer) as tape:
        ...     layer(torch.tensor([[3.0, 4.0]])).sum().backward()
        >>> tape.products[0].deltas.tolist(), tape.products[0].factors[0].rows.tolist()
        ([[[1.0]]], [[[3.0, 4.0]]])
    """
    tape, layers = Tape(), _known_layers(detector)
    trained = {f"{name}.{part}".lstrip("."): value for name, layer in layers.items() for part, value in _own(layer)}
    before = [(parameter, parameter.grad) for parameter in trained.values()]
    for parameter in trained.values():
        parameter.grad = None
    try:
        for name, layer in layers.items():
            layer.forward = partial(_FORWARDS[type(layer)], tape, name, layer)
        yield tape
        _check_used_as_layers(trained, tape)
    finally:
        for layer in layers.values():
            layer.__dict__.pop("forward", None)
        for parameter, gradient in before:
            parameter.grad = gradient


def _known_layers(detector: nn.Module) -> dict[str, nn.Module]:
    """Layers with trained parameters, by name."""
    owners: dict[int, str] = {}
    for name, layer in detector.named_modules():
        if reason := _refusal(layer):
            place = f"{name or 'the detector'} ({type(layer).__name__})"
            raise PrivacyUnmet(f"no exact clipping is known for {place}: {reason}.", _CURE)
        for part, parameter in _own(layer):
            if other := owners.get(id(parameter)):
                raise PrivacyUnmet(f"no exact clipping is known for shared weights: {name}.{part} is {other}.", _CURE)
            owners[id(parameter)] = f"{name}.{part}"
    return {name: layer for name, layer in detector.named_modules() if _own(layer)}


def _own(layer: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Its trained parameters, by name; not those of layers inside it."""
    return [(name, value) for name, value in layer._parameters.items() if value is not None and value.requires_grad]


def _refusal(layer: nn.Module) -> str:
    """Why a layer cannot be taped; empty when it can."""
    if isinstance(layer, nn.modules.batchnorm._NormBase):
        return "it mixes the windows of different records"
    if _own(layer) and type(layer) not in _FORWARDS:
        return "its gradient is not a sum of products"
    if isinstance(layer, nn.LSTM):
        good = layer.num_layers == 1 and layer.proj_size == 0 and layer.batch_first
        return "" if good else "an LSTM must have one layer, no projection, and the batch first"
    if isinstance(layer, nn.GRU):
        good = layer.num_layers == 1 and not layer.bidirectional and layer.bias and layer.batch_first
        return "" if good else "a GRU must have one layer, one way, biases, and the batch first"
    if isinstance(layer, nn.Conv1d):
        good = layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return "" if good else "a convolution must have one group, and zeros as padding, counted"
    return ""


def _check_used_as_layers(trained: dict[str, nn.Parameter], tape: Tape) -> None:
    twice = [f"{name} is used {calls} times" for name, calls in tape.calls.items() if calls > 1]
    beside = [f"{name} is used outside its layer" for name, value in trained.items() if value.grad is not None]
    if wrong := twice + beside:
        raise PrivacyUnmet(f"no exact clipping is known for this detector: {wrong[0]}.", _CURE)


# ---- what the layers do instead --------------------------------------------------------------------------------------


def _linear(tape: Tape, name: str, layer: nn.Linear, inputs: Tensor) -> Tensor:
    tape.calls[name] += 1
    outputs: Tensor = _Linear.apply(tape.root, inputs, tape, name, layer)  # type: ignore[no-untyped-call]
    return outputs


def _conv1d(tape: Tape, name: str, layer: nn.Conv1d, inputs_NCT: Tensor) -> Tensor:
    """A linear layer over the patches that the kernel sees."""
    tape.calls[name] += 1
    patches_NXT = functional.unfold(
        inputs_NCT[:, :, None],
        (1, layer.kernel_size[0]),
        dilation=(1, layer.dilation[0]),
        padding=(0, int(layer.padding[0])),
        stride=(1, layer.stride[0]),
    )
    outputs_NTG: Tensor = _Linear.apply(tape.root, patches_NXT.transpose(1, 2), tape, name, layer)  # type: ignore[no-untyped-call]
    return outputs_NTG.transpose(1, 2)


def _lstm(tape: Tape, name: str, layer: nn.LSTM, inputs_NTI: Tensor) -> tuple[Tensor, tuple[Tensor, None]]:
    """All states, and the last ones; the last cells are given to nobody."""
    tape.calls[name] += 1
    states_NTX: Tensor = _Lstm.apply(tape.root, inputs_NTI, tape, name, layer)  # type: ignore[no-untyped-call]
    ends = [states_NTX[:, -1, : layer.hidden_size], states_NTX[:, 0, layer.hidden_size :]]
    return states_NTX, (torch.stack(ends[: 1 + layer.bidirectional]), None)


def _gru(tape: Tape, name: str, layer: nn.GRU, inputs_NTI: Tensor) -> tuple[Tensor, Tensor]:
    """All states, and the last one."""
    tape.calls[name] += 1
    states_NTH: Tensor = _Gru.apply(tape.root, inputs_NTI, tape, name, layer)  # type: ignore[no-untyped-call]
    return states_NTH, states_NTH[None, :, -1]


_FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv1d,
    nn.LSTM: _lstm,
    nn.GRU: _gru,
}


def _factor(name: str, layer: nn.Module, parts: list[str], rows: Tensor | None) -> Factor:
    return Factor({f"{name}.{part}".lstrip("."): getattr(layer, part).shape for part in parts}, rows)


def _steps_first(values: Tensor) -> Tensor:
    """(N, ..., F) as (T, N, F) in one stretch of memory."""
    return values.reshape(values.shape[0], -1, values.shape[-1]).transpose(0, 1).contiguous()


class _Linear(torch.autograd.Function):
    """`x W^T + b` over the last axis of (N, ..., F); a convolution's weight is flattened."""

    @staticmethod
    def forward(ctx: Any, root: Tensor, inputs: Tensor, tape: Tape, name: str, layer: nn.Linear | nn.Conv1d) -> Tensor:
        rows_TNF = _steps_first(inputs)
        ctx.save_for_backward(rows_TNF)
        ctx.kept = tape, name, layer, inputs.shape
        outputs_TNG = times(rows_TNF, layer.weight.flatten(1), layer.bias)
        return outputs_TNG.transpose(0, 1).reshape(*inputs.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upward: Tensor) -> tuple[Tensor | None, ...]:
        (rows_TNF,), (tape, name, layer, shape) = ctx.saved_tensors, ctx.kept
        deltas_TNG = _steps_first(upward)
        factors = [_factor(name, layer, ["weight"], rows_TNF)]
        if layer.bias is not None:
            factors.append(_factor(name, layer, ["bias"], None))
        tape.products.append(Product(deltas_TNG, tuple(factors)))
        if not ctx.needs_input_grad[1]:
            return None, None, None, None, None
        downward = times(deltas_TNG, layer.weight.detach().flatten(1).T).transpose(0, 1).reshape(shape)
        return None, downward, None, None, None


class _Lstm(torch.autograd.Function):
    """All states (N, T, H) of an LSTM layer, or (N, T, 2 H) both ways."""

    @staticmethod
    def forward(ctx: Any, root: Tensor, inputs_NTI: Tensor, tape: Tape, name: str, layer: nn.LSTM) -> Tensor:
        rows_TNI = _steps_first(inputs_NTI)
        ways = [lstm.Way.of(layer, reverse) for reverse in (False, True)[: 1 + layer.bidirectional]]
        passes = [lstm.forth(rows_TNI, way) for way in ways]
        ctx.save_for_backward(rows_TNI)
        ctx.kept = tape, name, layer, ways, passes
        return torch.cat([passed.outputs for passed in passes], 2).transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upward_NTX: Tensor) -> tuple[Tensor | None, ...]:
        (rows_TNI,), (tape, name, layer, ways, passes) = ctx.saved_tensors, ctx.kept
        downward_TNI = torch.zeros_like(rows_TNI) if ctx.needs_input_grad[1] else None
        for way, passed, part_NTH in zip(ways, passes, upward_NTX.chunk(len(ways), 2), strict=True):
            deltas_TNG = lstm.back(part_NTH.transpose(0, 1).clone(memory_format=torch.contiguous_format), passed, way)
            factors = [
                _factor(name, layer, [f"weight_ih_l0{way.suffix}"], rows_TNI),
                _factor(name, layer, [f"weight_hh_l0{way.suffix}"], passed.inputs),
            ]
            if layer.bias:
                factors.append(_factor(name, layer, [f"bias_ih_l0{way.suffix}", f"bias_hh_l0{way.suffix}"], None))
            tape.products.append(Product(deltas_TNG, tuple(factors)))
            if downward_TNI is not None:
                downward_TNI += times(deltas_TNG, way.into_GI.T)
        ctx.kept = None  # the cells go; gates became deltas
        return None, None if downward_TNI is None else downward_TNI.transpose(0, 1), None, None, None


class _Gru(torch.autograd.Function):
    """All states (N, T, H) of a GRU layer; its two weights have deltas of their own."""

    @staticmethod
    def forward(ctx: Any, root: Tensor, inputs_NTI: Tensor, tape: Tape, name: str, layer: nn.GRU) -> Tensor:
        rows_TNI = _steps_first(inputs_NTI)
        passed = gru.forth(rows_TNI, layer)
        ctx.save_for_backward(rows_TNI)
        ctx.kept = tape, name, layer, passed
        return passed.outputs.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upward_NTH: Tensor) -> tuple[Tensor | None, ...]:
        (rows_TNI,), (tape, name, layer, passed) = ctx.saved_tensors, ctx.kept
        into_TNG, over_TNG = gru.back(upward_NTH.transpose(0, 1), passed, layer)
        for kind, deltas_TNG, rows in (("ih", into_TNG, rows_TNI), ("hh", over_TNG, passed.inputs)):
            factors = _factor(name, layer, [f"weight_{kind}_l0"], rows), _factor(name, layer, [f"bias_{kind}_l0"], None)
            tape.products.append(Product(deltas_TNG, factors))
        if not ctx.needs_input_grad[1]:
            return None, None, None, None, None
        return None, times(into_TNG, gru.weights(layer)[0].T).transpose(0, 1), None, None, None
