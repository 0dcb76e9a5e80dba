from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from shared.errors import ModelCorrupt
from shared.model import Clusters, GlobalModel, TensorSpec, initial_weights, parse_model, read_model

EXPECTED_BIAS = [-0.0835450068116188, 0.47294923663139343, 0.45024245977401733]
MANIFEST = (TensorSpec("head.bias", (3,), 0.5), TensorSpec("head.weight", (3, 4), 0.1))
CLUSTERS = Clusters(
    centroids_KZ=np.asarray([[0.1, -1.0], [1.0, 3e-8]], np.float32),
    frequency_K=np.asarray([0.7, 0.3], np.float32),
    active_K=np.asarray([True, False]),
    misses_K=np.asarray([0, 5]),
    radius=0.1 + 0.2,
)


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"head.weight": rng.normal(size=(3, 4)).astype(np.float32), "head.bias": np.zeros(3, np.float32)}


def tensors(**changes: object) -> dict[str, np.ndarray]:
    """A model file's tensors; None leaves one out."""
    whole = dict(safetensors.numpy.load(GlobalModel(weights(), CLUSTERS).file_bytes))
    whole |= {name.replace("__", "/"): value for name, value in changes.items()}
    return {name: np.asarray(value) for name, value in whole.items() if value is not None}


def _with_dtype(name: str) -> bytes:
    """A safetensors file of a dtype that NumPy does not have."""
    header = json.dumps({"weights/a": {"dtype": name, "shape": [4], "data_offsets": [0, 8 if name == "BF16" else 4]}})
    return len(header).to_bytes(8, "little") + header.encode() + b"\x00" * (8 if name == "BF16" else 4)


@pytest.mark.parametrize("clusters", [None, CLUSTERS])
def test_a_model_file_comes_back_to_the_bit(clusters: Clusters | None) -> None:
    model = GlobalModel(weights(), clusters)
    again = parse_model(model.file_bytes)
    assert list(again.weights) == ["head.bias", "head.weight"]
    for name, value in model.weights.items():
        assert again.weights[name].tobytes() == value.tobytes()
        assert again.weights[name].shape == value.shape
    assert (again.clusters is None) == (clusters is None)
    if again.clusters is not None:
        for part in ("centroids_KZ", "frequency_K", "active_K", "misses_K"):
            np.testing.assert_array_equal(getattr(again.clusters, part), getattr(CLUSTERS, part))
        assert again.clusters.radius == CLUSTERS.radius
        assert again.clusters.active_K.dtype == bool
    assert (again.file_bytes, again.digest) == (model.file_bytes, model.digest)


def test_the_digest_knows_every_part_and_no_order() -> None:
    model = GlobalModel(weights(), CLUSTERS)
    assert GlobalModel(dict(reversed(weights().items())), CLUSTERS).digest == model.digest
    moved = weights()
    moved["head.bias"] = np.nextafter(moved["head.bias"], np.float32(1))
    renamed = {("tail.bias" if name == "head.bias" else name): value for name, value in weights().items()}
    masked = Clusters(**{**vars(CLUSTERS), "active_K": np.asarray([True, True])})
    others = [GlobalModel(moved, CLUSTERS), GlobalModel(renamed, CLUSTERS), GlobalModel(weights(), masked)]
    others += [GlobalModel(weights(), None), GlobalModel(weights(1), CLUSTERS)]
    assert len({model.digest, *(other.digest for other in others)}) == 6


def test_the_memory_layout_is_not_part_of_the_model() -> None:
    fortran = {name: np.asfortranarray(value) for name, value in weights().items()}
    assert GlobalModel(fortran, CLUSTERS).digest == GlobalModel(weights(), CLUSTERS).digest


def test_a_single_number_keeps_its_shape() -> None:
    model = GlobalModel({"temperature": np.float32(0.5) * np.ones((), np.float32)})
    assert parse_model(model.file_bytes).weights["temperature"].shape == ()


