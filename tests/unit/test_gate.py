"""Every hostile reply becomes a rejection that names the plant and says what was wrong; none becomes an exception."""

from __future__ import annotations

import json
import pickle
import re
import tracemalloc

import numpy as np
import pytest

from shared.config import Recipe
from shared.model import Clusters, GlobalModel, TensorSpec, initial_weights
from shared.wire.envelope import Packet, RawArray, encode_array
from shared.wire.gate import Accepted, Expectation, Rejected, encode_manifest, parse_reply
from shared.wire.inventory import Kind
from shared.wire.lagged import MomentsDue
from shared.wire.messages import Request, TrainOrder, encode_request
from tests.support.puppets import MANIFEST, SCHEMA, Puppet, changed, sums

K, Z, RADIUS = 3, 2, 1.5
NAN, INF = float("nan"), float("inf")
CLUSTERS = Clusters(
    np.zeros((K, Z), np.float32), np.full(K, 1 / 3, np.float32), np.ones(K, bool), np.zeros(K, np.int64), 1.0
)
MODEL = GlobalModel(initial_weights(MANIFEST, 0), CLUSTERS)
NORTH = Puppet("north", examples=100)
MOMENTS = MomentsDue(dim=2, lags=5, most=3.0, rows=100)


def request(kind: Kind) -> Packet:
    model, digest = (None, "") if kind in (Kind.DESCRIBE, Kind.MOMENTS) else (MODEL, MODEL.digest)
    return encode_request(Request(kind, "run", 7, Recipe(), digest, model, RADIUS, TrainOrder(with_statistic=True)))


def expectation(kind: Kind, **fields: object) -> Expectation:
    fields = {"round": 7, **fields}
    due = {
        Kind.DESCRIBE: {},
        Kind.TRAIN: {"manifest": MANIFEST, "base": MODEL.weights, "clusters": (K, Z), "examples": 100, "segments": 11},
        Kind.CLUSTER: {"clusters": (K, Z), "examples": 100, "segments": 11},
        Kind.MOMENTS: {"moments": MOMENTS},
        Kind.CALIBRATE: {"examples": 100},
    }[kind]
    caps = {"radius": RADIUS, "max_update_norm": 5.0, "max_examples": 10_000}
    who = {} if kind is Kind.DESCRIBE else {"plant": "north"}
    who |= {} if kind in (Kind.DESCRIBE, Kind.MOMENTS) else {"digest": MODEL.digest}
    return Expectation(kind, "run", **{**due, **caps, **who, **fields})


def reply(kind: Kind, **changes: dict[str, object]) -> Packet:
    return changed(NORTH.answer(request(kind)), **changes)


def judge(kind: Kind, packet: Packet, **fields: object) -> Accepted | Rejected:
    return parse_reply(packet, expectation(kind, **fields), "node 4")


# ---- what is accepted ------------------------------------------------------------------------------------------------


def test_an_honest_train_reply() -> None:
    verdict = judge(Kind.TRAIN, reply(Kind.TRAIN))
    assert isinstance(verdict, Accepted)
    assert (verdict.plant, verdict.examples) == ("north", 100)
    np.testing.assert_array_equal(verdict.weights["head.bias"], MODEL.weights["head.bias"] + np.float32(0.01))
    assert verdict.update_norm == pytest.approx(0.01 * np.sqrt(15), rel=1e-4)
    assert verdict.metrics == {"train_loss": 0.5, "cluster_loss": 0.25, "holdout_loss": 1.0}
    assert verdict.timings == {"train": 2.0, "evaluate": 1.0, "cluster": 0.5}
    np.testing.assert_array_equal(verdict.statistic.counts_K, np.full(K, 11 / 3))


def test_an_honest_description() -> None:
    verdict = judge(Kind.DESCRIBE, reply(Kind.DESCRIBE))
    assert isinstance(verdict, Accepted)
    assert verdict.plant == "north"
    assert (verdict.description.schema, verdict.description.manifest) == (SCHEMA, MANIFEST)
    assert (verdict.description.examples, verdict.description.segments) == (100, 11)


