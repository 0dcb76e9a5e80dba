"""Whoever changes these numbers says so: see README.md beside this file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.golden.traces import FOLDER, TRACES

RELATIVE, ABSOLUTE = 1e-3, 1e-4


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from leaves(value, f"{path}/{i}")
    else:
        yield path, tree


@pytest.mark.parametrize("name", TRACES)
def test_the_trace_is_the_one_that_is_kept(name: str) -> None:
    kept = dict(leaves(json.loads((FOLDER / name).read_text(encoding="utf-8"))))
    made = dict(leaves(json.loads(json.dumps(TRACES[name]()))))
    assert list(made) == list(kept)
    for path, value in kept.items():
        if isinstance(value, float):
            assert made[path] == pytest.approx(value, rel=RELATIVE, abs=ABSOLUTE), path
        else:
            assert made[path] == value, path


def test_the_loss_curve_falls() -> None:
    losses = json.loads((FOLDER / "loss_curve.json").read_text(encoding="utf-8"))["loss"]
    assert len(losses) == 20
    assert losses[-1] < 0.5 * losses[0]


def test_the_centroid_trace_has_every_round() -> None:
    rounds = json.loads((FOLDER / "centroid_trace.json").read_text(encoding="utf-8"))["rounds"]
    assert [r["round"] for r in rounds] == [
        "cluster: seed 4/4",
        "cluster: refine 1/3",
        "cluster: refine 2/3",
        "cluster: refine 3/3",
        "joint: train 1/3",
        "joint: refresh 1/1",
        "joint: train 2/3",
        "joint: refresh 1/1",
        "joint: train 3/3",
        "joint: refresh 1/3",
        "joint: refresh 2/3",
        "joint: refresh 3/3",
    ]
