from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from client.agent.adapters import MODELS, RUNS, AdapterBook
from shared.config import DetectorConfig
from shared.detectors.adapter import Adapted
from shared.model import Weights

SMALL = DetectorConfig(window=4, hidden=2, latent=2, layers=1)


def trunk(number: float) -> Weights:
    return {"w": np.array([number], np.float32)}


def detector() -> Adapted:
    return Adapted(SMALL, ("LIT101", "FIT101"), 3)


def trained(book: AdapterBook, model: float, by: float = 1.0, run: str = "r") -> Weights:
    """A training that moves everything by so much: what it left."""
    made, start = detector(), detector().own_weights()
    book.load(made, start, run, trunk(model))
    with torch.no_grad():
        for parameter in made.adapter.parameters():
            parameter.add_(by)
    book.keep(made, start, run, trunk(model))
    return made.own_weights()


def met(book: AdapterBook, model: float, run: str = "r") -> float:
    """How far the adapter that a model meets is from the start."""
    made, start = detector(), detector().own_weights()
    book.load(made, start, run, trunk(model))
    name = "adapter.inlet.bias"
    return float((made.own_weights()[name] - start[name]).mean())


@pytest.fixture(params=["disk", "memory"])
def book(request: pytest.FixtureRequest, tmp_path: Path) -> AdapterBook:
    return AdapterBook(tmp_path / "a" if request.param == "disk" else None)


def test_a_model_that_is_new_meets_the_newest_and_one_that_comes_again_what_it_met(book: AdapterBook) -> None:
    assert met(book, 1.0) == 0.0
    for model in (1.0, 2.0, 3.0):
        trained(book, model)
    assert [met(book, model) for model in (4.0, 3.0, 2.0, 1.0)] == [3.0, 2.0, 1.0, 0.0]


def test_training_that_is_asked_again_leaves_the_same(book: AdapterBook) -> None:
    trained(book, 1.0)
    once, again = trained(book, 2.0), trained(book, 2.0)
    for name, value in once.items():
        np.testing.assert_array_equal(value, again[name])
    assert met(book, 3.0) == 2.0


def test_runs_do_not_meet(book: AdapterBook) -> None:
    trained(book, 1.0, run="one")
    assert met(book, 2.0, run="other") == 0.0
    assert met(book, 2.0, run="one") == 1.0


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    book = AdapterBook(tmp_path)
    for model in range(MODELS + 3):
        trained(book, float(model))
    assert met(book, 0.0) == met(book, -1.0) == MODELS + 3  # it is forgotten, and meets the newest
    assert met(book, 3.0) == 3.0
    for number in range(RUNS + 1):
        trained(book, 1.0, run=f"run {number}")
    assert len(list(tmp_path.iterdir())) == RUNS
    assert met(book, -1.0) == 0.0


def test_training_that_diverged_leaves_nothing(book: AdapterBook) -> None:
    trained(book, 1.0)
    trained(book, 2.0, by=float("nan"))
    assert met(book, 3.0) == 1.0


def test_another_set_of_tags_begins_anew(book: AdapterBook) -> None:
    trained(book, 1.0)
    other = Adapted(SMALL, ("LIT101",), 3)
    start = other.own_weights()
    book.load(other, start, "r", trunk(2.0))
    for name, value in start.items():
        np.testing.assert_array_equal(other.own_weights()[name], value)


def test_a_file_that_is_none_is_told_and_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book = AdapterBook(tmp_path)
    trained(book, 1.0)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    assert met(book, 2.0) == 0.0
    assert "is lost" in caplog.text


def test_a_full_disk_does_not_stop_a_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    trained(AdapterBook(tmp_path / "taken"), 1.0)
    assert "cannot keep the plant's adapter" in caplog.text
