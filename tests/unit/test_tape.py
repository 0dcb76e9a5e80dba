"""What layers write on the tape, the norms that come of it, and the detectors that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.training import ghost
from client.training.ghost import GhostGradients
from client.training.tape import Factor, Product, taped
from shared.errors import PrivacyUnmet


class Mixed(nn.Module):
    """Every known layer, some without a bias, over windows (N, 9, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv1d(2, 4, 3, padding=2, dilation=2)
        self.short = nn.Conv1d(4, 3, 2, stride=2, bias=False)
        self.both = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.one = nn.LSTM(8, 3, batch_first=True)
        self.gated, self.gated_too = nn.GRU(3, 4, batch_first=True), nn.GRU(4, 3, batch_first=True)
        self.last = nn.Linear(3, 5)
        self.flat = nn.Linear(8, 2, bias=False)

    def forward(self, windows_NWD: Tensor) -> Tensor:
        convolved = self.short(self.wide(windows_NWD.transpose(1, 2)).relu()).transpose(1, 2)
        states, (ends, _) = self.both(convolved)
        decoded, _ = self.one(states)
        gated, _ = self.gated_too(self.gated(decoded)[0])
        decoded = torch.cat([decoded, gated], 1)
        values: Tensor = self.last(decoded).square().mean((1, 2)) + self.flat(torch.cat(list(ends), 1)).square().sum(1)
        return values


def gradients(layer: nn.Module, windows: Tensor) -> dict[str, Tensor]:
    layer.zero_grad()
    torch.autograd.backward(layer(windows).sum())
    return {name: parameter.grad.clone() for name, parameter in layer.named_parameters() if parameter.grad is not None}


def test_every_known_layer_gives_the_gradient_of_autograd_and_each_windows_norm() -> None:
    torch.manual_seed(0)
    layer, windows = Mixed(), torch.randn(6, 9, 2)
    whole = gradients(layer, windows)
    each = [gradients(layer, windows[n : n + 1]) for n in range(6)]
    with taped(layer) as tape:
        values_N = layer(windows)
        torch.autograd.backward(values_N.sum())
    torch.testing.assert_close(values_N, layer(windows))
    found = GhostGradients(torch.zeros(6), tape.products)
    squares = torch.tensor([sum(float(value.square().sum()) for value in gradient.values()) for gradient in each])
    torch.testing.assert_close(found.square_norms(), squares, rtol=3e-6, atol=0)
    sums = found.weighted_sum(torch.ones(6))
    assert set(sums) == set(whole)
    for name, value in whole.items():
        torch.testing.assert_close(sums[name], value, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("records", [1, 2, 4])
def test_norms_by_pairs_and_as_it_stands_agree(records: int) -> None:
    torch.manual_seed(0)
    factors = (
        Factor({"w": torch.Size([6, 5])}, torch.randn(3, 4, 5)),
        Factor({"a": torch.Size([6]), "b": torch.Size([6])}, None),
    )
    product = Product(torch.randn(3, 4, 6), factors)
    squares, gross = ghost._by_pairs(product, records, {})
    torch.testing.assert_close(squares, ghost._as_it_stands(product, records), rtol=1e-5, atol=1e-5)
    assert (gross >= squares * (1 - 1e-5)).all()


@pytest.mark.parametrize(("windows", "by_pairs"), [(2, True), (64, False)])
def test_the_cheaper_way_to_a_norm_is_taken(windows: int, by_pairs: bool) -> None:
    """A record of 60 rows and one of 1,920, an LSTM layer of 64 units: a square of its rows, or its gradient."""
    factors = (
        Factor({"i": torch.Size([256, 128])}, torch.zeros(30, windows, 128)),
        Factor({"h": torch.Size([256, 64])}, torch.zeros(30, windows, 64)),
    )
    assert ghost._pairs_are_fewer(Product(torch.zeros(30, windows, 256), factors), 1) is by_pairs


def test_a_gradient_whose_rows_cancel_is_not_taken_for_a_smaller_one() -> None:
    """Pairs of rows tell such a norm to a rounding of what cancels, squared: here it is halved or below 0."""
    small = 0
    for seed in range(8):
        torch.manual_seed(seed)
        half, row = torch.randn(1, 1, 400), torch.randn(1, 1, 400)
        deltas, rows = torch.cat([half, -half * (1 + 2e-4)], 1), torch.cat([row, row], 1)
        found = GhostGradients(torch.zeros(1), [Product(deltas, (Factor({"w": torch.Size([400, 400])}, rows),))])
        exact = float((deltas.double()[0].T @ rows.double()[0]).square().sum())
        small += 0 <= float(ghost._by_pairs(found.products[0], 1, {})[0]) < exact / 2
        assert float(found.square_norms()) == pytest.approx(exact, rel=1e-2)
    assert small


def test_what_rounding_leaves_of_a_gradient_that_cancels_is_no_gradient() -> None:
    """Exactly nothing would be left; grains of float32 are, others in a norm than in a sum."""
    torch.manual_seed(0)
    half, row, order = 1e6 * torch.randn(2_000, 1, 8), torch.randn(2_000, 1, 8), torch.randperm(4_000)
    deltas, rows = torch.cat([half, -half])[order], torch.cat([row, row])[order]
    found = GhostGradients(torch.zeros(1), [Product(deltas, (Factor({"w": torch.Size([8, 8])}, rows),))])
    assert float(torch.linalg.vector_norm(found.weighted_sum(torch.ones(1))["w"])) > 10
    weight = 1.0 / found.square_norms().sqrt().clamp(min=1.0)
    assert float(torch.linalg.vector_norm(found.weighted_sum(weight)["w"])) < 0.01


def test_a_record_that_cancels_leaves_the_norms_of_others_as_they_were() -> None:
    torch.manual_seed(0)
    half, row = torch.randn(1, 1, 400), torch.randn(1, 1, 400)
    honest, other = torch.randn(2, 15, 400), torch.randn(2, 15, 400)

    def norms(deltas: Tensor) -> Tensor:
        rows = torch.cat([torch.cat([row, row]), other], 1)
        product = Product(torch.cat([deltas, honest], 1), (Factor({"w": torch.Size([400, 400])}, rows),))
        return GhostGradients(torch.zeros(16), [product]).square_norms()

    assert norms(torch.cat([half, -half]))[1:].tolist() == norms(torch.cat([half, half]))[1:].tolist()


def test_two_layers_that_get_the_same_gradient_do_not_share_its_memory() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 3), nn.Linear(2, 3)

        def forward(self, rows: Tensor) -> Tensor:
            values: Tensor = (self.a(rows) + self.b(rows)).sum(1)
            return values

    layer, rows = Sum(), torch.randn(2, 2)
    with taped(layer) as tape:
        torch.autograd.backward(layer(rows).sum())
    sums = GhostGradients(torch.zeros(2), tape.products).weighted_sum(torch.tensor([0.5, 0.25]))
    for name in ("a", "b"):
        torch.testing.assert_close(sums[f"{name}.bias"], torch.full((3,), 0.75))


# ---- what is refused -------------------------------------------------------------------------------------------------


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(3),
        nn.GRU(3, 3),
        nn.MultiheadAttention(4, 2),
        nn.BatchNorm1d(3),
        nn.BatchNorm1d(3, affine=False),
        nn.Conv2d(1, 1, 3),
        nn.Conv1d(4, 4, 3, groups=2),
        nn.Conv1d(4, 4, 3, padding_mode="circular"),
        nn.LSTM(3, 3, 2, batch_first=True),
        nn.LSTM(3, 3),
        nn.LSTM(3, 4, proj_size=2, batch_first=True),
        nn.GRU(3, 3, 2, batch_first=True),
        nn.GRU(3, 3, bidirectional=True, batch_first=True),
        nn.GRU(3, 3, bias=False, batch_first=True),
    ],
)
def test_a_layer_that_is_not_known_is_refused_by_name(layer: nn.Module) -> None:
    with pytest.raises(PrivacyUnmet, match="inner"), taped(Around(layer)):
        pass


