"""SECOM in a federation by time: an ensemble of WGAN-GPs, gaps filled from lots alike, faults of the training half."""

from __future__ import annotations

import json
from pathlib import Path

from client.ingest.folder import read_site
from shared.model import parse_model
from tests.conftest import real
from tests.support.command import crossplant_here
from tests.unit.test_secom import write

FLAGS = [
    "--dataset", "secom", "--window", "2", "--clusters", "2",
    "--set", "recipe.detector.name=ewad", "--set", "recipe.detector.hidden=16", "--set", "recipe.detector.latent=4",
    "--set", "recipe.preprocess.impute=knn", "--set", "recipe.preprocess.max_z=3",
    "--set", "recipe.scoring.evidence=false", "--set", "recipe.lag.on=false",
]  # fmt: skip


def members_of(run: Path) -> list[bytes]:
    """The first layer of each member's generator in the last model."""
    newest = max((run / "models").glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    weights = parse_model(newest.read_bytes()).weights
    return [weights[name].tobytes() for name in sorted(weights) if name.endswith("generator.0.weight")]


def test_secom_runs_end_to_end_with_a_member_a_site(tmp_path: Path) -> None:
    data, out = tmp_path / "secom", tmp_path / "run"
    data.mkdir()
    write(data, lots=240, fails=(*range(5, 120, 12), 130, 200))
    sizes = ["--sites", "2", "--set", "recipe.detector.members=2"]
    done = crossplant_here("simulate", "--out", out, "--rounds", "2", *FLAGS, *sizes, "--data", data)
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results.json").read_text())
    assert [site["site"] for site in results["sites"]] == ["secom-t1", "secom-t2"]
    assert 0 <= results["macro"]["auprc"] <= 1
    faults = [read_site(folder).faults_TD for folder in sorted((out / "plants").iterdir())]
    assert [len(rows) for rows in faults if rows is not None] == [5, 5]
    assert len(set(members_of(out))) == 2


def test_the_real_line_runs_end_to_end(data_root: Path, tmp_path: Path) -> None:
    sizes = ["--sites", "4", "--data", real(data_root, "secom")]
    done = crossplant_here("simulate", "--out", tmp_path / "run", "--rounds", "3", *FLAGS, *sizes)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert 0 < results["macro"]["auprc"] < 1
    assert len(set(members_of(tmp_path / "run"))) == 4