def test_parameters_are_counted_with_the_centroids() -> None:
    assert GlobalModel(weights(), None).parameter_count == 15
    assert GlobalModel(weights(), CLUSTERS).parameter_count == 19


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        b"\xff" * 64,
        GlobalModel(weights(), CLUSTERS).file_bytes[:-1],
        GlobalModel(weights(), CLUSTERS).file_bytes[:20],
        GlobalModel(weights(), CLUSTERS).file_bytes + b"x",
        safetensors.numpy.save({}),
        safetensors.numpy.save({"model.layer.weight": np.zeros(3, np.float32)}),
        safetensors.numpy.save({"weights/a": np.zeros(3, np.int64)}),
        safetensors.numpy.save({"weights/a": np.zeros(3, np.float64)}),
        _with_dtype("BF16"),
        _with_dtype("F8_E4M3"),
        safetensors.numpy.save(tensors(clusters__centroids=None)),
        safetensors.numpy.save(tensors(clusters__frequency=None)),
        safetensors.numpy.save(tensors(clusters__misses=np.zeros(3, np.int64))),
        safetensors.numpy.save(tensors(clusters__centroids=np.zeros(2, np.float32))),
        safetensors.numpy.save(tensors(clusters__centroids=np.float32(1.0))),
        safetensors.numpy.save(tensors(clusters__radius=np.zeros(0))),
        safetensors.numpy.save(tensors(clusters__radius=np.float64(1.0))),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_what_is_no_model_file_is_refused(data: bytes) -> None:
    with pytest.raises(ModelCorrupt, match="the file at hand") as caught:
        parse_model(data, "the file at hand")
    assert str(caught.value).startswith("CP-404")


def test_every_truncation_is_refused() -> None:
    whole = GlobalModel(weights(), CLUSTERS).file_bytes
    for length in range(0, len(whole), 7):
        with pytest.raises(ModelCorrupt):
            parse_model(whole[:length])


def test_reading_checks_the_digest(tmp_path: Path) -> None:
    model = GlobalModel(weights(), CLUSTERS)
    path = tmp_path / f"{model.digest}.safetensors"
    path.write_bytes(model.file_bytes)
    assert read_model(path).digest == model.digest
    assert read_model(path, model.digest).digest == model.digest
    with pytest.raises(ModelCorrupt, match="expected 000000000000"):
        read_model(path, "0" * 64)
    flipped = bytearray(model.file_bytes)
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ModelCorrupt, match="changed or cut short"):
        read_model(path)
    with pytest.raises(ModelCorrupt, match=r"cannot read .*nowhere"):
        read_model(tmp_path / "nowhere.safetensors")


def test_initial_weights_are_the_same_everywhere() -> None:
    first, again = initial_weights(MANIFEST, 7), initial_weights(tuple(reversed(MANIFEST)), 7)
    assert list(first) == list(again) == ["head.bias", "head.weight"]
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    # The very numbers: a server of another version must start a run from the same model.
    np.testing.assert_allclose(first["head.bias"], EXPECTED_BIAS, rtol=1e-6)


def test_initial_weights_stay_in_their_bounds_and_fill_them() -> None:
    spec = TensorSpec("big", (100, 100), 0.25)
    values = initial_weights((spec,), 0)["big"]
    assert values.shape == spec.shape
    assert values.dtype == np.float32
    assert 0.249 < np.abs(values).max() <= 0.25
    assert abs(values.mean()) < 0.01


def test_initial_weights_depend_on_the_seed_and_on_the_name_only() -> None:
    twins = (TensorSpec("a", (8,), 1.0), TensorSpec("b", (8,), 1.0))
    drawn, other = initial_weights(twins, 0), initial_weights(twins, 1)
    assert not np.array_equal(drawn["a"], drawn["b"])
    assert not np.array_equal(drawn["a"], other["a"])
    np.testing.assert_array_equal(initial_weights(twins[:1], 0)["a"], drawn["a"])
