"""Fault: a plant claims more data than it declared, or than anybody has, to have the mean to itself."""

from __future__ import annotations

import numpy as np
import pytest

from shared.wire.envelope import Packet, encode_array
from tests.support.puppets import changed
from tests.support.tampering import (
    CLUSTER_ROUND,
    CULPRIT,
    TRAIN_ROUND,
    assert_as_if_absent,
    config,
    federate,
    sites,
    told,
)


@pytest.mark.parametrize(
    ("examples", "reason"),
    [
        (1_000_000_000, "1,000,000,000 examples, allowed are 1 to 50,000,000"),
        (10**18, "1,000,000,000,000,000,000 examples, allowed are"),
        (49_999_999, "49,999,999 examples, but 29 were declared in the describe round"),
        (0, "0 examples, allowed are"),
        (-999, "examples is -999, expected a whole number"),
        (1e9, "examples is 1000000000.0, expected a whole number"),
        (float("nan"), "examples is nan, expected a whole number"),
    ],
)
def test_in_a_train_reply(examples: float, reason: str) -> None:
    def spoil(reply: Packet) -> Packet:
        return changed(reply, numbers={"examples": examples})

    assert_as_if_absent(spoil, TRAIN_ROUND, reason)


def test_in_the_counts_of_the_clusters() -> None:
    def spoil(reply: Packet) -> Packet:
        counts = np.full(reply.arrays["cluster_counts"].shape, 1e7)
        return changed(reply, arrays={"cluster_counts": encode_array(counts)})

    assert_as_if_absent(spoil, CLUSTER_ROUND, "segments, but 6 were declared")


def test_from_the_beginning() -> None:
    """Declared whenever it is asked: refused, and the federation is the other two."""

    def lie(plant: str, reply: Packet) -> Packet:
        return changed(reply, numbers={"examples": 10**9}) if plant == CULPRIT else reply

    state, journal, _ = federate(sites(), config(), lie)
    assert [m.plant for m in state.members] == ["north", "south"]
    assert "1,000,000,000 examples" in told(journal.records[0]).reason
    without, _, _ = federate(sites(("north", "south")), config())
    assert state.model.digest == without.model.digest


def test_within_the_allowed_the_cap_holds() -> None:
    """A lie that is possible, kept up from the beginning: it counts as ten median plants and no more."""

    def lie(plant: str, reply: Packet) -> Packet:
        known = "examples" in reply.numbers and plant == CULPRIT
        return changed(reply, numbers={"examples": 40_000_000}) if known else reply

    state, _, _ = federate(sites(), config(), lie)
    weights = {m.plant: m.weight for m in state.members}
    assert weights[CULPRIT] == 10 * np.median(sorted([weights["north"], weights["south"], 40_000_000.0]))
