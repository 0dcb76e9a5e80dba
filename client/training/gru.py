"""A GRU layer, forth and back by hand, so that what each window adds to the gradient stays in sight.

    a_t = W_ih x_t + b_ih        b_t = W_hh h_{t-1} + b_hh
    r, z = sigmoid(a^r + b^r, a^z + b^z)        n = tanh(a^n + r b^n)        h_t = (1 - z) n + z h_{t-1}

Cho et al. 2014 (arXiv 1406.1078) with PyTorch's two biases. Backwards, the gradient is a sum of products over windows
and steps, with deltas of two kinds because r comes between: dL/dW_ih = sum (dL/da_t) x_t^T and
dL/dW_hh = sum (dL/db_t) h_{t-1}^T, where dL/db^n = r dL/da^n and the rest is the same.

Shapes: T steps, N windows, I inputs, H units, G = 3 H gates in PyTorch's order r, z, n.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from client.training.rows import times

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class Passed:
    """What the way back needs of the way forth.

    Attributes:
        gates: r, z, n (T, N, 3, H).
        olds: b^n (T, N, H).
        states: h (T + 1, N, H), from the zeros before the first step.
    """

    gates: Tensor
    olds: Tensor
    states: Tensor

    @property
    def outputs(self) -> Tensor:
        """h_t (T, N, H)."""
        return self.states[1:]

    @property
    def inputs(self) -> Tensor:
        """h_{t-1} (T, N, H), what W_hh is multiplied by."""
        return self.states[:-1]


def weights(layer: nn.GRU) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_ih (G, I), W_hh (G, H), b_ih, b_hh (G,), as constants."""
    into_GI, over_GH, into_G, over_G = (getattr(layer, f"{name}_l0").detach() for name in _NAMES)
    return into_GI, over_GH, into_G, over_G


def forth(inputs_TNI: Tensor, layer: nn.GRU) -> Passed:
    """All states, from a zero state before the first step."""
    (steps, n, _), h = inputs_TNI.shape, layer.hidden_size
    into_GI, over_GH, into_G, over_G = weights(layer)
    gates = times(inputs_TNI, into_GI, into_G)
    states, olds = gates.new_zeros(steps + 1, n, h), gates.new_empty(steps, n, h)
    for t in range(steps):
        own_NG = torch.addmm(over_G, states[t], over_GH.T)
        olds[t] = own_NG[:, 2 * h :]
        reset_NH, update_NH = gates[t, :, : 2 * h].add_(own_NG[:, : 2 * h]).sigmoid_().chunk(2, 1)
        new_NH = gates[t, :, 2 * h :].addcmul_(reset_NH, olds[t]).tanh_()
        torch.lerp(new_NH, states[t], update_NH, out=states[t + 1])
    return Passed(gates.view(steps, n, 3, h), olds, states)


def back(upward_TNH: Tensor, passed: Passed, layer: nn.GRU) -> tuple[Tensor, Tensor]:
    """Deltas dL/da and dL/db, (T, N, G) each, from dL/dh as the layers above give it.

    For each step, with `dh` what arrives at h_t:

        da^n = dh (1 - z) (1 - n^2)    da^z = dh (h_{t-1} - n) z (1 - z)    da^r = da^n b^n r (1 - r)
        db^n = da^n r                  dh_{t-1} = up_{t-1} + dh z + W_hh^T db
    """
    _, over_GH, _, _ = weights(layer)
    into, over = torch.empty_like(passed.gates), torch.empty_like(passed.gates)
    carried_NH = torch.zeros_like(passed.states[0])
    for t in reversed(range(len(upward_TNH))):
        r, z, n = passed.gates[t].unbind(1)
        dh_NH = upward_TNH[t] + carried_NH
        into[t, :, 2] = dh_NH * (1.0 - z) * (1.0 - n * n)
        into[t, :, 1] = dh_NH * (passed.states[t] - n) * z * (1.0 - z)
        into[t, :, 0] = into[t, :, 2] * passed.olds[t] * r * (1.0 - r)
        over[t] = into[t]
        over[t, :, 2] *= r
        carried_NH = torch.addmm(dh_NH * z, over[t].flatten(1), over_GH)
    return into.flatten(2), over.flatten(2)
