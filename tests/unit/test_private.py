"""Clipping is exact, whoever does it; what is sampled, noised and told follows the formulas."""

from __future__ import annotations

import threading
from typing import Literal

import numpy as np
import pytest
import torch

from client.training import private
from client.training.infer import encode_all
from client.training.private import Records, clipped_sum, private_exchange
from shared.config import PrivacyConfig
from shared.detectors import ClusterTarget
from shared.privacy.mechanisms import Randomness
from tests.support.records import (
    apart,
    by_autograd,
    clipped,
    detector,
    noisy,
    norm,
    records,
    target,
)

COUNTS = {1: [1] * 7, 2: [2, 1, 2, 2, 0, 1, 2], 5: [5, 3, 5, 1]}
TARGETS = [None, target()]


def everyone(found: Records) -> np.ndarray:
    return np.arange(len(found))


def middle_clip(gradients: list[dict[str, np.ndarray]]) -> float:
    """Between the norms, so that some are clipped and some are not."""
    return float(np.median([norm(gradient) for gradient in gradients if norm(gradient)]))


# ---- the clipped sum -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clusters", TARGETS, ids=["plain", "clusters"])
@pytest.mark.parametrize("dim", [8, 51])
@pytest.mark.parametrize("per_record", [1, 2, 5])
def test_both_engines_give_what_one_backward_a_record_gives(
    per_record: int, dim: int, clusters: ClusterTarget | None
) -> None:
    made, found = detector(dim), records(noisy(COUNTS[per_record], dim), per_record)
    gradients = by_autograd(made, found, clusters)
    clip = middle_clip(gradients)
    expected, norms = clipped(gradients, clip), np.array([norm(gradient) for gradient in gradients])
    assert 0 < (norms > clip).sum() < len(norms)
    ghost = clipped_sum(made, found, everyone(found), clusters, clip)
    opacus = clipped_sum(made, found, everyone(found), clusters, clip, "opacus")
    for exact in (ghost, opacus):
        assert apart(exact.sums, expected) <= 1e-5 * norm(expected)
        np.testing.assert_allclose(np.nan_to_num(exact.norms_B), norms, rtol=2e-6)
    assert apart(ghost.sums, opacus.sums) <= 1e-6 * norm(expected)
    np.testing.assert_allclose(ghost.losses_B, opacus.losses_B, rtol=1e-5)


def test_the_default_network_is_clipped_as_opacus_clips_it() -> None:
    made = detector(51, window=30, hidden=64, latent=16)
    found = records(noisy([2, 2, 1, 2], 51, window=30), 2, window=30)
    clip = float(np.nanmedian(clipped_sum(made, found, everyone(found), target(16), 1.0).norms_B))
    ghost = clipped_sum(made, found, everyone(found), target(16), clip)
    opacus = clipped_sum(made, found, everyone(found), target(16), clip, "opacus")
    assert apart(ghost.sums, opacus.sums) <= 1e-6 * norm(opacus.sums)
    assert 0 < (opacus.norms_B > clip).sum() < 4


def test_a_loss_is_the_share_of_its_windows() -> None:
    made, found = detector(), records(noisy([2, 1]), 2)
    losses = [float(made.loss(found.windows.batch(torch.tensor([i])), target()).total.detach()) for i in range(3)]
    exact = clipped_sum(made, found, everyone(found), target(), 1.0)
    np.testing.assert_allclose(exact.losses_B, [(losses[0] + losses[1]) / 2, losses[2] / 2], rtol=1e-5)


def test_the_sum_is_that_of_the_chosen_records() -> None:
    made, found = detector(), records(noisy([2, 1, 2, 2]), 2)
    gradients = by_autograd(made, found, None)
    exact = clipped_sum(made, found, np.array([1, 3]), None, 0.05)
    assert apart(exact.sums, clipped([gradients[1], gradients[3]], 0.05)) <= 1e-6
    assert exact.norms_B == pytest.approx([norm(gradients[1]), norm(gradients[3])], rel=1e-5)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "_CHUNK", 4)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("engine", ["ghost", "opacus"])
def test_records_longer_than_a_chunk_and_many_chunks_change_nothing(engine: Literal["ghost", "opacus"]) -> None:
    made, found = detector(), records(noisy([2, 9, 2, 2, 13, 2, 1, 2]), 13)
    gradients = by_autograd(made, found, target())
    clip = middle_clip(gradients)
    exact = clipped_sum(made, found, everyone(found), target(), clip, engine)
    assert apart(exact.sums, clipped(gradients, clip)) <= 1e-5 * clip * 8
    np.testing.assert_allclose(exact.norms_B, [norm(gradient) for gradient in gradients], rtol=3e-6)


