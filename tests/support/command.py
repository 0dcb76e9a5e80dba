"""Running the `crossplant` command as a user does: a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from shared.cli import run

SMALL = [
    "--set", "recipe.detector.window=8",
    "--set", "recipe.detector.hidden=8",
    "--set", "recipe.detector.latent=4",
    "--set", "recipe.clustering.clusters=3",
    "--set", "data.rows=400",
    "--stride", "4",
]  # fmt: skip
"""Flags for generated plants and a network that train in a second."""


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    command = [str(Path(sys.executable).with_name("crossplant")), *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment,
        start_new_session=True,
    )


def crossplant(
    *arguments: str | Path, cwd: Path | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    process = start(*arguments, cwd=cwd)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def simulate(
    out: Path, *extra: str | Path, rounds: int = 3, flags: Sequence[str] = SMALL
) -> subprocess.CompletedProcess[str]:
    """A small simulated run."""
    return crossplant("simulate", "--out", out, "--rounds", str(rounds), *flags, *extra)


def crossplant_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: what `main` does, without the seconds that imports take."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(map(str, arguments)))
    return subprocess.CompletedProcess(list(map(str, arguments)), code, out.getvalue(), err.getvalue())


def simulate_here(out: Path, *extra: str | Path, rounds: int = 3) -> subprocess.CompletedProcess[str]:
    """A small simulated run in this process."""
    return crossplant_here("simulate", "--out", out, "--rounds", str(rounds), *SMALL, *extra)
