"""The command that trains on a data set, with the flags that a small one needs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from client.ingest.doctor.findings import shown
from shared.config import DetectorConfig, TrainingConfig

BLOCKS = 8
"""Blocks into which `by-time` cuts every site when `--sites` is not given (`simulations.partition`)."""

MANY, JOINED = 200_000, "--set recipe.preprocess.every=10"
"""From so many rows of a second on, ten are joined into one, as the literature does with SWaT: a tenth of the time."""

_LEAST_WINDOW = 4
_SPARE = 4  # rows that rounding may cost


def least_rows(window: int) -> int:
    """Rows a plant needs at the default hold-out, so that a window fits into the part held out, and a few to spare.

    Example:
        >>> least_rows(30)
        149
    """
    return math.ceil((window - 1) / TrainingConfig().holdout) + _SPARE


def training_command(dataset: str, path: Path, partition: str, rows: Sequence[int], period_s: float = 60.0) -> str:
    """What to type next.

    Args:
        dataset: its name.
        path: where it lies.
        partition: the one that suits it.
        rows: training rows of each site.
        period_s: seconds between two rows.

    Example:
        >>> training_command("tep", Path("tep"), "by-time", [500])
        'crossplant simulate --dataset tep --data tep --sites 3 --out DIR'
        >>> training_command("swat", Path("swat"), "by-time", [495_000], period_s=1)
        'crossplant simulate --dataset swat --data swat --set recipe.preprocess.every=10 --out DIR'
    """
    more = [JOINED] if period_s <= 1 and sum(rows) >= MANY else []
    more += _for_blocks(max(rows, default=0), len(rows)) if partition == "by-time" else _for_sites(rows)
    given = " ".join([*more, "--out DIR"])
    return f"crossplant simulate --dataset {dataset} --data {shlex.quote(shown(path))} {given}"


def _for_sites(rows: Sequence[int]) -> list[str]:
    """Two sites at least must be long enough for a window."""
    return _shorter(sorted(rows)[-2]) if len(rows) > 1 else []


def _for_blocks(rows: int, sites: int) -> list[str]:
    """Fewer blocks when there are too few rows for eight of them, then a shorter window."""
    least = least_rows(DetectorConfig().window)
    if rows // BLOCKS >= least or sites > 1:
        return []
    plants = max(2, rows // least)
    return [f"--sites {plants}", *_shorter(rows // plants)]


def _shorter(rows: int) -> list[str]:
    """A window that fits; nothing when the default does, or when none would."""
    fitting = math.floor((rows - _SPARE) * TrainingConfig().holdout)
    if rows >= least_rows(DetectorConfig().window) or fitting < _LEAST_WINDOW:
        return []
    return [f"--window {fitting}"]
