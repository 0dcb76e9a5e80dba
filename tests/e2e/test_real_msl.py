"""The real MSL channels of NASA's rover, as 27 sites, and as 7 subsystems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import real
from tests.support.command import crossplant_here


@pytest.mark.parametrize(
    ("partition", "sites"),
    [("by-channel", 27), pytest.param("by-subsystem", 7, marks=pytest.mark.soak)],  # the other way to the same sites
)
def test_msl_trains_in_three_rounds(partition: str, sites: int, data_root: Path, tmp_path: Path) -> None:
    data, run = real(data_root, "telemanom"), tmp_path / "run"
    flags = [
        "--dataset",
        "msl",
        "--data",
        data,
        "--partition",
        partition,
        "--rounds",
        "3",
        "--stride",
        "24",
        "--set",
        "recipe.detector.hidden=16",
    ]
    done = crossplant_here("simulate", *flags, "--out", run)
    assert done.returncode == 0, done.stderr
    rounds = json.loads(crossplant_here("rounds", "list", "--store", run, "--json").stdout)["rounds"]
    assert all(len(r["plants"]) == sites for r in rounds)
    results = json.loads((run / "results.json").read_text())
    assert len(results["sites"]) == sites
    assert sum(s["train_rows"] for s in results["sites"]) == 58_317
    assert sum(s["test_rows"] for s in results["sites"]) == 73_729
    # Point adjustment flatters: a random score reaches this with no knowledge of the data at all.
    assert results["macro"]["point_adjusted_f1_random"] > 0.8