def test_no_record_changes_anothers_gradient_not_even_in_its_last_bit() -> None:
    """In a batch of another size products round otherwise. Weights of this size blow that up, so a server could make
    one record change the gradients of all.
    """
    made = detector(8, window=30, hidden=32, layers=2)
    made.load_weights({name: 20 * value for name, value in made.weights().items()})
    found = records(noisy([2, 2, 1, 2, 2, 1, 2] * 2, 8, window=30), 2, window=30)
    whole = clipped_sum(made, found, everyone(found), target(), 1.0)
    for chosen in (np.array([3]), np.array([0, 2, 3, 9]), np.delete(everyone(found), 4)):
        part = clipped_sum(made, found, chosen, target(), 1.0)
        np.testing.assert_array_equal(part.norms_B, whole.norms_B[chosen])
        np.testing.assert_array_equal(part.losses_B, whole.losses_B[chosen])


def test_latents_do_not_depend_on_how_many_windows_there_are() -> None:
    made = detector(8, window=30, hidden=32, layers=2)
    made.load_weights({name: 20 * value for name, value in made.weights().items()})
    rows = noisy([1] * 9, 8, window=30)
    latents = encode_all(made, records(rows, 1, window=30).windows, alone=True)
    for count in range(1, 9):
        part = encode_all(made, records(rows[:count], 1, window=30).windows, alone=True)
        np.testing.assert_array_equal(part, latents[:count])


def test_the_detector_is_left_as_it_was() -> None:
    made, found = detector(), records(noisy([2, 2]), 2)
    torch.autograd.backward(made.loss(found.windows.batch(torch.arange(2)), None).total)
    before = {name: (p.detach().clone(), p.grad.clone()) for name, p in made.named_parameters() if p.grad is not None}
    random, training = torch.random.get_rng_state(), made.training
    for engine in ("ghost", "opacus"):
        clipped_sum(made, found, everyone(found), target(), 0.1, engine)
    assert len(before) == len(dict(made.named_parameters()))
    for name, parameter in made.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, before[name][1])
    assert torch.equal(torch.random.get_rng_state(), random)
    assert made.training == training
    assert not any("forward" in module.__dict__ for module in made.modules())


