"""Outcomes of cells on disk: written whole or not at all, read back without pickle, so that a killed study goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from shared.disk import sync_folder
from simulations.study.contestant import Judged, LeftOut
from simulations.study.plan import Cell

_ABOUT, _ARRAYS = "outcome.json", "arrays.safetensors"
_PLAIN = ("site", "period_s", "train_s", "score_us", "wire_bytes")


@dataclass(frozen=True)
class Outcome:
    """What came of one cell.

    Attributes:
        cell: which.
        data: digest of the rows that it saw.
        code: digest of the code that measured it.
        judged: one a site with test rows.
        left: sites that could not be fitted.
        peak_mb: most memory that its process held, in MB.
        seconds: from the process's first line to its last.
    """

    cell: Cell
    data: str
    code: str
    judged: tuple[Judged, ...]
    left: tuple[LeftOut, ...]
    peak_mb: float
    seconds: float


def home(folder: Path, digest: str) -> Path:
    """Where the cells of a study lie."""
    return folder / "cells" / digest[:16]


def place(folder: Path, digest: str, cell: Cell) -> Path:
    """The folder of one cell."""
    return (
        home(folder, digest) / quote(cell.dataset, safe="") / f"{quote(cell.detector, safe='')}-{cell.mode}-{cell.seed}"
    )


def data_digest(plants: Path) -> str:
    """SHA-256 of all rows below a folder of plants, names included."""
    found = hashlib.sha256()
    for file in sorted(plants.glob("*/t*.npy")):
        found.update(f"{file.parent.name}/{file.name}".encode())
        with file.open("rb") as rows:
            found.update(hashlib.file_digest(rows, "sha256").digest())
    return found.hexdigest()


def code_digest() -> str:
    """SHA-256 of every module of Crossplant: cells of one study that were measured by different code are told apart."""
    found, root = hashlib.sha256(), Path(__file__).resolve().parents[2]
    for package in ("shared", "server", "client", "simulations"):
        for file in sorted((root / package).rglob("*.py")):
            found.update(file.relative_to(root).as_posix().encode())
            found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def write(at: Path, outcome: Outcome) -> None:
    """Keep an outcome; what stood there is replaced.

    Raises:
        OSError: the disk refuses.
    """
    scratch = at.with_name(f".{at.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / _ABOUT).write_text(json.dumps(_about(outcome), indent=1, allow_nan=False), encoding="utf-8")
    save_file(_arrays(outcome.judged), scratch / _ARRAYS)
    for name in (_ABOUT, _ARRAYS):
        with (scratch / name).open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(at, ignore_errors=True)
    scratch.rename(at)
    sync_folder(at.parent)


def _about(outcome: Outcome) -> dict[str, Any]:
    return {
        "cell": vars(outcome.cell),
        "data": outcome.data,
        "code": outcome.code,
        "peak_mb": outcome.peak_mb,
        "seconds": outcome.seconds,
        "left": [vars(one) for one in outcome.left],
        "sites": [
            {
                **{name: getattr(one, name) for name in _PLAIN},
                "starts": list(one.starts),
                "variants": list(one.variants),
                "portrait": list(one.portrait),
            }
            for one in outcome.judged
        ],
    }


def _arrays(judged: Sequence[Judged]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for i, one in enumerate(judged):
        found |= {f"{i}.scores": one.scores_T, f"{i}.thresholds": one.thresholds_T}
        for at, (scores_T, thresholds_T) in enumerate(one.variants.values()):
            found |= {f"{i}.variant.{at}.scores": scores_T, f"{i}.variant.{at}.thresholds": thresholds_T}
        found |= {f"{i}.portrait.{name}": array for name, array in one.portrait.items()}
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def read(at: Path, cell: Cell, data: str | None = None) -> Outcome | None:
    """An outcome; None where there is none, it is damaged, or it is of other data than those (None: of any)."""
    try:
        about = json.loads((at / _ABOUT).read_text(encoding="utf-8"))
        if about["cell"] != vars(cell) or data not in (None, about["data"]):
            return None
        arrays = load_file(at / _ARRAYS)
        judged = tuple(_site(i, one, arrays, about["peak_mb"]) for i, one in enumerate(about["sites"]))
        left = tuple(LeftOut(**one) for one in about["left"])
        return Outcome(cell, about["data"], about["code"], judged, left, about["peak_mb"], about["seconds"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _site(i: int, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], peak_mb: float) -> Judged:
    return Judged(
        **{name: about[name] for name in _PLAIN},
        starts=tuple(about["starts"]),
        scores_T=arrays[f"{i}.scores"],
        thresholds_T=arrays[f"{i}.thresholds"],
        peak_mb=peak_mb,
        variants={
            name: (arrays[f"{i}.variant.{at}.scores"], arrays[f"{i}.variant.{at}.thresholds"])
            for at, name in enumerate(about["variants"])
        },
        portrait={name: arrays[f"{i}.portrait.{name}"] for name in about["portrait"]},
    )
