"""Fault: a plant sends a tensor of another shape, one that NumPy would broadcast without a word, or half a tensor."""

from __future__ import annotations

import numpy as np
import pytest

from shared.wire.envelope import Packet, RawArray, encode_array
from tests.support.puppets import changed
from tests.support.tampering import CLUSTER_ROUND, TRAIN_ROUND, assert_as_if_absent

WEIGHT = "weights/bottleneck.weight"  # (4, 16)


@pytest.mark.parametrize(
    "shape", [(16, 4), (3, 16), (64,), (4, 16, 1), (1, 16), (4, 1), (1, 1), (16,), (1,), (), (0, 16)]
)
def test_of_a_weight(shape: tuple[int, ...]) -> None:
    def spoil(reply: Packet) -> Packet:
        assert reply.arrays[WEIGHT].shape == (4, 16)
        return changed(reply, arrays={WEIGHT: encode_array(np.zeros(shape, np.float32))})

    assert_as_if_absent(spoil, TRAIN_ROUND, f"tensor bottleneck.weight: shape {shape}, expected (4, 16)")


def test_of_bytes_behind_an_honest_header() -> None:
    def spoil(reply: Packet) -> Packet:
        raw = reply.arrays[WEIGHT]
        return changed(reply, arrays={WEIGHT: RawArray(raw.dtype, raw.shape, raw.data[:-4])})

    assert_as_if_absent(spoil, TRAIN_ROUND, "tensor bottleneck.weight: 252 bytes of data, expected 256")


def test_of_nothing_at_all() -> None:
    def spoil(reply: Packet) -> Packet:
        return changed(reply, arrays={WEIGHT: None})

    assert_as_if_absent(spoil, TRAIN_ROUND, "tensors missing: ['bottleneck.weight']")


@pytest.mark.parametrize("shape", [(1, 4), (12, 1), (4,), (13, 4)])
def test_of_the_cluster_sums(shape: tuple[int, ...]) -> None:
    def spoil(reply: Packet) -> Packet:
        return changed(reply, arrays={"cluster_sums": encode_array(np.zeros(shape))})

    assert_as_if_absent(spoil, CLUSTER_ROUND + 1, f"shape {shape}, expected (12, 4)")
