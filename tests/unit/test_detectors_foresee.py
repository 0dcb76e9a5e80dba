"""foresee: every row comes of the rows before it only, and what the latent is made to tell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from shared.config import DetectorConfig
from shared.detectors import build
from shared.detectors.foresee import Foresee
from shared.model import initial_weights

WINDOW, DIM = 8, 3


def make(dim: int = DIM, **settings: object) -> Foresee:
    given = {"name": "foresee", "window": WINDOW, "hidden": 8, "latent": 4, "dropout": 0.0, **settings}
    made = build(DetectorConfig.model_validate(given), dim)
    assert isinstance(made, Foresee)
    made.load_weights(initial_weights(made.manifest(), 0))
    return made


def windows(count: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, WINDOW, DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("row", range(1, WINDOW))
def test_a_row_and_those_after_it_change_nothing_that_was_foreseen_up_to_it(layers: int, row: int) -> None:
    made, x = make(layers=layers), windows()
    other = x.clone()
    other[:, row:] += 10
    with torch.no_grad():
        found, again = made(x)[0], made(other)[0]
    assert torch.equal(found[:, : row + 1], again[:, : row + 1])
    if row + 1 < WINDOW:
        assert not torch.isclose(found[:, row + 1], again[:, row + 1]).any(), "the next row must see it"


def test_a_row_is_the_forecast_of_a_gru_that_read_the_rows_before_it() -> None:
    made, x = make(), windows()
    cell = nn.GRUCell(DIM, 8)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in made.reader[0].state_dict().items()})
    with torch.no_grad():
        found, state = made(x)[0], torch.zeros(len(x), 8)
        for row in range(1, WINDOW):
            state = cell(x[:, row - 1], state)
            torch.testing.assert_close(found[:, row], made.output(state))


def test_the_first_row_is_given_and_the_error_is_a_fixed_share_of_that_of_the_foreseen_rows() -> None:
    made, x = make(), windows()
    with torch.no_grad():
        found = made(x)[0]
        loss = made.loss(x, None)
    assert torch.equal(found[:, 0], x[:, 0])
    foreseen = (found - x)[:, 1:].square().mean()
    torch.testing.assert_close(loss.reconstruction, foreseen * (WINDOW - 1) / WINDOW)
    tail_N = torch.from_numpy(made.score(x, tail=3).error_N)
    torch.testing.assert_close(tail_N, (found - x)[:, -3:].square().mean(dim=(1, 2)))


def test_the_loss_has_a_tenth_of_what_the_latent_misses_of_the_windows_mean() -> None:
    made, x = make(), windows()
    with torch.no_grad():
        loss, means_ND = made.loss(x, None), made.decode(made.encode(x))[:, 0]
        torch.testing.assert_close(loss.prior, 0.1 * (means_ND - x.mean(dim=1)).square().mean())
        torch.testing.assert_close(loss.total, loss.reconstruction + loss.prior)
        torch.testing.assert_close(made.losses(x, None).mean(), loss.total)


def test_the_forecast_does_not_pass_the_latent_and_trains_nothing_of_it() -> None:
    made, x = make(), windows()
    torch.autograd.backward(made.loss(x, None).reconstruction)
    assert {name for name, value in made.named_parameters() if value.grad is None} == {
        "bottleneck.weight", "bottleneck.bias", "mean.weight", "mean.bias",
    }  # fmt: skip
    before = made(x)[0].detach().clone()
    with torch.no_grad():
        made.bottleneck.weight.add_(1)
        assert torch.equal(made(x)[0], before)


@pytest.mark.parametrize(("bottleneck", "bounded"), [("tanh", True), ("linear", False)])
def test_latents_are_within_one_unless_the_bottleneck_is_linear(bottleneck: str, bounded: bool) -> None:
    made = make(bottleneck=bottleneck)
    with torch.no_grad():
        made.bottleneck.weight.mul_(100)
        largest = made.encode(100 * windows()).abs().max()
    assert bool(largest <= 1) is bounded
    assert made.latent_box == (1.0 if bounded else float("inf"))


def test_the_latent_sees_the_newest_row() -> None:
    made, x = make(), windows()
    other = x.clone()
    other[:, -1] += 1
    assert not torch.isclose(made.encode(x), made.encode(other)).any()


def test_one_layer_drops_nothing_on_the_way_to_the_forecast() -> None:
    made, x = make(dropout=0.5), windows()
    draws = [made.passed(x, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert torch.equal(draws[0].windows_NWD, draws[1].windows_NWD)
    assert not torch.equal(draws[0].latents_NZ, draws[1].latents_NZ)
    deeper = [make(dropout=0.5, layers=2).passed(x, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert not torch.equal(deeper[0].windows_NWD, deeper[1].windows_NWD)


def test_it_has_one_layer_unless_it_is_told_otherwise() -> None:
    assert DetectorConfig(name="foresee").layers == 1
    assert {DetectorConfig(name=name).layers for name in ("hac-uml", "vae", "cnn-lstm")} == {2}
    assert DetectorConfig(name="foresee", layers=3).layers == 3


# ---- what training makes of it ---------------------------------------------------------------------------------------


def trained(made: Foresee, x: Tensor, steps: int) -> Foresee:
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(made.loss(x, None, torch.Generator()).total)
        optimizer.step()
    return made


def test_it_learns_what_follows() -> None:
    """Waves of one period and any phase: two rows tell the next."""
    phase_N1 = torch.rand(32, 1, generator=torch.Generator().manual_seed(0)) * 6.3
    x = torch.sin(phase_N1 + torch.arange(WINDOW) * 0.8)[:, :, None]
    made = trained(make(dim=1), x, 100)
    with torch.no_grad():
        assert (made(x)[0] - x)[:, 2:].square().mean() < 0.05 * x.var()


def test_training_gives_the_same_weights_again() -> None:
    made, again = (trained(make(dropout=0.2), windows(), 5) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(made.parameters(), again.parameters(), strict=True))


def test_latents_tell_apart_where_the_plant_runs() -> None:
    """Two modes of one plant, with the same noise about them."""
    level_N = torch.arange(64).fmod(2) * 2 - 1
    x = windows(64) + level_N[:, None, None]
    latents_NZ = trained(make(), x, 60).encode(x).detach()
    low, high = latents_NZ[level_N < 0], latents_NZ[level_N > 0]
    apart = (low.mean(dim=0) - high.mean(dim=0)).norm()
    assert apart > 2 * (low.std(dim=0).norm() + high.std(dim=0).norm()) / 2