def test_threads_with_a_detector_each_do_not_meet() -> None:
    found = [records(noisy([2, 1, 2], seed=seed), 2) for seed in range(4)]
    alone = [clipped_sum(detector(seed=n), part, everyone(part), None, 0.1) for n, part in enumerate(found)]
    together: dict[int, private.ClippedSum] = {}

    def work(number: int) -> None:
        made = detector(seed=number)
        for _ in range(5):
            together[number] = clipped_sum(made, found[number], everyone(found[number]), None, 0.1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, exact in enumerate(alone):
        assert apart(together[number].sums, exact.sums) == 0.0


# ---- records that are not finite -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["ghost", "opacus"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_record_that_is_not_finite_contributes_nothing(bad: float, engine: str) -> None:
    made, pieces = detector(), noisy([2, 2, 2, 1])
    good = records(pieces, 2)
    spoilt = [*pieces[:2], pieces[0].copy(), *pieces[2:]]
    spoilt[2][3, 1] = bad
    found = records(spoilt, 2)
    exact = clipped_sum(made, found, everyone(found), target(), 0.1, engine)  # type: ignore[arg-type]
    without = clipped_sum(made, good, everyone(good), target(), 0.1, engine)  # type: ignore[arg-type]
    assert apart(exact.sums, without.sums) <= 1e-7
    assert np.isnan(exact.norms_B).tolist() == [False, False, True, False, False]
    assert exact.losses_B[2] == 0.0


@pytest.mark.usefixtures("small_chunks")
def test_a_long_record_that_is_not_finite_contributes_nothing() -> None:
    pieces = noisy([2, 9])
    pieces[1][-1, 0] = np.nan
    found = records(pieces, 9)
    exact = clipped_sum(detector(), found, everyone(found), None, 0.1)
    assert apart(exact.sums, clipped_sum(detector(), found, np.array([0]), None, 0.1).sums) == 0.0
    assert np.isnan(exact.norms_B).tolist() == [False, True]


# ---- the exchange ----------------------------------------------------------------------------------------------------


def settings(**fields: object) -> PrivacyConfig:
    noise = {"weights": 0.0, "below": 0.0, "loss": 0.0} | fields.pop("noise", {})  # type: ignore[operator]
    return PrivacyConfig.model_validate({"sampling": 1.0, "noise": noise} | fields)


def key(*parts: str) -> Randomness:
    return Randomness.keyed(b"s" * 32, *parts)


def test_without_noise_the_exchange_is_the_formula() -> None:
    made, found = detector(), records(noisy([2, 1, 2, 0]), 2)
    exact = clipped_sum(made, found, everyone(found), target(), 0.05)
    clip = float(np.nanmedian(exact.norms_B))
    exact = clipped_sum(made, found, everyone(found), target(), clip)
    reply = private_exchange(made, found, target(), settings(loss_cap=1.0), clip, key())
    for name, total in exact.sums.items():
        np.testing.assert_allclose(reply.gradient[name], total / 4, rtol=1e-6, atol=1e-9)
        assert reply.gradient[name].dtype == np.float32
    signs = np.where(exact.norms_B[:3] <= clip, 0.5, -0.5)
    assert reply.below == pytest.approx(signs.sum() / 4 + 0.5)
    assert reply.loss == pytest.approx(np.minimum(exact.losses_B, 1.0).sum() / 4)


def test_what_is_divided_by_is_public() -> None:
    """q N', not how many records happened to be sampled or are there."""
    found = records(noisy([2] * 40), 2)
    found = Records(found.windows, found.first_R, 2, public_size=64)
    noise = key("sampled")
    chosen = key("sampled").chosen(40, 0.3)
    assert 0 < len(chosen) < 40
    reply = private_exchange(detector(), found, None, settings(sampling=0.3), 0.01, noise)
    exact = clipped_sum(detector(), found, chosen, None, 0.01)
    for name, total in exact.sums.items():
        np.testing.assert_allclose(reply.gradient[name], total / (0.3 * 64), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("counts", [[2, 2], [0, 0]])
def test_an_empty_batch_is_pure_noise(counts: list[int]) -> None:
    found = records([np.zeros((2 * count * 3, 3)) for count in counts], 2)
    privacy = settings(sampling=1e-9 if counts[0] else 1.0, noise={"weights": 3.0, "below": 4.0, "loss": 5.0})
    reply = private_exchange(detector(), found, None, privacy, 0.5, key("empty"))
    expected = privacy.sampling * 2
    values = np.concatenate([value.ravel() for value in reply.gradient.values()]).astype(np.float64) * expected
    assert values.std() == pytest.approx(3.0 * 0.5, rel=0.1)
    assert abs(values.mean()) < 6 * 1.5 / np.sqrt(len(values))
    draws = [private_exchange(detector(), found, None, privacy, 0.5, key("empty", str(n))) for n in range(120)]
    assert np.std([(draw.below - 0.5) * expected for draw in draws]) == pytest.approx(4.0 / 2, rel=0.3)
    assert np.std([draw.loss / privacy.loss_cap * expected for draw in draws]) == pytest.approx(5.0, rel=0.3)


def test_noise_is_added_to_the_sum_and_scales_with_the_clip() -> None:
    found, made = records(noisy([2] * 6), 2), detector()
    for clip, multiplier in ((0.01, 2.0), (0.5, 7.0)):
        exact = clipped_sum(made, found, everyone(found), None, clip)
        reply = private_exchange(made, found, None, settings(noise={"weights": multiplier}), clip, key(str(clip)))
        off = np.concatenate([(6.0 * reply.gradient[name] - total).ravel() for name, total in exact.sums.items()])
        assert off.std() == pytest.approx(multiplier * clip, rel=0.1)


def test_the_same_request_gives_the_same_bytes_and_another_one_others() -> None:
    found, privacy = (
        records(noisy([2] * 6), 2),
        settings(sampling=0.5, noise={"weights": 1.0, "below": 1.0, "loss": 1.0}),
    )
    first, again, other = (
        private_exchange(detector(), found, target(), privacy, 0.1, key(name)) for name in ("a", "a", "b")
    )
    for name, value in first.gradient.items():
        assert value.tobytes() == again.gradient[name].tobytes()
        assert not np.array_equal(value, other.gradient[name])
    assert (first.below, first.loss) == (again.below, again.loss)
    assert first.below != other.below
    assert first.loss != other.loss


def test_both_engines_reply_alike() -> None:
    found, noise = records(noisy([2] * 6), 2), {"weights": 1.0, "below": 1.0, "loss": 1.0}
    ghost, opacus = (
        private_exchange(detector(), found, None, settings(sampling=0.5, noise=noise, engine=engine), 0.1, key("x"))
        for engine in ("ghost", "opacus")
    )
    for name, value in ghost.gradient.items():
        np.testing.assert_allclose(value, opacus.gradient[name], rtol=1e-5, atol=1e-6)
    assert ghost.loss == pytest.approx(opacus.loss, rel=1e-6)


def test_a_loss_counts_up_to_its_cap() -> None:
    pieces = noisy([2, 2])
    pieces[1] *= 1e3
    found = records(pieces, 2)
    exact = clipped_sum(detector(), found, everyone(found), None, 1.0)
    reply = private_exchange(detector(), found, None, settings(loss_cap=4.0), 1.0, key())
    assert exact.losses_B[1] > 1e4
    assert reply.loss == pytest.approx((exact.losses_B[0] + 4.0) / 2)


def test_a_record_that_is_not_finite_moves_no_number_of_the_reply() -> None:
    pieces = noisy([2, 2, 2])
    spoilt = [*pieces, np.full_like(pieces[0], np.nan)]
    good, bad = records(pieces, 2), records(spoilt, 2)
    bad = Records(bad.windows, bad.first_R, 2, good.public_size)
    one, other = (private_exchange(detector(), found, None, settings(), 0.05, key()) for found in (good, bad))
    for name, value in one.gradient.items():
        np.testing.assert_allclose(value, other.gradient[name], atol=1e-8)
    assert one.below == other.below
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
