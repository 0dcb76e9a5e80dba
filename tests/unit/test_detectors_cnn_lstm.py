"""cnn-lstm: the published size, and what its unusual biases, odd windows and bounded states do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.config import DetectorConfig
from shared.detectors import build
from shared.detectors.cnn_lstm import CnnLstm
from shared.model import initial_weights


def make(dim: int = 3, **settings: object) -> CnnLstm:
    made = build(DetectorConfig.model_validate({"name": "cnn-lstm", "dropout": 0.0, **settings}), dim)
    assert isinstance(made, CnnLstm)
    made.load_weights(initial_weights(made.manifest(), 0))
    return made


@pytest.mark.parametrize("window", [24, 25, 96])
def test_it_has_the_published_number_of_parameters(window: int) -> None:
    made = build(DetectorConfig(name="cnn-lstm", window=window), 43)
    assert sum(parameter.numel() for parameter in made.parameters()) == 82_859
    assert sum(spec.size for spec in made.manifest()) == 82_859


def test_the_number_is_that_of_the_layers_as_keras_counts_them() -> None:
    """Conv1D: (3 in + 1) out. LSTM: 4 (in + units + 1) units. The 32 units in the middle are the latent."""

    def conv(inputs: int, outputs: int) -> int:
        return (3 * inputs + 1) * outputs

    def lstm(inputs: int, units: int) -> int:
        return 4 * (inputs + units + 1) * units

    assert conv(43, 32) + lstm(32, 64) + lstm(64, 32) + lstm(32, 32) + lstm(32, 64) + conv(64, 43) == 82_859
    assert make(43, window=24).encode(torch.zeros(1, 24, 43)).shape == (1, 32)


def test_only_this_detector_has_a_latent_of_its_own_size_and_a_setting_goes_before_it() -> None:
    assert DetectorConfig(name="cnn-lstm").latent == 32
    assert {DetectorConfig(name=name).latent for name in ("hac-uml", "vae", "multiscale")} == {16}
    assert DetectorConfig(name="cnn-lstm", latent=5).latent == 5


def test_a_layer_is_pytorchs_with_one_of_its_two_biases() -> None:
    made, states_NTC = make(hidden=8, latent=4), torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    own = made.encoder[0]
    assert isinstance(own, nn.LSTM)
    usual = nn.LSTM(4, 8, batch_first=True)
    with torch.no_grad():
        usual.weight_ih_l0.copy_(own.weight_ih_l0[:, :-1])
        usual.bias_ih_l0.copy_(own.weight_ih_l0[:, -1])
        usual.weight_hh_l0.copy_(own.weight_hh_l0)
        usual.bias_hh_l0.zero_()
        found, _ = own(functional.pad(states_NTC, (0, 1), value=1.0))
        torch.testing.assert_close(found, usual(states_NTC)[0])


def by_hand(made: CnnLstm, window_WD: Tensor) -> Tensor:
    """The larger of each two steps after the convolution, one after the other."""
    features_CW = made.convolve(window_WD.T[None])[0].relu()
    return torch.stack([features_CW[:, at : at + 2].amax(dim=1) for at in range(0, features_CW.shape[1], 2)])


@pytest.mark.parametrize(("window", "steps"), [(2, 1), (3, 2), (24, 12), (25, 13)])
def test_even_and_odd_windows_are_pooled_and_come_back_whole(window: int, steps: int) -> None:
    made, x = make(window=window, hidden=8, latent=4), torch.randn(2, window, 3)
    assert made.steps == steps
    with torch.no_grad():
        states_TC = by_hand(made, x[0])
        assert len(states_TC) == steps
        states = made._through(made.encoder, states_TC[None], None)
        torch.testing.assert_close(made.encode(x)[0], states[0, -1])
        assert made(x)[0].shape == x.shape


@pytest.mark.parametrize("bottleneck", ["tanh", "linear"])
def test_latents_are_within_one_whatever_comes_in(bottleneck: str) -> None:
    made = make(bottleneck=bottleneck, window=8)
    with torch.no_grad():
        for value in made.parameters():
            value.mul_(50)
        latents_NZ = made.encode(1e4 * torch.randn(20, 8, 3))
    assert latents_NZ.abs().max() <= 1
    assert latents_NZ.abs().max() > 0.9


@pytest.mark.parametrize(("layers", "units"), [(1, [4]), (2, [8, 4]), (3, [8, 8, 4])])
def test_the_last_layer_is_the_latent_and_the_decoder_mirrors(layers: int, units: list[int]) -> None:
    made = make(layers=layers, hidden=8, latent=4)
    assert [layer.hidden_size for layer in made.encoder] == units
    assert [layer.hidden_size for layer in made.decoder] == units[::-1]
    assert made.output.in_channels == units[0]


def test_its_graph_has_the_biases_where_onnx_has_them() -> None:
    import onnx
    from onnx import numpy_helper

    made = make(hidden=8, latent=4, window=6)
    constants = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(made.graph()).graph.initializer}
    biases = constants["encoder.0.bias"][0]
    own = made.weights()["encoder.0.weight_ih_l0"][:, -1]
    assert sorted(biases[:32].tolist()) == sorted(own.tolist())
    assert not np.any(biases[32:])
    assert constants["encoder.0.weight_ih"].shape == (1, 32, 4)
