"""Fault: a plant's training diverged, or somebody wants the model to be NaN everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from shared.wire.envelope import Packet, encode_array
from tests.support.puppets import changed
from tests.support.tampering import CLUSTER_ROUND, TRAIN_ROUND, assert_as_if_absent


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_in_one_weight(value: float) -> None:
    def spoil(reply: Packet) -> Packet:
        name = "weights/output.bias"
        return changed(reply, arrays={name: encode_array(np.full(reply.arrays[name].shape, value, np.float32))})

    assert_as_if_absent(spoil, TRAIN_ROUND, "tensor output.bias: NaN or infinite values")


@pytest.mark.parametrize("field", ["train_loss", "holdout_loss"])
def test_in_a_loss(field: str) -> None:
    def spoil(reply: Packet) -> Packet:
        return changed(reply, numbers={field: float("nan")})

    assert_as_if_absent(spoil, TRAIN_ROUND, f"{field} is nan, expected a finite number")


@pytest.mark.parametrize("field", ["cluster_sums", "cluster_counts"])
def test_in_a_cluster_statistic(field: str) -> None:
    def spoil(reply: Packet) -> Packet:
        return changed(reply, arrays={field: encode_array(np.full(reply.arrays[field].shape, np.nan))})

    assert_as_if_absent(spoil, CLUSTER_ROUND, "cluster statistic with values that are not finite")