@pytest.mark.parametrize("kind", [Kind.CLUSTER, Kind.CALIBRATE])
def test_honest_replies_of_the_other_kinds(kind: Kind) -> None:
    verdict = judge(kind, reply(kind))
    assert isinstance(verdict, Accepted)
    assert (verdict.weights, verdict.examples, verdict.update_norm) == (None, None, None)
    assert (verdict.statistic is not None) == (kind is Kind.CLUSTER)


def test_the_largest_honest_statistic_is_accepted() -> None:
    """All segments in one cluster, every offset at the radius."""
    sums, counts = np.zeros((K, Z)), np.zeros(K)
    sums[0, 0], counts[0] = 100 * RADIUS, 100.0
    arrays = {"cluster_sums": encode_array(sums), "cluster_counts": encode_array(counts)}
    packet = reply(Kind.CLUSTER, arrays=arrays, numbers={"cluster_spread": 100 * RADIUS**2})
    assert isinstance(judge(Kind.CLUSTER, packet, segments=100), Accepted)


def test_a_statistic_has_no_bound_where_the_latents_have_none() -> None:
    packet = reply(Kind.CLUSTER, arrays={"cluster_sums": encode_array(np.full((K, Z), 500.0))})
    assert isinstance(judge(Kind.CLUSTER, packet, radius=INF), Accepted)
    assert isinstance(judge(Kind.CLUSTER, packet), Rejected)


def test_honest_moments() -> None:
    verdict = judge(Kind.MOMENTS, reply(Kind.MOMENTS))
    assert isinstance(verdict, Accepted)
    assert (verdict.weights, verdict.examples, verdict.statistic) == (None, None, None)
    np.testing.assert_array_equal(verdict.moments.vector_Q, sums(2, Recipe()))
    assert (verdict.moments.rows, verdict.moments.dim, verdict.moments.lags) == (45.0, 2, 5)


# ---- hostile moments -------------------------------------------------------------------------------------------------


def spoilt(at: int, to: float) -> RawArray:
    vector_Q = sums(2, Recipe())
    changed_Q = vector_Q.copy()
    changed_Q[at] = to
    return encode_array(changed_Q)


HOSTILE_MOMENTS: dict[str, tuple[RawArray | None, str]] = {
    "none": (None, "moments are missing"),
    "one number too few": (encode_array(sums(2, Recipe())[:-1]), r"moments: shape \(90,\), expected \(91,\)"),
    "of fewer lags": (encode_array(sums(2, Recipe.model_validate({"lag": {"lags": 1}}))), r"moments: shape \(15,\)"),
    "a column": (encode_array(sums(2, Recipe())[:, None]), r"moments: shape \(91, 1\)"),
    "float32": (encode_array(sums(2, Recipe()).astype(np.float32)), "moments: dtype <f4, expected <f8"),
    "cut short": (RawArray("float64", (91,), encode_array(sums(2, Recipe())).data[:-8]), "720 bytes of data"),
    "NaN": (spoilt(5, NAN), "not finite"),
    "infinite": (spoilt(90, INF), "not finite"),
    "more rows than its windows cover": (spoilt(0, 101.0), "moments of 101.0 rows came; 0 to 100 may"),
    "fewer rows than none": (spoilt(0, -1.0), "moments of -1.0 rows"),
    "squares of larger values": (spoilt(90, 45 * 9.1), "values within .* cannot give"),
    "a sum of squares below nothing": (spoilt(90, -0.1), "values within .* cannot give"),
    "a mean beyond its square": (spoilt(1, 90.0), "Cauchy and Schwarz"),
    "a product beyond its squares": (spoilt(14, 90.0), "Cauchy and Schwarz"),
}


@pytest.mark.parametrize("name", HOSTILE_MOMENTS)
def test_moments_that_no_rows_have_are_rejected(name: str) -> None:
    raw, telling = HOSTILE_MOMENTS[name]
    assert_rejected(judge(Kind.MOMENTS, reply(Kind.MOMENTS, arrays={"moments": raw})), telling)


def test_moments_bear_the_schema_and_travel_in_no_other_reply() -> None:
    due = {"schema": SCHEMA.fingerprint}
    assert isinstance(judge(Kind.MOMENTS, reply(Kind.MOMENTS), **due), Accepted)
    assert_rejected(
        judge(Kind.MOMENTS, reply(Kind.MOMENTS, texts={"fingerprint": "0" * 16}), **due), "schema: computed"
    )
    packet = reply(Kind.CALIBRATE, arrays={"moments": encode_array(sums(2, Recipe()))})
    assert_rejected(judge(Kind.CALIBRATE, packet), "no calibrate reply may carry: arrays:moments")


