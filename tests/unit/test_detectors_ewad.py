"""ewad: the gradient penalty, whose loss moves which network, the score, members apart, and digits."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from client.training.infer import reconstruction_loss
from client.training.loop import gradient_of, gradient_step, train_epochs
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import DetectorConfig, TrainingConfig
from shared.detectors import Ewad, build
from shared.detectors.adapter import Adapted
from shared.detectors.ewad_member import Member, slope_penalties
from shared.errors import InvalidConfig
from shared.model import initial_weights
from tests.support.records import target

WINDOW, DIM, X = 4, 3, 12


def make(members: int = 2, seed: int = 0, window: int = WINDOW, dim: int = DIM, **fields: object) -> Ewad:
    given = {"name": "ewad", "window": window, "hidden": 8, "latent": 3, "members": members, **fields}
    made = build(DetectorConfig.model_validate(given), dim)
    assert isinstance(made, Ewad)
    made.load_weights(initial_weights(made.manifest(), seed))
    return made


def windows(count: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(count, WINDOW, DIM, generator=torch.Generator().manual_seed(seed))


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- the penalty -----------------------------------------------------------------------------------------------------


def test_the_penalty_of_a_linear_critic_is_that_of_its_slope() -> None:
    slope_X = torch.tensor([3.0, 0.0, -4.0])
    penalty_N = slope_penalties(lambda x: x @ slope_X, torch.randn(6, 3), torch.randn(6, 3), torch.rand(6, 1))
    torch.testing.assert_close(penalty_N, torch.full((6,), (5.0 - 1.0) ** 2))


def test_the_penalty_is_the_formula_on_a_small_critic() -> None:
    """C(x) = v tanh(A x): grad C = A' (v (1 - tanh^2(A x))), written out, at u x + (1 - u) x_made."""
    draws = noise()
    weight_HX, verdict_H = torch.randn(5, 3, generator=draws), torch.randn(5, generator=draws)
    real, made, share = (torch.randn(7, 3, generator=draws), torch.randn(7, 3, generator=draws), torch.rand(7, 1))
    found_N = slope_penalties(lambda x: torch.tanh(x @ weight_HX.T) @ verdict_H, real, made, share)
    between = share * real + (1 - share) * made
    slope_NX = (verdict_H * (1 - torch.tanh(between @ weight_HX.T) ** 2)) @ weight_HX
    torch.testing.assert_close(found_N, (slope_NX.norm(dim=1) - 1) ** 2)


def test_the_penalty_draws_the_slope_to_one() -> None:
    critic = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        critic.weight.fill_(4.0)
    optimizer, draws = torch.optim.Adam(critic.parameters(), lr=0.05), noise()
    for _ in range(300):
        real, made = torch.randn(16, 3, generator=draws), torch.randn(16, 3, generator=draws)
        optimizer.zero_grad()
        slope_penalties(lambda x: critic(x)[:, 0], real, made, torch.rand(16, 1, generator=draws)).mean().backward()
        optimizer.step()
    assert critic.weight.norm().item() == pytest.approx(1.0, abs=0.02)


# ---- whose loss moves which network ----------------------------------------------------------------------------------


def moved(member: Member) -> set[str]:
    """The networks that a gradient has reached."""
    return {name.split(".")[0] for name, p in member.named_parameters() if p.grad is not None and p.grad.abs().max()}


def test_the_critic_s_loss_moves_the_critic_alone() -> None:
    member = make(1).members[0]
    member.critic_losses(windows().flatten(1), noise()).mean().backward()
    assert moved(member) == {"critic", "verdict"}


def test_to_rebuild_and_to_fool_does_not_move_the_critic() -> None:
    """What reaches the critic from all losses together is what reaches it from its own."""
    made = make(1)
    member, x = made.members[0], windows().flatten(1)
    both = {name: p.grad.clone() for name, p in with_gradient(member, member.losses(x, noise()).mean())}
    draws = noise()
    made_NX = member.generate(member.drawn(len(x), draws, x)).detach()
    share_N1 = torch.empty(len(x), 1).uniform_(generator=draws)
    alone = {name: p.grad.clone() for name, p in with_gradient(member, member._judged(x, made_NX, share_N1).mean())}
    assert set(both) > set(alone)
    for name, gradient in alone.items():
        torch.testing.assert_close(both[name], gradient, msg=name)


def with_gradient(member: Member, loss: Tensor) -> list[tuple[str, nn.Parameter]]:
    member.zero_grad(set_to_none=True)
    loss.backward()
    return [(name, p) for name, p in member.named_parameters() if p.grad is not None]


def test_four_steps_of_the_own_critics_come_before_the_step() -> None:
    made, x = make(2), windows(16)
    made.assign(1, 2)
    before, optimizer = made.weights(), torch.optim.SGD(made.parameters(), lr=0.01)
    steps: list[int] = []
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    made.before_step(lambda: x, optimizer, noise())
    changed = {name for name, value in made.weights().items() if not np.array_equal(value, before[name])}
    assert len(steps) == 4
    assert changed == {name for name in before if name.startswith(("members.1.critic", "members.1.verdict"))}


# ---- members apart ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_step", [False, True])
def test_training_leaves_the_other_plants_members_bit_for_bit(one_step: bool) -> None:
    made, rows = make(3, latent=4), windows(40).reshape(-1, DIM).numpy()
    made.assign(1, 3)
    part = TensorWindows(Part(rows, np.arange(40) * WINDOW), WINDOW, torch.device("cpu"))
    before = made.weights()
    if one_step:
        gradient_step(made, part, target(), noise())
        assert all(not value.any() for name, value in gradient_of(made).items() if not name.startswith("members.1."))
    else:
        train_epochs(made, part, target(), TrainingConfig(local_epochs=2, batch_size=16), noise())
    changed = {name for name, value in made.weights().items() if not np.array_equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("members.1.")}


