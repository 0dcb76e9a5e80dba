"""Everything a user can get wrong: one clear line with a code, the right exit code, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_telemanom
from tests.support.command import SMALL, crossplant_here, simulate_here


def _refused(done, code: str, *told: str) -> None:  # type: ignore[no-untyped-def]
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(code)
    for part in told:
        assert part in lines[0]
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--dataset", "mls"], "CP-102", "batadal, generated, historian, mixed, msl"),
        (["--dataset", "msl"], "CP-201", "--data"),
        (["--dataset", "msl", "--data", "no-such-folder"], "CP-201", "no-such-folder"),
        (["--partition", "by-colour"], "CP-102", "by-channel, by-machine, by-mode, by-stage, by-subsystem, by-time"),
        (["--partition", "by-stage"], "CP-101", "SWaT and WADI"),
        (["--partition", "by-machine"], "CP-101", "by-machine knows"),
        (["--partition", "by-mode", "--set", "data.segment=1000"], "CP-204", "data.segment"),
        (["--partition", "by-mode", "--set", "data.segment=39"], "CP-101", "Give 40 or more"),
        (["--concentration", "0"], "CP-101", "data.concentration"),
        (["--concentration", "nan"], "CP-101", "data.concentration"),
        (["--modes", "0"], "CP-101", "data.modes"),
        (["--preset", "quick"], "CP-102", "demo"),
        (["--preset", "missing.toml"], "CP-101", "missing.toml"),
        (["--sites", "1"], "CP-206", "two"),
        (["--sites", "0"], "CP-101", "data.sites"),
        (["--weighting", "fair"], "CP-101", "rounds.weighting"),
        (["--server-optimizer", "sgd"], "CP-101", "server_optimizer"),
        (["--engine", "spark"], "CP-101", "engine.name"),
        (["--device", "tpu"], "CP-101", "engine.device"),
        (["--set", "recipe.detector.window=1"], "CP-101", "window"),
        (["--set", "recipe.detector.window=5000"], "CP-206", "5000"),
        (["--seed", "-1"], "CP-101", "seed"),
        (["--set", "recipe.training.strid=2"], "CP-101", "strid"),
        (["--set", "nonsense"], "CP-101", "nonsense"),
        (["--set", f"seed={'9' * 5000}"], "CP-101", "seed has a number of thousands of digits"),
        (["--set", f"seed=0x{'f' * 5000}"], "CP-101", "seed = a number of thousands of digits"),
        (["--set", f"seed={'[' * 5000}{']' * 5000}"], "CP-101", "nested too deeply"),
        (["--set", f"{'a.' * 5000}a=1"], "CP-101", "too many dots"),
        (["--set", f"data.path='{'x' * 5000}'"], "CP-101", "data.path"),
        (["--partition", "by\ntime"], "CP-101", "control characters"),
        (["--dataset", "m\udcffl"], "CP-101", "undecodable"),
        (["--set", "recipe.detector.name=transformer"], "CP-102", "hac-uml"),
        (["--set", "recipe.threshold.rule=guess"], "CP-102", "conformal"),
        (["--set", "recipe.threshold.members=['pot', 'guess']"], "CP-102", "conformal"),
        (["--set", "recipe.threshold.members=['ensemble']"], "CP-101", "its own member"),
        (["--store", "nosuchdb://x/y"], "CP-4", "nosuchdb"),
    ],
    ids=lambda value: ascii("-".join(value))[1:40] if isinstance(value, list) else None,
)
def test_a_wrong_value_is_one_clear_line_and_writes_nothing(
    flags: list[str], code: str, told: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    _refused(crossplant_here("simulate", "--out", out, *SMALL, *flags), code, told)
    assert not out.exists() or not any(out.iterdir())


@pytest.mark.parametrize(
    "flags",
    [
        ["--rounds", "0"],
        ["--rounds", "100001"],
        ["--rounds", "many"],
        ["--colour"],
        ["--resume", "x", "--seed", "1"],
        ["--resume", "x", "--modes", "2"],
        ["--plan", "--resume", "x"],
        ["--plan", "--store", "sqlite:///x"],
        ["--json", "--out", "x"],
        [],
    ],
)
def test_wrong_usage_ends_with_2(flags: list[str]) -> None:
    done = crossplant_here("simulate", *flags)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    _refused(crossplant_here("simulate", "--out", tmp_path / ("x" * 400), *SMALL), "CP-106", "name too long")


def test_a_folder_in_use_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    _refused(simulate_here(tmp_path), "CP-103", "--resume")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_to_resume(tmp_path: Path) -> None:
    _refused(crossplant_here("simulate", "--resume", tmp_path), "CP-104")
    _refused(crossplant_here("simulate", "--resume", tmp_path / "nowhere"), "CP-104")
    (tmp_path / "run.json").write_text("{broken")
    _refused(crossplant_here("simulate", "--resume", tmp_path), "CP-104")


def test_no_store(tmp_path: Path) -> None:
    _refused(crossplant_here("rounds", "list", "--store", tmp_path / "nowhere"), "CP-401", "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_broken_array_is_named(tmp_path: Path) -> None:
    data = write_telemanom(tmp_path / "data", {"A-1": "[[3, 5]]", "A-2": "[[3, 5]]"})
    (data / "train" / "A-2.npy").write_bytes(b"\x93NUMPY\x01\x00garbage")
    done = crossplant_here("simulate", "--dataset", "msl", "--data", data, "--out", tmp_path / "run", *SMALL)
    _refused(done, "CP-202", "A-2.npy")
    assert not (tmp_path / "run").exists()


def test_short_and_constant_channels_are_left_out_in_words(tmp_path: Path) -> None:
    data = write_telemanom(tmp_path / "data", dict.fromkeys(("A-1", "A-2", "B-1", "B-2"), "[[3, 9]]"))
    rng = np.random.default_rng(0)
    for name in ("A-1", "A-2"):
        np.save(data / "train" / f"{name}.npy", rng.uniform(-1, 1, (200, 55)))
    np.save(data / "train" / "B-2.npy", np.ones((200, 55)))
    done = crossplant_here(
        "simulate", "--dataset", "msl", "--data", data, "--out", tmp_path / "run", "--rounds", "1", *SMALL
    )
    assert done.returncode == 0, done.stderr
    assert "B-1: left out: site 'B-1' has 30 training rows" in done.stdout
    assert "B-2: left out: all 55 tags" in done.stdout
    assert sorted(p.name for p in (tmp_path / "run" / "plants").iterdir()) == ["A-1", "A-2"]


def test_missing_readings_are_filled_in_words(tmp_path: Path) -> None:
    data = write_telemanom(tmp_path / "data", {"A-1": "[[3, 9]]", "A-2": "[[3, 9]]"})
    values = np.random.default_rng(0).uniform(-1, 1, (200, 55))
    np.save(data / "train" / "A-1.npy", values)
    values[20:60, 0] = np.nan
    values[0, 3] = np.inf
    np.save(data / "train" / "A-2.npy", values)
    done = crossplant_here(
        "simulate", "--dataset", "msl", "--data", data, "--out", tmp_path / "run", "--rounds", "1", *SMALL
    )
    assert done.returncode == 0, done.stderr
    assert "A-2: missing or infinite training readings, last value carried forward (41)" in done.stdout
