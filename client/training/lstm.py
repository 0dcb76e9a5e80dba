"""One way through an LSTM layer, forth and back by hand, so that what each window adds to the gradient stays in sight.

    a_t = W_ih x_t + W_hh h_{t-1} + b_ih + b_hh        i, f, o = sigmoid(a^i, a^f, a^o),  g = tanh(a^g)
    c_t = f c_{t-1} + i g                              h_t = o tanh(c_t)

Backwards, with d = dL/da, the gradient is a sum of products over windows and steps: dL/dW_ih = sum d_t x_t^T,
dL/dW_hh = sum d_t h_{t-1}^T, dL/db = sum d_t. PyTorch's own backward returns these sums only. What follows from the
step before (after) is computed step by step, the rest for all steps at once.

Shapes: T steps, N windows, I inputs, H units, G = 4 H gates in PyTorch's order i, f, g, o. Every tanh is
2 sigmoid(2 x) - 1: one pass for all four gates, and on a CPU several times as fast as PyTorch's tanh; exact to 1.2e-7.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from client.training.rows import times

_BLOCK = 5


@dataclass(frozen=True)
class Way:
    """Weights of one way.

    Attributes:
        into_GI: W_ih.
        over_GH: W_hh.
        bias_G: the sum of both biases; 0 without.
        reverse: whether time runs backwards.
    """

    into_GI: Tensor
    over_GH: Tensor
    bias_G: Tensor
    reverse: bool

    @property
    def suffix(self) -> str:
        """What PyTorch's names of these weights end with."""
        return "_reverse" if self.reverse else ""

    @staticmethod
    def of(layer: nn.LSTM, reverse: bool) -> Way:
        """One way of a layer."""
        kinds, end = ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), "_reverse" if reverse else ""
        own = kinds if layer.bias else kinds[:2]
        into_GI, over_GH, *biases = (getattr(layer, f"{kind}_l0{end}").detach() for kind in own)
        bias_G = biases[0] + biases[1] if layer.bias else over_GH.new_zeros(len(over_GH))
        return Way(into_GI, over_GH, bias_G, reverse)


@dataclass(frozen=True)
class Passed:
    """What the way back needs of the way forth.

    Attributes:
        gates: (T, N, G), after the sigmoid; that of g is sigmoid(2 a^g).
        cells: (T + 1, N, H), 2 c; step t goes from index t to t + 1, in reverse from t + 1 to t.
        states: (T + 1, N, H), h, likewise.
        reverse: whether time runs backwards.
    """

    gates: Tensor
    cells: Tensor
    states: Tensor
    reverse: bool

    @property
    def by_gate(self) -> Tensor:
        """The gates as (T, N, 4, H): i, f, g, o."""
        return self.gates.view(*self.gates.shape[:2], 4, -1)

    @property
    def outputs(self) -> Tensor:
        """h_t (T, N, H)."""
        return self.states[:-1] if self.reverse else self.states[1:]

    @property
    def inputs(self) -> Tensor:
        """h_{t-1} (T, N, H), what W_hh is multiplied by."""
        return self.states[1:] if self.reverse else self.states[:-1]


def forth(inputs_TNI: Tensor, way: Way) -> Passed:
    """All states, from zero states before the first step."""
    (steps, n, _), h = inputs_TNI.shape, way.over_GH.shape[1]
    twice_G = torch.ones_like(way.bias_G)
    twice_G[2 * h : 3 * h] = 2.0  # tanh(a) = 2 sigmoid(2 a) - 1
    gates = times(inputs_TNI, way.into_GI * twice_G[:, None], way.bias_G * twice_G)
    over_HG = (way.over_GH * twice_G[:, None]).T
    cells, states = (gates.new_zeros(steps + 1, n, h) for _ in range(2))
    bent_NH = gates.new_empty(n, h)
    gate, cell, state = gates.unbind(), cells.unbind(), states.unbind()
    i, f, g, o = (part.unbind() for part in gates.view(steps, n, 4, h).unbind(2))
    for t in reversed(range(steps)) if way.reverse else range(steps):
        old, new = (t + 1, t) if way.reverse else (t, t + 1)
        gate[t].addmm_(state[old], over_HG).sigmoid_()
        torch.mul(f[t], cell[old], out=cell[new]).addcmul_(i[t], g[t], value=4.0).sub_(i[t], alpha=2.0)
        torch.sigmoid(cell[new], out=bent_NH)
        torch.neg(o[t], out=state[new]).addcmul_(o[t], bent_NH, value=2.0)
    return Passed(gates, cells, states, way.reverse)


