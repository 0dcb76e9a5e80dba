"""Fault: a plant answers an earlier round, another run, or with an update of an older global model."""

from __future__ import annotations

import pytest

from shared.wire.envelope import Packet
from tests.support.puppets import changed
from tests.support.tampering import CULPRIT, TRAIN_ROUND, assert_as_if_absent, config, federate, sites, told


@pytest.mark.parametrize("number", [0, TRAIN_ROUND - 1, TRAIN_ROUND + 1, True, float(TRAIN_ROUND)])
def test_with_another_round_number(number: float) -> None:
    def spoil(reply: Packet) -> Packet:
        return changed(reply, numbers={"round": number})

    assert_as_if_absent(spoil, TRAIN_ROUND, f"round {number!r}, expected {TRAIN_ROUND}: a stale reply")


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"model": "0" * 64}, "computed from another global model than was sent: a stale reply"),
        ({"run": "yesterday"}, "run 'yesterday', expected 'test'"),
        ({"plant": "north"}, "plant 'north', expected 'west'"),
        ({"kind": "cluster"}, "kind 'cluster', expected 'train'"),
    ],
)
def test_with_another_model_run_name_or_kind(texts: dict[str, object], reason: str) -> None:
    def spoil(reply: Packet) -> Packet:
        return changed(reply, texts=texts)

    assert_as_if_absent(spoil, TRAIN_ROUND, reason)


def test_with_the_very_reply_of_the_round_before() -> None:
    """A replayed reply, whole and once valid, and one whose round number was brought up to date."""
    for renumber in (False, True):
        kept: list[Packet] = []

        def replay(plant: str, reply: Packet, kept: list[Packet] = kept, renumber: bool = renumber) -> Packet:
            if plant != CULPRIT or reply.texts["kind"] != "train":
                return reply
            kept.append(reply)
            old = kept[0] if len(kept) == 2 else reply
            return changed(old, numbers={"round": reply.numbers["round"]}) if renumber else old

        _, journal, _ = federate(sites(), config(), replay)
        assert told(journal.records[1]).accepted
        assert not told(journal.records[2]).accepted
        assert told(journal.records[2]).reason.endswith("a stale reply.")
