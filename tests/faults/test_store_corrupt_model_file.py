"""Fault: a model file of the store was cut short, changed, swapped or removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from server.store.models import MODEL, MOMENTS, OPTIMIZER, ModelFiles
from server.store.store import RoundStore
from shared.errors import ModelCorrupt
from tests.support.stores import filled, model


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _swap(path: Path) -> None:
    path.write_bytes(model(99).file_bytes)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path], object]] = [
    lambda path: path.write_bytes(path.read_bytes()[:-7]),
    lambda path: path.write_bytes(b""),
    Path.unlink,
    _flip,
    _swap,
    _make_folder,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_named_and_the_rest_is_readable(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    filled(tmp_path)
    damage(ModelFiles(tmp_path / "models").path(model(3).digest))
    store = RoundStore.open(str(tmp_path))
    for read in (lambda: store.model("a", 3), lambda: store.latest_state("a"), lambda: store.state_at("a", 3)):
        with pytest.raises(ModelCorrupt, match=model(3).digest[:12]):
            read()
    assert store.model("a", 2).digest == model(2).digest
    assert len(store.rounds("a")) == 3


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_optimiser_moments_are_named(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    store = filled(tmp_path, adam=True)
    for path in (tmp_path / "models").glob(f"*{OPTIMIZER}"):
        damage(path)
    with pytest.raises(ModelCorrupt, match=OPTIMIZER):
        store.latest_state("a")
    assert store.model("a", 3).digest == model(3).digest


def test_a_file_with_the_right_digest_that_is_no_model(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    other = safetensors.numpy.save({"other": np.zeros(3)})
    for suffix, read, told in (
        (MODEL, files.get, MODEL),
        (OPTIMIZER, files.get_optimizer, "does not hold optimiser moments"),
        (MOMENTS, files.get_moments, "does not hold moments"),
    ):
        for data in (b"no safetensors", other):
            with pytest.raises(ModelCorrupt, match=told):
                read(files.put_bytes(data, suffix))
