"""`crossplant study` as a user runs it: processes of its own, killed and continued."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.conftest import real
from tests.support.command import crossplant, crossplant_here, start
from tests.support.study import FLAGS


def mill(root: Path) -> Path:
    """Two plants' own exports with a column of labels, as no loader but the historian's knows them."""
    for plant in (1, 2):
        folder = root / "mill" / f"line-{plant}"
        folder.mkdir(parents=True)
        rng, attacks = np.random.default_rng(plant), range(500, 530)
        lines = ["time;flow;level;state"]
        for t in range(700):
            flow = np.sin(t / 9) + rng.normal(0, 0.05) + (3 if t in attacks else 0)
            level = np.cos(t / 9) + rng.normal(0, 0.05)
            stamp = f"2024-03-{1 + t // 288:02d} {t // 12 % 24:02d}:{t % 12 * 5:02d}:00"
            lines.append(f"{stamp};{flow:.4f};{level:.4f};{'attack' if t in attacks else 'normal'}")
        (folder / "export.csv").write_text("\n".join(lines))
        (folder / "historian.toml").write_text('label = "state"\ntest_from = 2024-03-02T12:00:00\n')
    return root


def results(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "results.json").read_text())
    return content


def test_a_plants_own_export_is_a_data_set_and_the_same_command_continues(tmp_path: Path) -> None:
    root, out = mill(tmp_path / "data"), tmp_path / "out"
    command = ["study", "--datasets", "mill", "--data", root, "--detectors", "cnn-lstm,pca", "--seeds", "1"]
    command += ["--modes", "federated,central", "--rounds", "2", "--out", out, *FLAGS]
    done = crossplant(*command)
    assert done.returncode == 0, done.stderr
    found = results(out)
    assert found["error"] == []
    ways = {(row["detector"], row["mode"]) for row in found["rows"]}
    assert len(ways) == 3
    assert len(found["rows"]) == 6
    assert {row["site"] for row in found["rows"]} == {"line-1", "line-2"}
    assert all(row["auprc"] is not None and row["train_s"] > 0 and row["peak_mb"] > 20 for row in found["rows"])
    best = {row["auprc"] for row in found["rows"] if row["detector"] == "pca"}
    assert min(best) > 0.5
    assert len(found["provenance"]["code"]) == 1
    assert (out / "report.html").stat().st_size > 50_000
    assert sorted(path.name for path in out.iterdir()) == ["cells", "report.html", "results.json", "study.json"]

    before = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("outcome.json")}
    again = crossplant_here(*command)  # no cell is left to do
    assert again.returncode == 0, again.stderr
    assert "3 of 3 cells are there already" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("outcome.json")}
    assert results(out)["rows"] == found["rows"]

    other = crossplant_here(*command, "--set", "recipe.training.holdout=0.3")
    assert other.returncode == 1
    assert other.stderr.startswith("CP-103 RunDirectoryInUse: ")


@contextmanager
def begun(command: Sequence[str | Path]) -> Iterator[subprocess.Popen[str]]:
    """A study that goes on; whatever happens in the block, it is ended."""
    process = start(*command)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def children_of(process: subprocess.Popen[str], longest_s: float = 200) -> list[psutil.Process]:
    """The cells that run, as soon as there are some."""
    ends = time.monotonic() + longest_s
    while not (found := psutil.Process(process.pid).children(recursive=True)):
        assert time.monotonic() < ends, "no cell began"
        assert process.poll() is None, "the study ended before it was disturbed"
        time.sleep(0.05)
    return found


def gone(processes: list[psutil.Process], longest_s: float = 20) -> bool:
    return not psutil.wait_procs(processes, timeout=longest_s)[1]


def test_a_study_that_is_interrupted_or_killed_leaves_no_process_and_continues(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["study", "--datasets", "generated", "--detectors", "lag,cnn-lstm", "--modes", "local", "--seeds", "1"]
    command += ["--rounds", "4", "--workers", "1", "--out", out, *FLAGS]
    with begun(command) as process:
        children = children_of(process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "The same command continues it." in said
        assert gone(children)
        assert not (out / ".work").exists()
    with begun(command) as process:
        children = children_of(process)
        process.kill()
        process.wait(60)
        assert gone(children)
    done = crossplant_here(*command)
    assert done.returncode == 0, done.stderr
    assert results(out)["error"] == []
    assert len(results(out)["rows"]) == 4
    assert not (out / ".work").exists()


def test_a_cell_that_fails_is_rows_with_their_error(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["study", "--datasets", "generated", "--detectors", "lag,cnn-lstm", "--modes", "local,private"]
    done = crossplant_here(*command, "--seeds", "1", "--rounds", "2", "--out", out, *FLAGS)  # cells are processes
    assert done.returncode == 0, done.stderr
    found = results(out)
    failed = [row for row in found["rows"] if row["mode"] == "private"]
    assert len(failed) == 2
    assert all(row["auprc"] is None and row["train_s"] is None for row in failed)
    assert all("CP-9" in one["error"] for one in found["error"])
    assert {(one["detector"], one["mode"]) for one in found["not_applicable"]} == {("lag", "private")}
    assert "not measured: generated cnn-lstm private seed 0: CP-9" in done.stdout


def test_real_data_reaches_the_figures_of_the_lag_model_alone(tmp_path: Path, data_root: Path) -> None:
    """docs/lag.md: 0.886 is the mean AUPRC over SKAB's sites, 0.797 that on BATADAL's dataset 04."""
    for name in ("skab", "batadal"):
        real(data_root, name)
    out = tmp_path / "out"
    command = ["study", "--datasets", "skab,batadal", "--data", data_root, "--detectors", "lag", "--modes", "local"]
    done = crossplant_here(*command, "--seeds", "1", "--out", out)
    assert done.returncode == 0, done.stderr
    means = {one["dataset"]: one["auprc"] for one in results(out)["summary"]}
    assert abs(means["skab"] - 0.886) < 0.005
    assert abs(means["batadal"] - 0.797) < 0.005