def test_a_header_that_claims_many_moments_is_rejected_before_anything_is_allocated() -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2000000000,)}\n"
    raw = RawArray("float64", (2_000_000_000,), b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    tracemalloc.start()
    verdict = judge(Kind.MOMENTS, reply(Kind.MOMENTS, arrays={"moments": raw}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert_rejected(verdict, r"moments: shape \(2000000000,\)")
    assert peak < 2**20


# ---- hostile weights -------------------------------------------------------------------------------------------------

BIAS = np.asarray(MODEL.weights["head.bias"])
WEIGHT = np.asarray(MODEL.weights["head.weight"])


def with_value(value: float) -> np.ndarray:
    spoilt = WEIGHT.copy()
    spoilt[1, 2] = value
    return spoilt


def claims(header: str, body: bytes = WEIGHT.tobytes()) -> RawArray:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), {header}}}".encode()
    return RawArray("float32", (3, 4), b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)


TENSORS: dict[str, tuple[RawArray, str]] = {
    "NaN": (encode_array(with_value(NAN)), "NaN or infinite"),
    "Inf": (encode_array(with_value(INF)), "NaN or infinite"),
    "-Inf": (encode_array(with_value(-INF)), "NaN or infinite"),
    "a huge value": (encode_array(with_value(-20_000)), "beyond 10,000"),
    "wrong shape": (encode_array(WEIGHT[:2]), r"shape \(2, 4\), expected \(3, 4\)"),
    "transposed": (encode_array(WEIGHT.T), r"shape \(4, 3\), expected \(3, 4\)"),
    "broadcastable (1, N)": (encode_array(WEIGHT[:1]), r"shape \(1, 4\), expected \(3, 4\)"),
    "broadcastable (N, 1)": (encode_array(WEIGHT[:, :1]), r"shape \(3, 1\), expected \(3, 4\)"),
    "broadcastable (N,)": (encode_array(WEIGHT[0]), r"shape \(4,\), expected \(3, 4\)"),
    "broadcastable ()": (encode_array(np.float32(0.5)), r"shape \(\), expected \(3, 4\)"),
    "zero-size": (encode_array(WEIGHT[:0]), r"shape \(0, 4\), expected \(3, 4\)"),
    "1e10 elements": (claims("'shape': (10000000000,)"), "impossible shape"),
    "2e9 elements": (claims("'shape': (2000000000,)"), r"shape \(2000000000,\), expected"),
    "lying dtype": (claims("", WEIGHT.astype(np.float64).tobytes()), "96 bytes of data, expected 48"),
    "pickled": (RawArray("float32", (3, 4), pickle.dumps(WEIGHT)), "not an .npy"),
    "pickled in npy": (claims("'descr': '|O'", pickle.dumps(WEIGHT)), "dtype |O"),
    "fortran order": (claims("'fortran_order': True"), "order True"),
    "float64": (encode_array(WEIGHT.astype(np.float64)), "dtype <f8, expected <f4"),
    "int32": (encode_array(WEIGHT.astype(np.int32)), "dtype <i4"),
    "uint8": (encode_array(WEIGHT.astype(np.uint8)), r"dtype \|u1, expected <f4"),
    "cut short": (claims("", WEIGHT.tobytes()[:-1]), "47 bytes of data, expected 48"),
    "too long": (claims("", WEIGHT.tobytes() + b"\0"), "49 bytes of data, expected 48"),
    "empty": (RawArray("float32", (3, 4), b""), "not an .npy"),
}


def assert_rejected(verdict: Accepted | Rejected, telling: str, plant: str = "north") -> None:
    assert isinstance(verdict, Rejected)
    assert verdict.plant == plant
    assert re.search(telling, verdict.reason), verdict.reason
    assert verdict.reason.isprintable()
    assert len(verdict.reason) < 1000


@pytest.mark.parametrize("name", TENSORS)
def test_a_hostile_tensor(name: str) -> None:
    raw, telling = TENSORS[name]
    assert_rejected(
        judge(Kind.TRAIN, reply(Kind.TRAIN, arrays={"weights/head.weight": raw})), f"head.weight: .*{telling}"
    )


