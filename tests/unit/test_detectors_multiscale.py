"""multiscale: how far it sees, its attention, and that any width is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from shared.config import DetectorConfig
from shared.detectors import build
from shared.detectors.layers import Attention, specs
from shared.detectors.multiscale import DILATIONS, HEADS, KERNELS, Multiscale
from shared.model import initial_weights


def make(dim: int = 3, **settings: object) -> Multiscale:
    made = build(DetectorConfig.model_validate({"name": "multiscale", "dropout": 0.0, **settings}), dim)
    assert isinstance(made, Multiscale)
    made.load_weights(initial_weights(made.manifest(), 0))
    return made


def reach(layers: nn.ModuleList, inputs: int, steps: int = 81) -> int:
    """How many steps of what comes in change the middle of what comes out."""
    x = torch.randn(1, inputs, steps, generator=torch.Generator().manual_seed(0), requires_grad=True)
    states: Tensor = x
    for layer in layers:
        states = states + layer(states)
    states[0, :, steps // 2].sum().backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(0).nonzero().flatten()
    return int(seen.max() - seen.min() + 1)


def test_kernels_dilations_and_heads_are_the_papers() -> None:
    made = make()
    assert (KERNELS, DILATIONS, HEADS) == ((3, 5, 7), (1, 2, 4, 8), 8)
    assert [layer.kernel_size for layer in made.scales] == [(3,), (5,), (7,)]
    assert [layer.dilation for layer in made.forth] == [(1,), (2,), (4,), (8,)]
    assert [layer.dilation for layer in made.back] == [(8,), (4,), (2,), (1,)]
    assert [(one.heads, one.depth) for one in made.attention] == [(8, 8), (8, 8)]


def test_the_dilated_stack_sees_thirty_one_steps() -> None:
    made = make(hidden=6)
    assert reach(made.forth, 6) == 31
    assert reach(made.back, 6) == 31


@pytest.mark.parametrize("width", [8, 64])
def test_attention_is_pytorchs(width: int) -> None:
    own, usual = Attention(width, 8), nn.MultiheadAttention(width, 8, batch_first=True)
    with torch.no_grad():
        usual.in_proj_weight.copy_(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
        usual.in_proj_bias.copy_(torch.cat([own.query.bias, torch.zeros(width), own.value.bias]))
        usual.out_proj.weight.copy_(own.out.weight)
        usual.out_proj.bias.copy_(own.out.bias)
        rows = torch.randn(2, 9, width)
        torch.testing.assert_close(own(rows), usual(rows, rows, rows, need_weights=False)[0])


@pytest.mark.parametrize("width", [1, 5, 12])
def test_a_width_that_eight_heads_do_not_divide_is_taken(width: int) -> None:
    assert Attention(width, 8)(torch.randn(2, 4, width)).shape == (2, 4, width)
    made = make(hidden=width, latent=2, window=7)
    assert made(torch.randn(2, 7, 3))[0].shape == (2, 7, 3)


def test_the_order_of_the_samples_is_seen() -> None:
    made, x = make(hidden=8, latent=4, window=9), torch.randn(1, 9, 3)
    assert not torch.allclose(made.encode(x), made.encode(x.flip(1)), atol=1e-4)


def test_a_layer_without_a_known_initial_bound_is_named() -> None:
    with pytest.raises(TypeError, match="RNN"):
        specs(nn.Sequential(nn.RNN(2, 2)))
