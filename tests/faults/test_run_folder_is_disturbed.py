"""Somebody changes a run folder between two commands, or two commands want the same one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from server.store.store import RoundStore
from shared.config import build
from shared.errors import StoreBusy
from simulations import simulate as simulation
from simulations.rundir import RunFolder
from tests.support.command import crossplant_here, simulate_here


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("disturbed") / "run"
    done = simulate_here(run, "--sites", "3", rounds=1)
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_site_without_a_bundle_is_named_and_the_others_are_measured(run: Path) -> None:
    shutil.rmtree(run / "bundles" / "plant-2.bundle")
    done = crossplant_here("simulate", "--resume", run)
    assert done.returncode == 0, done.stderr
    assert "plant-2: not measured: CP-601" in done.stdout
    results = json.loads((run / "results.json").read_text())
    assert [site["site"] for site in results["sites"]] == ["plant-1", "plant-3"]
    assert "plant-2: not measured" in (run / "report.html").read_text()


def test_no_bundle_at_all_is_an_error(run: Path) -> None:
    shutil.rmtree(run / "bundles")
    done = crossplant_here("simulate", "--resume", run)
    assert done.returncode == 1
    assert done.stderr.startswith("CP-601")


@pytest.mark.parametrize("change", ["other values", "gone"])
def test_other_training_data_than_the_run_began_with_is_refused(run: Path, change: str) -> None:
    rows = run / "plants" / "plant-2" / "train.npy"
    if change == "gone":
        shutil.rmtree(rows.parent)
    else:
        np.save(rows, np.load(rows) * 100 + 7)
    done = crossplant_here("simulate", "--resume", run)
    assert done.returncode == 1
    assert done.stderr.startswith("CP-202")
    assert "plant-2" in done.stderr


def test_a_moved_run_can_be_listed_and_resumed(run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / "elsewhere")
    assert crossplant_here("rounds", "list", "--store", moved).returncode == 0
    assert crossplant_here("simulate", "--resume", moved).returncode == 0


def test_a_run_that_cannot_be_prepared_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: RunFolder, sites: object) -> dict[str, str]:
        self.plants.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "write_plants", interrupted)
    assert simulate_here(tmp_path / "run").returncode == 130
    assert not (tmp_path / "run").exists()


def test_a_folder_that_another_run_is_taking_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, origin = build({"test": {"data": {"rows": 400}, "recipe": {"detector": {"window": 8}}}})
    folder = RunFolder(tmp_path / "run")
    with RoundStore.create(str(folder.root)) as store, store.lock():
        monkeypatch.setattr(RunFolder, "check_free", lambda self: None)  # It was free a moment ago.
        with pytest.raises(StoreBusy):
            simulation.begin(config, origin, folder)
    assert folder.root.exists()
