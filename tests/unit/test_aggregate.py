from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from server.aggregate import RunningMean, adam_step, average, site_weights
from server.rounds import OptimizerState
from shared.clustering import Statistic
from shared.wire.gate import Accepted


def update(plant: str, seed: int, statistic: bool = False, **metrics: float) -> Accepted:
    rng = np.random.default_rng(seed)
    weights = {"a": rng.normal(size=(3, 2)).astype(np.float32), "b": rng.normal(size=4).astype(np.float32)}
    said = Statistic(rng.normal(size=(2, 2)), rng.uniform(size=2), rng.uniform()) if statistic else None
    return Accepted(plant, 10, weights, said, metrics=metrics)


# ---- how much a plant counts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [("examples", [100.0, 129.0, 1290.0]), ("bucket", [128.0, 256.0, 2560.0]), ("uniform", [1.0, 1.0, 1.0])],
)
def test_site_weights(weighting: str, expected: list[float]) -> None:
    weights = site_weights({"c": 40_000, "a": 100, "b": 129}, weighting, cap=10)
    assert list(weights.items()) == list(zip("abc", expected, strict=True))


@pytest.mark.parametrize(("examples", "bucket"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1024, 1024), (1025, 2048)])
def test_a_bucket_is_the_next_power_of_two(examples: int, bucket: int) -> None:
    assert site_weights({"a": examples}, "bucket", cap=10) == {"a": bucket}


def test_a_cap_of_one_lets_nobody_count_more_than_the_median() -> None:
    assert site_weights({"a": 10, "b": 20, "c": 5_000}, "examples", cap=1) == {"a": 10, "b": 20, "c": 20}


def test_nobody_has_no_weight() -> None:
    assert site_weights({}, "examples", cap=10) == {}


# ---- the mean --------------------------------------------------------------------------------------------------------


def test_the_running_mean_is_the_weighted_average() -> None:
    updates = [update(f"p{i}", i) for i in range(5)]
    shares = [1.0, 7.5, 2.0, 100.0, 0.25]
    mean = RunningMean()
    for accepted, share in zip(updates, shares, strict=True):
        mean.add(accepted, share)
    result = mean.result()
    assert result.count == 5
    for name in ("a", "b"):
        expected = np.average([u.weights[name].astype(np.float64) for u in updates], axis=0, weights=shares)
        np.testing.assert_allclose(result.weights[name], expected, rtol=1e-6)
        assert result.weights[name].dtype == np.float32


def test_equal_weights_are_kept_exactly() -> None:
    one = update("p", 0)
    mean = average([(Accepted(f"p{i}", 10, one.weights), 3.7) for i in range(7)])
    for name, value in one.weights.items():
        np.testing.assert_array_equal(mean.weights[name], value)


def test_the_order_of_the_updates_does_not_change_a_bit() -> None:
    updates = [(update(f"p{i}", i, statistic=True, train_loss=0.1 * i), 1.0 + i / 3) for i in range(4)]
    first = average(updates)
    for shuffled in itertools.permutations(updates):
        other = average(shuffled)
        for name, value in first.weights.items():
            assert other.weights[name].tobytes() == value.tobytes()
        assert other.statistic.sums_KZ.tobytes() == first.statistic.sums_KZ.tobytes()
        assert other.metrics == first.metrics


def test_an_update_is_not_written_to() -> None:
    first, second = update("a", 0), update("b", 1)
    before = first.weights["a"].copy()
    average([(first, 2.0), (second, 3.0)])
    np.testing.assert_array_equal(first.weights["a"], before)


def test_statistics_are_added_up_whatever_the_weight() -> None:
    updates = [update(f"p{i}", i, statistic=True) for i in range(3)]
    result = average([(accepted, 10.0**i) for i, accepted in enumerate(updates)])
    np.testing.assert_allclose(result.statistic.sums_KZ, sum(u.statistic.sums_KZ for u in updates))
    np.testing.assert_allclose(result.statistic.counts_K, sum(u.statistic.counts_K for u in updates))
    assert result.statistic.spread == pytest.approx(sum(u.statistic.spread for u in updates))


def test_a_metric_is_averaged_over_the_plants_that_gave_it() -> None:
    given = [(update("a", 0, loss=1.0, only=5.0), 1.0), (update("b", 1, loss=4.0), 2.0)]
    assert average(given).metrics == pytest.approx({"loss": 3.0, "only": 5.0})


def test_the_mean_of_nothing() -> None:
    empty = RunningMean().result()
    assert (empty.weights, empty.statistic, dict(empty.metrics), empty.count) == (None, None, {}, 0)


def test_a_round_without_weights_has_none_in_its_mean() -> None:
    result = average([(Accepted("a", statistic=Statistic(np.ones((1, 1)), np.ones(1), 0.5)), 2.0)])
    assert result.weights is None
    assert result.count == 1


# ---- Adam at the server ----------------------------------------------------------------------------------------------


def test_adam_takes_the_steps_of_torch() -> None:
    """The plants send gradients, also tiny ones beside large weights: the server's Adam is Adam."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3)).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    reference = torch.optim.Adam([parameter], lr=0.01)
    weights, state = {"w": start}, OptimizerState()
    for step in range(25):
        gradient = (rng.normal(size=start.shape) * 10.0 ** -(step % 9)).astype(np.float32)
        weights, state = adam_step(weights, {"w": gradient}, state, 0.01)
        parameter.grad = torch.from_numpy(gradient)
        reference.step()
        np.testing.assert_allclose(weights["w"], parameter.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert state.step == 25
    assert weights["w"].dtype == state.first["w"].dtype == state.second["w"].dtype == np.float32


def test_adam_rests_where_there_is_no_gradient() -> None:
    weights = {"w": np.ones(3, np.float32)}
    moved, state = adam_step(weights, {"w": np.zeros(3, np.float32)}, OptimizerState(), 0.1)
    np.testing.assert_array_equal(moved["w"], weights["w"])
    assert state.step == 1


def test_adam_leaves_its_inputs_alone() -> None:
    weights, gradient = {"w": np.ones(3, np.float32)}, {"w": np.ones(3, np.float32)}
    _, state = adam_step(weights, gradient, OptimizerState(), 0.1)
    before = state.first["w"].copy()
    adam_step(weights, gradient, state, 0.1)
    np.testing.assert_array_equal(state.first["w"], before)
    np.testing.assert_array_equal(weights["w"], 1)
