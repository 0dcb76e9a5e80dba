"""The direction of each plant's update beside the mean of all."""

from __future__ import annotations

import numpy as np
import pytest

from server.sketch import UpdateSketches, sketch
from shared.wire.envelope import Packet, decode_array, encode_array
from tests.support import plants
from tests.support.puppets import MANIFEST, Puppet, Stage, play


def updates(count: int, common: float, size: int = 220_000) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=size)
    found = [common * shared + rng.normal(size=size) for _ in range(count)]
    return [{"a": u[:100_000].astype(np.float32), "b": u[100_000:].astype(np.float32).reshape(400, -1)} for u in found]


def flat(update: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([update[name].ravel() for name in sorted(update)]).astype(np.float64)


@pytest.mark.parametrize("common", [0.0, 0.2, 1.0])
def test_the_cosine_is_the_exact_one_to_a_few_hundredths(common: float) -> None:
    share = {f"p{i}": 1.0 + i for i in range(5)}
    found, all_of = UpdateSketches(None, share), updates(5, common)
    for plant, update in zip(share, all_of, strict=True):
        found.add(plant, update)
    mean = sum(share[plant] * flat(update) for plant, update in zip(share, all_of, strict=True))
    for plant, update in zip(share, all_of, strict=True):
        exact = float(flat(update) @ mean / np.linalg.norm(flat(update)) / np.linalg.norm(mean))
        assert found.cosines()[plant] == pytest.approx(exact, abs=0.05)  # three standard errors


def test_what_is_told_does_not_depend_on_who_was_faster() -> None:
    share = {"a": 1.0, "b": 2.0, "c": 0.5}
    both = []
    for order in (("a", "b", "c"), ("c", "a", "b")):
        found = UpdateSketches(None, share)
        for plant in order:
            found.add(plant, updates(3, 0.5, 130_000)["abc".index(plant)])
        both.append(found.cosines())
    assert both[0] == both[1]


def test_an_update_of_nothing_has_no_direction() -> None:
    found = UpdateSketches({"w": np.ones(3, np.float32)}, {"a": 1.0, "b": 1.0})
    found.add("a", {"w": np.ones(3, np.float32)})
    assert found.cosines() == {}
    found.add("b", {"w": np.zeros(3, np.float32)})
    assert found.cosines() == {"b": pytest.approx(1.0)}


def test_each_bucket_holds_its_share() -> None:
    counts = sketch({"w": np.ones(4096 * 64, np.float32)})
    assert np.abs(counts).max() < 8 * 8  # eight standard deviations of 64 signs
    assert abs(counts.sum()) < 4096


def turned(request: Packet, reply: Packet) -> Packet:
    """Answer with the update turned about."""
    if request.texts["kind"] != "train":
        return reply
    arrays = dict(reply.arrays)
    for spec in MANIFEST:
        name = f"weights/{spec.name}"
        base, moved = (decode_array(p.arrays[name], spec.shape).astype(np.float32) for p in (request, reply))
        arrays[name] = encode_array(2 * base - moved)
    return Packet(arrays, reply.numbers, reply.texts)


def test_a_plant_that_pushes_the_other_way_is_seen_in_the_round() -> None:
    rounds = {"pretrain": 1, "joint": 1, "aggregation": "mean"}
    settings = plants.settings(
        rounds=rounds, recipe={"clustering": {"clusters": 3, "seed_steps": 1, "refine_steps": 1}}
    )
    journal = play(Stage([Puppet("a"), Puppet("b"), Puppet("c", act=turned)]), settings)
    trained = next(r for r in journal.records if r.label == "train 1/1")
    assert [round(p.metrics["update_cosine"], 3) for p in trained.plants] == [1.0, 1.0, -1.0]
    assert all("update_cosine" not in p.metrics for r in journal.records if "train" not in r.label for p in r.plants)