def test_a_bare_parameter_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centre = nn.Parameter(torch.zeros(3))

    with pytest.raises(PrivacyUnmet, match="the detector \\(Bare\\)"), taped(Bare()):
        pass


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)


def test_weights_that_layers_share_are_refused() -> None:
    pair = Pair()
    pair.second.weight = pair.first.weight
    with pytest.raises(PrivacyUnmet, match=r"second\.weight is first\.weight"), taped(pair):
        pass


def test_a_layer_that_is_used_twice_is_refused() -> None:
    pair = Pair()
    with pytest.raises(PrivacyUnmet, match="first is used 2 times"), taped(pair):
        torch.autograd.backward(pair.first(pair.first(torch.ones(1, 2))).sum())


def test_weights_used_outside_their_layer_are_refused() -> None:
    pair = Pair()
    with pytest.raises(PrivacyUnmet, match=r"first\.weight is used outside its layer"), taped(pair):
        torch.autograd.backward((pair.first(torch.ones(1, 2)) @ pair.first.weight).sum())


def test_the_cells_of_an_lstm_are_given_to_nobody() -> None:
    """A gradient through them would be lost without a word."""
    layer = Around(nn.LSTM(2, 2, batch_first=True))
    with taped(layer):
        _, (_, cells) = layer.inner(torch.ones(1, 2, 2))
        assert cells is None


def changed_after_use(pair: Pair) -> None:
    hidden = pair.first(torch.ones(1, 2)).tanh()
    values = pair.second(hidden)
    hidden.mul_(2)
    torch.autograd.backward(values.sum())


def test_a_row_changed_in_place_is_noticed() -> None:
    pair = Pair()
    with pytest.raises(RuntimeError, match="inplace"), taped(pair):
        changed_after_use(pair)


def test_layers_are_themselves_again_after_an_error() -> None:
    pair = Pair()
    with pytest.raises(ZeroDivisionError), taped(pair):
        raise ZeroDivisionError
    assert "forward" not in pair.first.__dict__
    assert np.isfinite(float(pair.first(torch.ones(1, 2)).detach().sum()))