def test_unassigned_every_member_is_trained() -> None:
    made = make(3)
    made.assign(0, 1)
    made.loss(windows(), None, noise()).total.backward()
    assert all(p.grad is not None for p in made.parameters())


# ---- the score -------------------------------------------------------------------------------------------------------


def test_one_member_s_score_is_nine_tenths_error_and_one_tenth_what_its_critic_sees() -> None:
    made, x = make(1), windows()
    member, flat = made.members[0], x.flatten(1)
    with torch.no_grad():
        rebuilt = member.generate(member.encode(flat))
        sights = [member.features(one) for one in (flat, rebuilt)]
        off = torch.stack(
            [(one - one.mean(1, keepdim=True)) / one.std(1, correction=0, keepdim=True) for one in sights]
        )
        due = 0.9 * (flat - rebuilt).square().mean(1) + 0.1 * (off[0] - off[1]).square().mean(1)
    np.testing.assert_allclose(made.score(x).error_N, due.numpy(), rtol=1e-3)


def test_members_count_by_the_inverse_square_of_their_scores() -> None:
    made, x = make(2), windows()
    with torch.no_grad():
        rebuilt_NEX, strange_NE = made._rebuilt(x.flatten(1))
        total_N = (1 / strange_NE).sum(1) / (1 / strange_NE**2).sum(1)
        counts_NE = strange_NE**-2 / (strange_NE**-2).sum(1, keepdim=True)
        off_ND = (x.flatten(1) - (counts_NE[:, :, None] * rebuilt_NEX).sum(1)).view_as(x).square().mean(1)
    scores = made.score(x)
    np.testing.assert_allclose(scores.error_N, total_N.numpy(), rtol=1e-4)
    shares = scores.contribution_ND / scores.contribution_ND.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, (off_ND / off_ND.sum(1, keepdim=True)).numpy(), rtol=1e-4)


def test_held_out_losses_are_of_the_reconstruction_without_the_critics() -> None:
    made, x = make(2), windows(9)
    part = TensorWindows(Part(x.reshape(-1, DIM).numpy(), np.arange(9) * WINDOW), WINDOW, torch.device("cpu"))
    before = reconstruction_loss(made, part)
    with torch.no_grad():
        for member in made.members:
            for p in member.critic.parameters():
                p.mul_(torch.linspace(0.2, 5.0, p.numel()).view_as(p))
    assert reconstruction_loss(make(2), part) == before
    assert reconstruction_loss(made, part) == pytest.approx(before, rel=0.05)  # counts move a little with the critics
    with torch.no_grad():
        rebuilt_NEX, strange_NE = made._rebuilt(x.flatten(1))
        counts_NE = strange_NE**-2 / (strange_NE**-2).sum(1, keepdim=True)
        due = ((counts_NE[:, :, None] * rebuilt_NEX).sum(1) - x.flatten(1)).square().mean()
    assert reconstruction_loss(made, part) == pytest.approx(float(due), rel=1e-4)


def test_no_trunk_can_have_a_score_of_its_own() -> None:
    """Between two linear maps, what is given out as the reconstruction would be stretched in the wrong units."""
    with pytest.raises(InvalidConfig, match="'ewad' has a loss or a score of its own"):
        Adapted(DetectorConfig(name="ewad"), ("LIT101", "P101"), 4)


def test_a_window_too_long_for_a_machine_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="weights"):
        make(window=10_000, dim=1000, hidden=512)


# ---- digits that ship with scikit-learn: an image is a window of 8 rows of 8 -----------------------------------------


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return (images / 8 - 1).astype(np.float32).reshape(-1, 8, 8), labels


def train(made: Ewad, images: np.ndarray, epochs: int) -> None:
    part = Part(images.reshape(-1, 8), np.arange(len(images)) * 8)
    config = TrainingConfig(local_epochs=epochs, batch_size=32)
    train_epochs(made, TensorWindows(part, 8, torch.device("cpu")), None, config, noise())


def test_one_digit_is_normal_and_the_others_are_found() -> None:
    images, labels = digits()
    own = np.flatnonzero(labels == 3)
    made = make(1, window=8, dim=8, hidden=64, latent=16)
    train(made, images[own[:120]], epochs=30)
    tested = np.concatenate([own[120:], np.flatnonzero(labels != 3)])
    score_N = made.score(torch.from_numpy(images[tested])).error_N
    assert roc_auc_score(labels[tested] != 3, score_N) > 0.88


def test_each_plant_s_digit_is_explained_by_its_own_member() -> None:
    """Two plants, a digit each: what is normal at either is normal to the ensemble, and who says so is its member."""
    images, labels = digits()
    made = make(2, window=8, dim=8, hidden=64, latent=16)
    for place, digit in enumerate((0, 1)):
        made.assign(place, 2)
        train(made, images[labels == digit][:120], epochs=20)
    held = {digit: torch.from_numpy(images[labels == digit][120:]) for digit in range(10)}
    for place in (0, 1):
        with torch.no_grad():
            _, strange_NE = made._rebuilt(held[place].flatten(1))
        assert (strange_NE.argmin(1) == place).float().mean() > 0.9
    normal, strange = ([made.score(held[d]).error_N for d in some] for some in ((0, 1), range(2, 10)))
    scores = np.concatenate([*normal, *strange])
    flags = np.repeat([False, True], [sum(map(len, normal)), sum(map(len, strange))])
    assert roc_auc_score(flags, scores) > 0.8
