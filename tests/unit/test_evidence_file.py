"""A judge's file: it comes back as it was, and whatever is wrong with one is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.numpy

from shared.errors import BundleInvalid
from shared.evidence.file import MAGIC, from_bytes, to_bytes
from tests.unit.test_evidence import JUDGE, normal, plant, scores

Arrays = dict[str, np.ndarray]
DATA = to_bytes(JUDGE)


def taken_apart() -> tuple[dict[str, object], Arrays]:
    head, numbers = DATA[len(MAGIC) :].split(b"\n", 1)
    return json.loads(head), {name: array.copy() for name, array in safetensors.numpy.load(numbers).items()}


def put_together(head: dict[str, object], arrays: Arrays) -> bytes:
    numbers = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    signed = {**head, "digest": hashlib.sha256(numbers).hexdigest()}
    return MAGIC + json.dumps(signed).encode() + b"\n" + numbers


def test_a_judge_comes_back_and_scores_alike() -> None:
    found, live = from_bytes(DATA), normal(plant(90, 7))
    np.testing.assert_array_equal(scores(found, live), scores(JUDGE, live))
    assert to_bytes(found) == DATA == put_together(*taken_apart()) or to_bytes(found) == DATA


def test_a_judge_without_a_network_comes_back() -> None:
    head, arrays = taken_apart()
    shorter = {n: a[:-2] if n.startswith("scale") else a for n, a in arrays.items() if not n.startswith("network")}
    shorter["scale.weight"] = shorter["scale.weight"] / shorter["scale.weight"].sum()
    assert from_bytes(put_together(head, shorter)).models.network is None


def change(name: str, to: Callable[[np.ndarray], np.ndarray]) -> Callable[[], bytes]:
    def made() -> bytes:
        head, arrays = taken_apart()
        return put_together(head, arrays | {name: to(arrays[name])})

    return made


def headed(**fields: object) -> Callable[[], bytes]:
    return lambda: put_together(taken_apart()[0] | fields, taken_apart()[1])


def _poked(array: np.ndarray, value: float) -> np.ndarray:
    array.flat[0] = value
    return array


def _missing() -> bytes:
    head, arrays = taken_apart()
    del arrays["step.mean"]
    return put_together(head, arrays)


def _more() -> bytes:
    head, arrays = taken_apart()
    return put_together(head, arrays | {"other": np.zeros(3)})


DAMAGES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "another file": lambda: b"crossplant lag model 1\n" + DATA[len(MAGIC) :],
    "a judge that smoothed otherwise": lambda: b"crossplant judge 1\n" + DATA[len(MAGIC) :],
    "cut short": lambda: DATA[:-9],
    "longer": lambda: DATA + b"\0",
    "one bit": lambda: DATA[:-20] + bytes([DATA[-20] ^ 1]) + DATA[-19:],
    "no head": lambda: MAGIC + b"\n",
    "head without an end": lambda: MAGIC + b"{" * 70_000,
    "deep head": lambda: MAGIC + b"[" * 60_000 + b"\n",
    "array missing": _missing,
    "array too many": _more,
    "float32 in float64's place": change("joint.mean", lambda a: a.astype(np.float32)),
    "other tags": change("step.tails", lambda a: a[:-1]),
    "flat precision": change("joint.precision", lambda a: a.ravel()),
    "not finite": change("shape.prototypes", lambda a: _poked(a, np.nan)),
    "not symmetric": change("step.precision", lambda a: np.triu(a) * 2),
    "not positive definite": change("network.precision", lambda a: -a),
    "no tail": change("step.tails", lambda a: 0 * a),
    "no spread": change("scale.spread", lambda a: _poked(a, 0.0)),
    "weights of a little more than 1": change("scale.weight", lambda a: a * (1 + 1e-6)),
    "weights of 2": change("scale.weight", lambda a: 2 * a),
    "a negative weight": change("scale.weight", lambda a: a - 2 * np.eye(len(a))[0] + 2 * np.eye(len(a))[1]),
    "no trail": change("scale.trail", lambda a: 0 * a),
    "endless trail": change("scale.trail", lambda a: a + 10**12),
    "tag out of range": change("shape.columns", lambda a: a + 9),
    "tag below 0": change("shape.columns", lambda a: a - 1),
    "tag twice": change("shape.columns", lambda a: 0 * a),
    "no prototype": change("shape.prototypes", lambda a: a[:, :0]),
    "lengths descend": headed(lengths=[6, 3, 6]),
    "other lengths": headed(lengths=[3, 7]),
    "a length too many": headed(lengths=[2, 3, 6]),
    "no length": headed(lengths=[]),
    "score's trail 0": headed(trail=0),
    "unknown field": headed(code="x"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_by_name(damage: str) -> None:
    with pytest.raises(BundleInvalid, match="north"):
        from_bytes(DAMAGES[damage](), "north")