def back(upward_TNH: Tensor, passed: Passed, way: Way) -> Tensor:
    """Deltas d = dL/da (T, N, G) from dL/dh as the layers above give it. They take the place of the gates; the other
    two are used up.

    For each step, with `dh` and `dc` what arrives at h_t and c_t:

        d^i = dc g i (1 - i)    d^f = dc c_{t-1} f (1 - f)    d^g = dc i (1 - g^2)    d^o = dh tanh(c) o (1 - o)
        dh_t = up_t + W_hh^T d_{t+1}          dc_t = dc_{t+1} f_{t+1} + dh_t o (1 - tanh^2(c))

    Signs are turned, `up` and `dc` and their factors: two passes less.
    """
    gates, up, delta = passed.by_gate, upward_TNH.neg_().unbind(), passed.gates.unbind()
    cellward, keep, stateward = gates[:, :, :3].unbind(), gates[:, :, 1].unbind(), gates[:, :, 3].unbind()
    dc_NH, kept_NH = torch.zeros_like(up[0]), torch.empty_like(up[0])
    done = None
    for steps in _blocks(len(up), way.reverse):
        first = min(steps)
        to_gates, to_cell = _slopes(passed, first, first + len(steps))
        for t in steps:
            if done is not None:
                up[t].addmm_(delta[done], way.over_GH, alpha=-1.0)
            dc_NH.addcmul_(up[t], to_cell[t - first])
            torch.mul(dc_NH, keep[t], out=kept_NH)
            torch.mul(to_gates[t - first, :, :3], dc_NH.unsqueeze(1), out=cellward[t])
            torch.mul(to_gates[t - first, :, 3], up[t], out=stateward[t])
            dc_NH, kept_NH, done = kept_NH, dc_NH, t
    return passed.gates


def _blocks(steps: int, reverse: bool) -> list[range]:
    """All steps against the way's time, some at once: what is worked out for them stays in the processor's cache."""
    first = range(0, steps, _BLOCK)
    ahead = [range(begin, min(begin + _BLOCK, steps)) for begin in first]
    return ahead if reverse else [block[::-1] for block in ahead[::-1]]


def _slopes(passed: Passed, first: int, end: int) -> tuple[Tensor, Tensor]:
    """What `-dc` (three times) and `-dh` are multiplied by to give d (B, N, 4, H); dc/dh (B, N, H). Of some steps."""
    gates, cells = passed.by_gate[first:end], passed.cells[first : end + 1]
    before, after = (cells[1:], cells[:-1]) if passed.reverse else (cells[:-1], cells[1:])
    i, _, g, o = gates.unbind(2)
    bent = after.sigmoid()  # tanh(c) = 2 bent - 1
    slopes = torch.addcmul(gates, gates, gates, value=-1.0)  # sigma' = sigma (1 - sigma)
    of_i, of_f, of_g, of_o = slopes.unbind(2)
    of_i.addcmul_(of_i, g, value=-2.0)
    of_f.mul_(before).mul_(-0.5)
    of_g.mul_(i).mul_(-4.0)
    of_o.addcmul_(of_o, bent, value=-2.0)
    return slopes, torch.addcmul(bent, bent, bent, value=-1.0).mul_(o).mul_(4.0)
