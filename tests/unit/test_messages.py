"""Requests survive the wire; a hostile request makes the plant refuse, never fail."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from client.agent.service import PlantAgent
from shared.config import Recipe, RunConfig
from shared.detectors import build
from shared.errors import BadPayload
from shared.lag.pooled import MOST, LagSum, tag
from shared.model import Clusters, GlobalModel, initial_weights
from shared.schema import SensorSchema
from shared.series import SiteData
from shared.wire.envelope import Packet, RawArray, encode_array
from shared.wire.inventory import Kind
from shared.wire.messages import Request, TrainOrder, encode_request, parse_head, parse_request
from shared.wire.records import packet_from_records
from tests.support.plants import settings
from tests.support.puppets import changed

RECIPE = settings().recipe
K, Z = 3, RECIPE.detector.latent
MANIFEST = build(RECIPE.detector, 2).manifest()
CLUSTERS = Clusters(
    centroids_KZ=np.linspace(-0.5, 0.5, K * Z, dtype=np.float32).reshape(K, Z),
    frequency_K=np.asarray([0.5, 0.3, 0.2], np.float32),
    active_K=np.asarray([True, True, False]),
    misses_K=np.asarray([0, 1, 3]),
    radius=1.25,
)
MODEL = GlobalModel(initial_weights(MANIFEST, 3), CLUSTERS)
ORDER = TrainOrder(alpha=0.25, step=4, one_step=False, with_statistic=True)


def request(kind: Kind, model: GlobalModel = MODEL, **fields: object) -> Request:
    if kind in (Kind.DESCRIBE, Kind.MOMENTS):
        return Request(kind, "run", 7, RECIPE)
    order = ORDER if kind is Kind.TRAIN else TrainOrder()
    return replace(Request(kind, "run", 7, RECIPE, model.digest, model, 2.5, order), **fields)


@pytest.fixture(scope="module")
def plant() -> PlantAgent:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(120, 2)).astype(np.float32)
    return PlantAgent(SiteData("north", SensorSchema(tags=("a", "b"), period_s=1), rows, rows[:0], None))


# ---- round trip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("clustered", [True, False])
def test_a_request_comes_back(kind: Kind, clustered: bool) -> None:
    sent = request(kind, MODEL if clustered else GlobalModel(MODEL.weights))
    packet = encode_request(sent)
    assert parse_head(packet) == (kind, RECIPE)
    got = parse_request(packet, MANIFEST, Z)
    assert replace(got, model=None) == replace(sent, model=None)
    assert (got.model is None) == (kind in (Kind.DESCRIBE, Kind.MOMENTS))
    if got.model is not None:
        assert got.model.digest == sent.digest
        assert got.model.file_bytes == sent.model.file_bytes


@pytest.mark.parametrize("radius", [math.inf, 0.0, 3.75])
def test_a_radius_comes_back_though_flower_carries_no_infinity(radius: float) -> None:
    packet = encode_request(request(Kind.CLUSTER, radius=radius))
    assert all(math.isfinite(value) for value in packet.numbers.values())
    assert parse_request(packet, MANIFEST, Z).radius == radius


def test_an_unbounded_latent_has_clusters_without_a_radius() -> None:
    unbounded = GlobalModel(MODEL.weights, replace(CLUSTERS, radius=math.inf))
    assert (
        parse_request(encode_request(request(Kind.CLUSTER, unbounded)), MANIFEST, Z).model.clusters.radius == math.inf
    )


def test_the_sum_of_moments_comes_back_bit_for_bit_without_a_plants_name() -> None:
    shares = {tag("run", name): share for name, share in (("north", 1.0), ("south", 1 / 3), ("east", 0.0))}
    sent = LagSum(np.random.default_rng(0).normal(size=91), shares)
    packet = encode_request(request(Kind.CALIBRATE, lag=sent))
    got = parse_request(packet, MANIFEST, Z).lag
    np.testing.assert_array_equal(got.vector_Q, sent.vector_Q)
    assert got.shares == shares
    assert not any(name.encode() in raw.data for raw in packet.arrays.values() for name in ("north", "south", "east"))
    assert parse_request(encode_request(request(Kind.CALIBRATE)), MANIFEST, Z).lag is None


# ---- hostile requests ------------------------------------------------------------------------------------------------


def digested(model: GlobalModel) -> Packet:
    """A train request whose digest fits its hostile model: the server itself is the attacker."""
    return encode_request(request(Kind.TRAIN, model))


def clustered(**fields: object) -> Packet:
    return digested(GlobalModel(MODEL.weights, replace(CLUSTERS, **fields)))


def weighing(**weights: np.ndarray) -> Packet:
    return digested(GlobalModel({**MODEL.weights, **{k.replace("__", "."): v for k, v in weights.items()}}, CLUSTERS))


def replacing(**parts: np.ndarray) -> Packet:
    return changed(TRAIN, arrays={f"clusters/{name}": encode_array(values) for name, values in parts.items()})


TRAIN = encode_request(request(Kind.TRAIN))
BIAS = np.asarray(MODEL.weights["output.bias"])
NAN, INF = float("nan"), float("inf")

HOSTILE: dict[str, tuple[Packet, str]] = {
    "nothing": (Packet(), "CP-501"),
    "other protocol": (changed(TRAIN, numbers={"protocol": 2}), "CP-501"),
    "bool protocol": (changed(TRAIN, numbers={"protocol": True}), "CP-501"),
    "unknown kind": (changed(TRAIN, texts={"kind": "upload"}), "CP-501"),
    "no kind": (changed(TRAIN, texts={"kind": None}), "CP-501"),
    "no recipe": (changed(TRAIN, texts={"recipe": None}), "CP-501"),
    "recipe that is no JSON": (changed(TRAIN, texts={"recipe": "{"}), "CP-501"),
    "nested recipe": (changed(TRAIN, texts={"recipe": '{"detector":' * 50_000}), "CP-501"),
    "recipe with an extra setting": (changed(TRAIN, texts={"recipe": '{"upload": true}'}), "CP-501"),
    "unknown detector": (changed(TRAIN, texts={"recipe": '{"detector": {"name": "spy", "window": 8}}'}), "CP-102"),
    "window longer than the data": (changed(TRAIN, texts={"recipe": '{"detector": {"window": 5000}}'}), "CP-204"),
    "endless stride": (changed(TRAIN, texts={"recipe": f'{{"training": {{"stride": {10**30}}}}}'}), "CP-501"),
    "no round": (changed(TRAIN, numbers={"round": None}), "CP-501"),
    "negative round": (changed(TRAIN, numbers={"round": -1}), "CP-501"),
    "extra array": (changed(TRAIN, arrays={"rows": encode_array(BIAS)}), "CP-501"),
    "extra number": (changed(TRAIN, numbers={"dump": 1}), "CP-501"),
    "extra text": (changed(TRAIN, texts={"code": "import os"}), "CP-501"),
    "model in a describe": (changed(TRAIN, texts={"kind": "describe"}), "CP-501"),
    "order in a cluster request": (changed(TRAIN, texts={"kind": "cluster"}), "CP-501"),
    "other digest": (changed(TRAIN, texts={"model": "0" * 64}), "CP-501"),
    "no digest": (changed(TRAIN, texts={"model": None}), "CP-501"),
    "missing tensor": (changed(TRAIN, arrays={"weights/output.bias": None}), "CP-501"),
    "unknown tensor": (changed(TRAIN, arrays={"weights/spy": encode_array(BIAS)}), "CP-501"),
    "broadcastable tensor": (changed(TRAIN, arrays={"weights/output.bias": encode_array(BIAS[:1])}), "CP-501"),
    "tensor that is none": (changed(TRAIN, arrays={"weights/output.bias": RawArray("x", (), b"x")}), "CP-501"),
    "NaN weights": (weighing(output__bias=BIAS * np.float32(NAN)), "CP-501"),
    "infinite weights": (weighing(output__bias=BIAS + np.float32(INF)), "CP-501"),
    "huge weights": (weighing(output__bias=BIAS + np.float32(1e5)), "CP-501"),
    "NaN alpha": (changed(TRAIN, numbers={"alpha": NAN}), "CP-501"),
    "negative alpha": (changed(TRAIN, numbers={"alpha": -0.5}), "CP-501"),
    "huge alpha": (changed(TRAIN, numbers={"alpha": 1e300}), "CP-501"),
    "no alpha": (changed(TRAIN, numbers={"alpha": None}), "CP-501"),
    "endless step": (changed(TRAIN, numbers={"step": 10**5000}), "CP-501"),
    "float step": (changed(TRAIN, numbers={"step": 1.0}), "CP-501"),
    "NaN radius": (changed(TRAIN, numbers={"radius": NAN}), "CP-501"),
    "no radius": (changed(TRAIN, numbers={"radius": None}), "CP-501"),
    "flag that is none": (changed(TRAIN, numbers={"with_statistic": -1}), "CP-501"),
    "centroids of another latent": (replacing(centroids=np.zeros((K, 1), np.float32)), "CP-501"),
    "centroids alone": (changed(TRAIN, arrays={"clusters/frequency": None}), "CP-501"),
    "frequency alone": (changed(TRAIN, arrays={"clusters/centroids": None}), "CP-501"),
    "5,000 centroids": (changed(TRAIN, arrays={"clusters/centroids": RawArray("f", (5000, Z), b"")}), "CP-501"),
    "NaN centroids": (clustered(centroids_KZ=CLUSTERS.centroids_KZ * np.float32(NAN)), "CP-501"),
    "huge centroids": (clustered(centroids_KZ=CLUSTERS.centroids_KZ + np.float32(3e38)), "CP-501"),
    "negative frequency": (clustered(frequency_K=np.asarray([1.5, 0.5, -1.0], np.float32)), "CP-501"),
    "frequency of nothing": (clustered(frequency_K=np.zeros(K, np.float32)), "CP-501"),
    "no active cluster": (clustered(active_K=np.zeros(K, bool)), "CP-501"),
    "NaN cluster radius": (clustered(radius=NAN), "CP-501"),
    "negative cluster radius": (clustered(radius=-1.0), "CP-501"),
    "NaN misses": (replacing(misses=np.full(K, NAN)), "CP-501"),
    "endless misses": (replacing(misses=np.full(K, 1e300)), "CP-501"),
    "active that is neither": (replacing(active=np.full(K, 7, np.uint8)), "CP-501"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_refused(plant: PlantAgent, name: str) -> None:
    packet, code = HOSTILE[name]
    answer = plant.handle(packet)
    assert answer.texts["refused"].startswith(code)
    assert answer.texts["plant"] == "north"
    # A refusal tells a fixed code and a class name; whatever the plant knows stays in its own log.
    assert len(answer.texts["refused"].split()) == 2
    assert not answer.arrays
    assert set(answer.numbers) == {"round", "protocol"}


@pytest.mark.parametrize("radius", [1e200, 0.0, 1e-300, -7.0])
def test_a_silly_radius_is_harmless(plant: PlantAgent, radius: float) -> None:
    answer = plant.handle(changed(encode_request(request(Kind.CLUSTER)), numbers={"radius": radius}))
    assert "refused" not in answer.texts


def test_a_cluster_request_without_clusters_is_refused(plant: PlantAgent) -> None:
    answer = plant.handle(encode_request(request(Kind.CLUSTER, GlobalModel(MODEL.weights))))
    assert answer.texts["refused"] == "CP-501 BadPayload"


def test_after_a_refusal_the_plant_answers_as_before(plant: PlantAgent) -> None:
    first = plant.handle(TRAIN)
    for packet, _ in HOSTILE.values():
        plant.handle(packet)
    again = plant.handle(TRAIN)
    assert again.arrays == first.arrays
    assert {k: v for k, v in again.numbers.items() if not k.startswith("seconds")} == {
        k: v for k, v in first.numbers.items() if not k.startswith("seconds")
    }


def test_a_refusal_does_not_say_what_the_data_looks_like() -> None:
    rows = np.full((400, 2), 3.25, np.float32)
    dull = PlantAgent(SiteData("south", SensorSchema(tags=("a", "b"), period_s=1), rows, rows[:0], None))
    answer = dull.handle(encode_request(Request(Kind.DESCRIBE, "run", 1, RECIPE)))
    assert answer.texts["refused"] == "CP-205 NothingToLearn"


def test_the_default_recipe_crosses_whole() -> None:
    recipe = RunConfig().recipe
    packet = encode_request(Request(Kind.DESCRIBE, "run", 1, recipe))
    assert parse_head(packet)[1] == recipe == Recipe.model_validate_json(packet.texts["recipe"])


# ---- records ---------------------------------------------------------------------------------------------------------


def records(**changes: object) -> dict[str, object]:
    array = SimpleNamespace(stype="numpy.ndarray", dtype="float32", shape=(2,), data=encode_array(BIAS).data)
    content = {"arrays": {"weights/output.bias": array}, "numbers": {"round": 3}, "texts": {"kind": "train"}}
    return {name: value for name, value in {**content, **changes}.items() if value is not None}


def test_records_become_a_packet() -> None:
    packet = packet_from_records(records())
    assert packet == Packet({"weights/output.bias": encode_array(BIAS)}, {"round": 3}, {"kind": "train"})


@pytest.mark.parametrize(
    ("content", "telling"),
    [
        ({}, "records"),
        (records(more={}), "records"),
        (records(texts=None), "records"),
        (records(numbers={"round": [1, 2]}), "number"),
        (records(numbers={"round": True}), "number"),
        (records(texts={"kind": b"train"}), "text"),
        (records(texts={"kind": ["train"]}), "text"),
        (records(texts={"kind": 3}), "text"),
        (records(arrays={"a": SimpleNamespace(stype="pickle", dtype="f", shape=(), data=b"")}), "as 'pickle'"),
        (records(arrays={"a": SimpleNamespace(stype="numpy.ndarray", dtype="f", shape=(), data="x")}), "serialised"),
        (records(arrays={"a": SimpleNamespace(stype="numpy.ndarray", dtype="f", shape=3, data=b"")}), "shape"),
        (records(arrays={"a": SimpleNamespace(stype="numpy.ndarray", dtype="f", shape=("3",), data=b"")}), "shape"),
        (records(arrays={"x": 1.0}), "serialised as 'None'"),
        (records(arrays={"x": [1.0, 2.0]}), "serialised as 'None'"),
        (records(arrays=[1.0]), "a record arrays that holds no values by name"),
        (records(numbers=3.0), "a record numbers that holds no values by name"),
        (records(texts={3: "train"}), "a record texts that holds no values by name"),
    ],
)
def test_other_records_are_refused(content: dict[str, object], telling: str) -> None:
    with pytest.raises(BadPayload, match=telling):
        packet_from_records(content)


def test_a_refusal_prints_nothing() -> None:
    """Python prints warnings that no handler takes; stderr belongs to the command line."""
    code = "import logging, client.agent.service as s; s.log.warning('plant refuses')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


LAG = encode_request(request(Kind.CALIBRATE, lag=LagSum(np.ones(91), {"00" * 8: 1.0, "01" * 8: 0.5})))
HOSTILE_SUMS: dict[str, tuple[dict[str, np.ndarray | None], str]] = {
    "no shares": ({"lag_shares": None}, "lag_shares is missing"),
    "no tags": ({"lag_tags": None}, "lag_tags is missing"),
    "no sum": ({"lag_moments": None}, "lag_moments is missing"),
    "a table": ({"lag_moments": np.ones((7, 13))}, "lag_moments of shape"),
    "float32": ({"lag_moments": np.ones(91, np.float32)}, "dtype <f4"),
    "too large": ({"lag_moments": np.ones(MOST + 1)}, "due is one row of 1 to 1,048,576"),
    "NaN": ({"lag_moments": np.full(91, np.nan)}, "not finite"),
    "a share beyond 1": ({"lag_shares": np.asarray([1.0, 1.5])}, "lag_shares beyond 0 to 1"),
    "a share that is NaN": ({"lag_shares": np.asarray([1.0, np.nan])}, "lag_shares beyond 0 to 1"),
    "more shares than tags": ({"lag_shares": np.ones(3)}, "shape"),
    "one plant twice": ({"lag_tags": np.zeros((2, 8), np.uint8)}, "one plant twice"),
    "tags of another length": ({"lag_tags": np.zeros((2, 16), np.uint8)}, "shape"),
}


@pytest.mark.parametrize("name", HOSTILE_SUMS)
def test_a_sum_of_moments_that_is_none_is_refused(name: str) -> None:
    arrays, telling = HOSTILE_SUMS[name]
    harmed = {field: None if values is None else encode_array(values) for field, values in arrays.items()}
    with pytest.raises(BadPayload, match=telling):
        parse_request(changed(LAG, arrays=harmed), MANIFEST, Z)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CALIBRATE])
def test_no_other_request_carries_moments(kind: Kind) -> None:
    packet = encode_request(request(kind))
    with pytest.raises(BadPayload, match=f"no {kind.value} request may carry: arrays:lag_moments"):
        parse_request(changed(packet, arrays={"lag_moments": encode_array(np.ones(91))}), MANIFEST, Z)
