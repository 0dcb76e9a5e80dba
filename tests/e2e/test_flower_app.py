"""The repository root is a Flower app: Flower's own builder takes it, and its bundle holds three packages."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import REPOSITORY


def test_flower_builds_a_bundle_from_the_repository_root(tmp_path: Path) -> None:
    quiet = {"FLWR_HOME": str(tmp_path / "home"), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    flwr = Path(sys.executable).with_name("flwr")
    command = [str(flwr), "build", "--app", str(REPOSITORY)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **quiet}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (bundle,) = tmp_path.glob("*.fab")
    names = zipfile.ZipFile(bundle).namelist()
    assert {"server/app.py", "client/app.py", "shared/errors.py"} <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert tops <= {"server", "client", "shared", "LICENSE", "pyproject.toml", ".info"}
