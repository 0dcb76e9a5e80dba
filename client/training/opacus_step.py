"""The gradients of records by Opacus: a second, independent way, slower by far (`--dp-engine opacus`).

Opacus has no nn.LSTM and no nn.GRU; its DPLSTM and DPGRU take over the same weights, and their parameters have the
same names. Names are all that may be relied on: their order differs, and inside another module its `state_dict` holds
every weight twice.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from client.training.gradients import KeptGradients
from shared.detectors import ClusterTarget, Detector


def opacus_gradients(
    detector: Detector, windows_NWD: Tensor, records: int, target: ClusterTarget | None, share: float
) -> KeptGradients:
    """As `client.training.gradients.Engine` says; the detector is left as it was."""
    from opacus import GradSampleModule  # The default engine does without it: it takes a second to import.

    own = _with_dp_layers(detector)
    hooked = GradSampleModule(own.train(), batch_first=True, loss_reduction="sum")
    losses_N = own.losses(windows_NWD.detach().requires_grad_(), target)  # hooks warn where no input needs a gradient
    torch.autograd.backward(losses_N.sum() * share)
    gradients = {}
    for name, parameter in own.named_parameters():
        each_N: Tensor = getattr(parameter, "grad_sample")  # noqa: B009 (Opacus puts it there)
        gradients[name] = each_N.view(-1, records, *parameter.shape).sum(0)
    hooked.remove_hooks()
    return KeptGradients(losses_N.detach().view(-1, records).sum(0) * share, gradients)


def _with_dp_layers(detector: Detector) -> Detector:
    """A copy whose LSTM and GRU layers are Opacus's."""
    own = copy.deepcopy(detector)
    for name, layer in detector.named_modules():
        if isinstance(layer, nn.LSTM | nn.GRU):
            parent, _, last = name.rpartition(".")
            setattr(own.get_submodule(parent), last, _dp_layer(layer))
    return own


def _dp_layer(layer: nn.LSTM | nn.GRU) -> nn.Module:
    from opacus.layers import DPGRU, DPLSTM

    kind = DPLSTM if isinstance(layer, nn.LSTM) else DPGRU
    shape = {"batch_first": layer.batch_first, "bidirectional": layer.bidirectional, "bias": layer.bias}
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and not used
        made: nn.Module = kind(layer.input_size, layer.hidden_size, **shape).to(layer.weight_ih_l0.device)
    own = dict(made.named_parameters())
    with torch.no_grad():
        for name, value in layer.named_parameters():
            own[name].copy_(value)
    made.forward = partial(_from_zeros, made, layer.hidden_size, 1 + layer.bidirectional)
    return made


def _from_zeros(layer: nn.Module, hidden: int, ways: int, inputs_NTI: Tensor) -> tuple[Tensor, Any]:
    """States from zeros that need a gradient, or else the hooks warn."""
    from opacus.layers import DPLSTM

    start = inputs_NTI.new_zeros(ways, len(inputs_NTI), hidden).requires_grad_()
    given = (start, start) if isinstance(layer, DPLSTM) else start
    found: tuple[Tensor, Any] = type(layer).forward(layer, inputs_NTI, given)
    return found
