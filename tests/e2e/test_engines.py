"""Both engines carry the same two apps: same seed, same data, same global weights."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from tests.support.command import SMALL, crossplant, crossplant_here, simulate_here


def _models(run: Path) -> list[str]:
    listed = crossplant_here("rounds", "list", "--store", run, "--json")
    return [r["model"] for r in json.loads(listed.stdout)["rounds"]]


def _moments(run: Path) -> tuple[bytes, bytes]:
    """Sum and shares; beside them stand tags that follow from the run's name."""
    [file] = (run / "models").glob("*.moments.safetensors")
    kept = load_file(file)
    return kept["sum"].tobytes(), kept["shares"].tobytes()


@pytest.mark.ray
def test_ray_and_in_process_give_the_same_global_weights(tmp_path: Path) -> None:
    """From a folder that holds a package called `client`: Ray's workers must not import that one."""
    decoy = tmp_path / "client"
    decoy.mkdir()
    (decoy / "__init__.py").write_text("raise SystemExit('the wrong client was imported')\n")
    flags = ["--out", "ray", "--engine", "ray", "--sites", "3", "--rounds", "3", *SMALL]
    done = crossplant("simulate", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = simulate_here(tmp_path / "inprocess", "--engine", "inprocess", "--sites", "3")
    assert done.returncode == 0, done.stderr
    assert _models(tmp_path / "ray") == _models(tmp_path / "inprocess")
    assert _moments(tmp_path / "ray") == _moments(tmp_path / "inprocess")
    ours = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert ours == []
