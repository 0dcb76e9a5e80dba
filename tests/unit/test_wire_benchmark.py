"""The yardsticks of `benchmarks.wire`: what they change, and that they change nothing else."""

from __future__ import annotations

import numpy as np

from benchmarks.wire import SMALL, disturbed
from shared.wire.envelope import Packet, encode_array
from shared.wire.messages import WEIGHT


def test_a_disturbed_update_is_off_by_a_millionth_in_its_weights_alone() -> None:
    values = np.linspace(0.5, 2.0, 400, dtype=np.float32).reshape(20, 20)
    reply = Packet({f"{WEIGHT}a": encode_array(values), "cluster_sums": encode_array(values)}, {"round": 3}, {})
    other = disturbed(0)("north", reply)
    assert other is not None
    assert other.arrays["cluster_sums"] == reply.arrays["cluster_sums"]
    assert other.numbers == reply.numbers
    now = np.frombuffer(other.arrays[f"{WEIGHT}a"].data[-values.nbytes :], "<f4").reshape(values.shape)
    off = np.abs(now / values - 1)
    assert 3e-7 < off.mean() < 3e-6
    assert off.max() < 1e-5


def test_another_order_of_batches_leaves_data_and_first_weights_as_they_were() -> None:
    plain, other = SMALL.config("fp32", 3), SMALL.config("fp32", 3, order=1003)
    assert plain.seed == other.seed == 3
    assert (plain.recipe.training.seed, other.recipe.training.seed) == (3, 1003)
    same = other.recipe.training.model_copy(update={"seed": 3})
    assert same == plain.recipe.training
    assert plain.recipe.training.learning_rate == 1e-3
    assert (plain.rounds.pretrain, plain.rounds.joint) == (6, 14)