def test_a_header_that_claims_37_gib_costs_nothing() -> None:
    packet = reply(Kind.TRAIN, arrays={"weights/head.weight": TENSORS["1e10 elements"][0]})
    tracemalloc.start()
    judge(Kind.TRAIN, packet)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize(
    ("arrays", "telling"),
    [
        ({"weights/head.weight": None}, r"missing: \['head.weight'\]; unknown: none"),
        ({"weights/head.bias": None, "weights/head.weight": None}, r"missing: \['head.bias', 'head.weight'\]"),
        ({"weights/extra": encode_array(BIAS)}, r"missing: none; unknown: \['extra'\]"),
        ({"weights/head.bias": None, "weights/Head.bias": encode_array(BIAS)}, r"\['head.bias'\].*\['Head.bias'\]"),
        ({"weights/" + "x" * 5000: encode_array(BIAS)}, "unknown: .*xxx"),
        ({"weights/a\nb": encode_array(BIAS)}, "unknown"),
        ({"weights": encode_array(BIAS)}, "fields that no train reply may carry: arrays:weights"),
        ({"raw_rows": encode_array(BIAS)}, "fields that no train reply may carry: arrays:raw_rows"),
        ({"clusters/centroids": encode_array(BIAS)}, "may carry: arrays:clusters/centroids"),
    ],
)
def test_missing_and_unknown_tensors(arrays: dict[str, object], telling: str) -> None:
    assert_rejected(judge(Kind.TRAIN, reply(Kind.TRAIN, arrays=arrays)), telling)


def test_a_huge_update_of_small_values() -> None:
    pushed = encode_array((WEIGHT + 2).astype(np.float32))
    verdict = judge(Kind.TRAIN, reply(Kind.TRAIN, arrays={"weights/head.weight": pushed}))
    assert_rejected(verdict, r"update norm 6\.93, more than the cap of 5")


def test_the_cap_is_on_the_update_not_on_the_weights() -> None:
    large = {name: value + np.float32(1000) for name, value in MODEL.weights.items()}
    arrays = {f"weights/{name}": encode_array(value) for name, value in large.items()}
    assert isinstance(judge(Kind.TRAIN, reply(Kind.TRAIN, arrays=arrays), base=large), Accepted)


# ---- hostile numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "telling"),
    [
        ({"examples": 1_000_000_000}, "1,000,000,000 examples, allowed are 1 to 10,000"),
        ({"examples": 10**18}, "examples, allowed"),
        ({"examples": 10**5000}, "examples"),
        ({"examples": 0}, "0 examples, allowed are 1 to"),
        ({"examples": -100}, "examples is -100, expected a whole number"),
        ({"examples": 100.0}, r"examples is 100\.0, expected a whole number"),
        ({"examples": NAN}, "examples is nan, expected a whole number"),
        ({"examples": True}, "examples is True, expected a whole number"),
        ({"examples": None}, "examples is None, expected a whole number"),
        ({"examples": 101}, "101 examples, but 100 were declared in the describe round"),
        ({"examples": 99}, "99 examples, but 100 were declared"),
        ({"round": 6}, "round 6, expected 7: a stale reply"),
        ({"round": 8}, "round 8, expected 7"),
        ({"round": 7.0}, r"round 7\.0, expected 7"),
        ({"round": None}, "round None, expected 7"),
        ({"protocol": 2}, "protocol version 2, expected 1"),
        ({"protocol": None}, "protocol version None"),
        ({"protocol": True}, "protocol version True"),
        ({"protocol": 1.0}, r"protocol version 1\.0"),
        ({"train_loss": NAN}, "train_loss is nan, expected a finite number"),
        ({"cluster_loss": INF}, "cluster_loss is inf, expected a finite number"),
        ({"holdout_loss": True}, "holdout_loss is True, expected a finite number"),
        ({"holdout_loss": 10**400}, "holdout_loss is .*, expected a finite number"),
        ({"holdout_loss": 1e300}, "holdout_loss is 1e\\+300, beyond"),
        ({"seconds_train": -INF}, "seconds_train is -inf"),
        ({"seconds_train": 1e300}, "seconds_train is 1e\\+300, beyond"),
        ({"train_loss": -1e12}, "train_loss is -1e\\+12, beyond what can be measured: 0 to"),
        ({"holdout_loss": -5}, "holdout_loss is -5, beyond"),
        ({"cluster_loss": -1}, "cluster_loss is -1, beyond"),
        ({"seconds_train": -1}, "seconds_train is -1, beyond"),
        ({"seconds_evaluate": -1e-9}, "seconds_evaluate is -1e-09, beyond"),
        ({"seconds_cluster": -1.0}, "seconds_cluster is -1, beyond"),
        ({"train_loss": None}, "train_loss is None, expected a finite number"),
        ({"cluster_loss": None}, "cluster_loss is None, expected a finite number"),
        ({"holdout_loss": None}, "holdout_loss is None, expected a finite number"),
        ({"segments": 3}, "fields that no train reply may carry: numbers:segments"),
        ({"score": 0.5}, "fields that no train reply may carry: numbers:score"),
    ],
)
def test_hostile_numbers(numbers: dict[str, object], telling: str) -> None:
    assert_rejected(judge(Kind.TRAIN, reply(Kind.TRAIN, numbers=numbers)), telling)


