"""Where and with what figures were measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.processes import ROOT

PACKAGES = ("torch", "numpy", "onnxruntime", "flwr", "ray", "sqlalchemy")


def machine() -> dict[str, str]:
    """Processor, cores, memory and system."""
    return {
        "cpu": f"{_cpu()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Python, packages and the commit."""
    found = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found, "commit": _commit()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    told = _git("rev-parse", "--short", "HEAD")
    return f"{told}, changed" if told and _git("status", "--porcelain") else told or "unknown"


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