@pytest.mark.parametrize(
    ("numbers", "telling"),
    [
        ({"calibrated": 1e11}, "calibrated is 1e\\+11, beyond what can be measured: 0 to 1"),
        ({"calibrated": -1}, "calibrated is -1, beyond"),
        ({"calibrated": 0.5}, r"calibrated is 0\.5, expected 0 or 1"),
        ({"calibrated": None}, "calibrated is None, expected a finite number"),
        ({"holdout_loss": None}, "holdout_loss is None, expected a finite number"),
        ({"holdout_loss": -5.0}, "holdout_loss is -5, beyond"),
    ],
)
def test_hostile_numbers_of_a_calibration(numbers: dict[str, object], telling: str) -> None:
    assert_rejected(judge(Kind.CALIBRATE, reply(Kind.CALIBRATE, numbers=numbers)), telling)


def test_numbers_at_the_edge_of_what_can_be_measured() -> None:
    """A divergence may round below nothing; a plant may be learnt perfectly in no time."""
    edge = {"train_loss": 0.0, "holdout_loss": 0, "cluster_loss": -1e-7, "seconds_train": 0.0}
    assert isinstance(judge(Kind.TRAIN, reply(Kind.TRAIN, numbers=edge)), Accepted)
    assert isinstance(judge(Kind.CALIBRATE, reply(Kind.CALIBRATE, numbers={"calibrated": 0})), Accepted)


@pytest.mark.parametrize("kind", list(Kind))
def test_bool_numbers_are_no_numbers(kind: Kind) -> None:
    """True equals 1 in Python: round 1 of a bool is not round 1."""
    packet = reply(kind, numbers={"round": True})
    assert_rejected(judge(kind, packet, round=1), "round True, expected 1")


# ---- hostile texts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "telling"),
    [
        ({"run": "other"}, "run 'other', expected 'run'"),
        ({"run": None}, "run 'None', expected 'run'"),
        ({"kind": "cluster"}, "kind 'cluster', expected 'train'"),
        ({"kind": "ransom\n"}, "kind 'ransom.n', expected 'train'"),
        ({"plant": "south"}, "plant 'south', expected 'north'"),
        ({"plant": "x" * 5000}, "plant 'xxx.*', expected 'north'"),
        ({"plant": None}, "plant 'None', expected 'north'"),
        ({"model": "0" * 64}, "another global model than was sent: a stale reply"),
        ({"model": None}, "another global model than was sent: a stale reply"),
        ({"refused": "CP-204 TooFewRows"}, "^refused by the plant: CP-204 TooFewRows$"),
        ({"refused": "CP-204", "model": None}, "^refused by the plant: CP-204$"),
        ({"refused": "x" * 100_000}, "^refused by the plant: x{200}$"),
        ({"refused": "CP-1\nERROR all is lost\x1b[31m"}, "refused by the plant: CP-1.ERROR all is lost"),
        ({"refused": "y" * 3_000_000}, "a text of more than 2,000,000 characters"),
        ({"schema": SCHEMA.json.decode()}, "fields that no train reply may carry: texts:schema"),
        ({"note\n": "x"}, r"fields that no train reply may carry: texts:note\?"),
    ],
)
def test_hostile_texts(texts: dict[str, object], telling: str) -> None:
    assert_rejected(judge(Kind.TRAIN, reply(Kind.TRAIN, texts=texts)), telling)


def test_an_empty_packet() -> None:
    assert_rejected(judge(Kind.TRAIN, Packet()), "protocol version None")


# ---- hostile statistics ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.TRAIN, Kind.CLUSTER])
@pytest.mark.parametrize(
    ("arrays", "numbers", "telling"),
    [
        ({"cluster_sums": None}, {}, "cluster_sums is missing"),
        ({"cluster_counts": None}, {}, "cluster_counts is missing"),
        ({}, {"cluster_spread": None}, "cluster_spread is None"),
        ({"cluster_sums": encode_array(np.full((K, Z), NAN))}, {}, "not finite"),
        ({"cluster_counts": encode_array(np.full(K, NAN))}, {}, "not finite"),
        ({"cluster_counts": encode_array(np.full(K, INF))}, {}, "not finite"),
        ({}, {"cluster_spread": NAN}, "cluster_spread is nan"),
        ({}, {"cluster_spread": -1.0}, "cluster_spread"),
        ({"cluster_sums": encode_array(np.zeros((1, Z)))}, {}, r"shape \(1, 2\), expected \(3, 2\)"),
        ({"cluster_sums": encode_array(np.zeros((K, Z), np.float32))}, {}, "dtype <f4, expected <f8"),
        ({"cluster_counts": encode_array(np.zeros((K, 1)))}, {}, r"shape \(3, 1\), expected \(3,\)"),
        ({"cluster_counts": encode_array(np.asarray([4.0, 3.0, -1.0]))}, {}, "larger than their counts|negative"),
        ({"cluster_sums": encode_array(np.full((K, Z), 4.0))}, {}, "cluster sums larger than their counts allow"),
        ({"cluster_counts": encode_array(np.asarray([0, 0, 11.0]))}, {}, "cluster sums larger than their counts allow"),
        ({"cluster_counts": encode_array(np.zeros(K))}, {}, "counts of 0 segments, but 11 were declared"),
        ({"cluster_counts": encode_array(np.full(K, 20.0))}, {}, "counts of 60 segments, but 11 were declared"),
        ({"cluster_counts": encode_array(np.full(K, 11.001 / 3))}, {}, r"11\.001 segments, but 11 were declared"),
        ({"cluster_counts": encode_array(np.full(K, 1e308))}, {}, "segments"),
        ({"cluster_sums": encode_array(np.full((K, Z), 1e300))}, {}, "cluster sums larger than their counts allow"),
        ({}, {"cluster_spread": 11 * RADIUS**2 * 1.01}, "cluster_spread"),
        ({}, {"cluster_spread": 1e300}, "cluster_spread"),
    ],
)
def test_hostile_statistics(kind: Kind, arrays: dict[str, object], numbers: dict[str, object], telling: str) -> None:
    assert_rejected(judge(kind, reply(kind, arrays=arrays, numbers=numbers)), telling)


@pytest.mark.parametrize("counts", [[-1.0, 0.0, 0.0], [-1e-9, 1.0, 1.0]])
def test_negative_counts_with_no_sums(counts: list[float]) -> None:
    arrays = {"cluster_counts": encode_array(np.asarray(counts)), "cluster_sums": encode_array(np.zeros((K, Z)))}
    packet = reply(Kind.CLUSTER, arrays=arrays, numbers={"cluster_spread": 0.0})
    assert_rejected(judge(Kind.CLUSTER, packet), "negative")


def test_even_without_a_radius_no_sum_can_overflow() -> None:
    packet = reply(Kind.CLUSTER, arrays={"cluster_sums": encode_array(np.full((K, Z), 1e300))})
    assert_rejected(judge(Kind.CLUSTER, packet, radius=INF), "cluster sums larger than their counts allow")


# ---- hostile descriptions --------------------------------------------------------------------------------------------


def manifest(*rows: object) -> str:
    return json.dumps(rows)


@pytest.mark.parametrize(
    ("texts", "telling"),
    [
        ({"schema": None}, "unreadable schema or manifest"),
        ({"manifest": None}, "unreadable schema or manifest"),
        ({"schema": "{"}, "unreadable"),
        ({"schema": '{"tags": [], "period_s": 1}'}, "unreadable"),
        ({"schema": '{"tags": ["a"], "period_s": 1, "more": 2}'}, "unreadable"),
        ({"schema": '{"tags": ' + "[" * 100_000 + "]" * 100_000 + ', "period_s": 1}'}, "unreadable"),
        ({"schema": "x" * 3_000_000}, "a text of more than 2,000,000 characters"),
        ({"manifest": "[" * 100_000 + "]" * 100_000}, "unreadable"),
        ({"manifest": '{"a":' * 50_000 + "1" + "}" * 50_000}, "unreadable"),
        ({"manifest": "3"}, "unreadable"),
        ({"manifest": "null"}, "unreadable"),
        ({"manifest": "[]"}, "unreadable"),
        ({"manifest": "[1, 2]"}, "unreadable"),
        ({"manifest": manifest(["a", [3]])}, "unreadable"),
        ({"manifest": manifest(["a", 3, 0.5])}, "unreadable"),
        ({"manifest": manifest(["a", "33", 0.5])}, "unreadable"),
        ({"manifest": manifest([7, [3], 0.5])}, "unreadable"),
        ({"manifest": manifest(["", [3], 0.5])}, "unreadable"),
        ({"manifest": manifest(["a\ud800", [3], 0.5])}, "unreadable"),
        ({"manifest": manifest(["a", [3], 0.5], ["a", [4], 0.5])}, "unreadable"),
        ({"manifest": manifest(["a", [0], 0.5])}, "unreadable"),
        ({"manifest": manifest(["a", [-3, -3], 0.5])}, "unreadable"),
        ({"manifest": manifest(["a", [2.5], 0.5])}, "unreadable"),
        ({"manifest": manifest(["a", [INF], 0.5])}, "unreadable"),
        ({"manifest": manifest(["a", [10**10], 0.5])}, "unreadable"),
        ({"manifest": manifest(["a", [1] * 100, 0.5])}, "unreadable"),
        ({"manifest": manifest(["a", [3], NAN])}, "unreadable"),
        ({"manifest": manifest(["a", [3], 1e9])}, "unreadable"),
        ({"manifest": manifest(["a", [3], 10**400])}, "unreadable"),
        ({"manifest": manifest(["a", [3], "0.5"])}, "unreadable"),
        ({"manifest": '[["a", [' + "9" * 5000 + "], 0.5]]"}, "unreadable"),
        ({"model": "x"}, "fields that no describe reply may carry: texts:model"),
    ],
)
def test_hostile_descriptions(texts: dict[str, object], telling: str) -> None:
    assert_rejected(judge(Kind.DESCRIBE, reply(Kind.DESCRIBE, texts=texts)), telling)


@pytest.mark.parametrize(
    ("numbers", "telling"),
    [
        ({"segments": -1}, "segments is -1"),
        ({"segments": 2.0}, "segments is 2.0"),
        ({"segments": None}, "segments is None"),
        ({"segments": 0}, "0 segments in 100 windows"),
        ({"segments": 101}, "101 segments .* 100 windows"),
        ({"examples": 10**9}, "1,000,000,000 examples, allowed are 1 to 10,000"),
        ({"examples": 0}, "0 examples"),
    ],
)
def test_hostile_sizes_in_a_description(numbers: dict[str, object], telling: str) -> None:
    assert_rejected(judge(Kind.DESCRIBE, reply(Kind.DESCRIBE, numbers=numbers)), telling)


@pytest.mark.parametrize(
    ("name", "called"),
    [(None, "node 4"), ("", "node 4"), ("a\nb", "node 4"), ("\ud800", "node 4"), ("x" * 5000, "x" * 64)],
)
def test_a_description_without_a_usable_name_is_told_by_its_node(name: str | None, called: str) -> None:
    assert_rejected(judge(Kind.DESCRIBE, reply(Kind.DESCRIBE, texts={"plant": name})), "plant .*, expected", called)


def test_a_manifest_survives_its_text() -> None:
    odd = (TensorSpec("a.b", (), 0.25), TensorSpec("c", (2, 3, 4), 1 / 3))
    packet = reply(Kind.DESCRIBE, texts={"manifest": encode_manifest(odd)})
    assert judge(Kind.DESCRIBE, packet).description.manifest == odd
