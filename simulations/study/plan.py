"""What a study compares, as a value: written with its digest before any data is opened, and refused when changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.config import RunConfig
from shared.disk import replace_file
from shared.errors import RunDirectoryInUse
from simulations.study.contestant import PRIVATE, contestant
from simulations.study.effective import Asked, detectors_of, effective, modes_of, refused_privately, restored, seeded

FILE = "study.json"


@dataclass(frozen=True, order=True)
class Cell:
    """One thing to measure: one contestant, fitted in one mode on one data set with one seed."""

    dataset: str
    detector: str
    mode: str
    seed: int

    def __str__(self) -> str:
        return f"{self.dataset} {self.detector} {self.mode} seed {self.seed}"


@dataclass(frozen=True)
class Skipped:
    """A combination that is no cell, and why."""

    detector: str
    mode: str
    why: str


class StudyPlan(BaseModel):
    """A study, whole.

    Attributes:
        format: of this file.
        version: Crossplant's.
        datasets, detectors, modes, seeds: what is crossed.
        quick, robustness: as asked.
        base: every setting of the default.
        settings: by data set, then by detector (`NAME/private` for the mode private), what differs from the base.
        refused: why a detector cannot be run in the mode private, by its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    version: str
    datasets: tuple[str, ...]
    detectors: tuple[str, ...]
    modes: tuple[str, ...]
    seeds: int
    quick: bool
    robustness: tuple[str, ...]
    base: dict[str, Any]
    settings: dict[str, dict[str, dict[str, Any]]]
    refused: dict[str, str]

    @classmethod
    def of(cls, asked: Asked) -> Self:
        """Work out the effective settings of every contestant.

        Raises:
            UnknownName: of a detector or a mode.
            InvalidConfig: a setting is impossible.
        """
        from simulations.study.disturb import DISTURBANCES

        detectors, modes = detectors_of(asked), modes_of(asked.modes)
        base = RunConfig().model_dump(mode="json")
        refused = refused_privately(asked, detectors) if PRIVATE in modes else {}
        private = [name for name in detectors if PRIVATE in modes and _has(name, PRIVATE) and name not in refused]
        settings = {name: effective(asked, name, detectors, private, base) for name in asked.datasets}
        return cls(
            version=metadata.version("crossplant"),
            datasets=asked.datasets,
            detectors=detectors,
            modes=modes,
            seeds=asked.seeds,
            quick=asked.quick,
            robustness=tuple(DISTURBANCES) if asked.with_robustness else (),
            base=base,
            settings=settings,
            refused=refused,
        )

    @property
    def text(self) -> str:
        """The plan without its digest, as JSON that is always the same for the same plan."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, allow_nan=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the plan."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def config(self, cell: Cell) -> RunConfig:
        """The settings of one cell."""
        name = f"{cell.detector}/{PRIVATE}" if cell.mode == PRIVATE else cell.detector
        return restored(self.base, self.settings[cell.dataset][name] | seeded(cell.seed))

    def protocol(self, dataset: str, seed: int = 0) -> RunConfig:
        """The settings that a data set is made and cut by: the default's, whatever contestant."""
        return restored(self.base, self.settings[dataset][""] | seeded(seed))

    def cells(self) -> tuple[tuple[Cell, ...], tuple[Skipped, ...]]:
        """What is to be measured, data set by data set, and what no contestant can be asked."""
        why = {(name, mode): self._why_not(name, mode) for name in self.detectors for mode in self.modes}
        skipped = tuple(Skipped(*which, told) for which, told in why.items() if told)
        cells = tuple(
            Cell(dataset, name, mode, seed)
            for dataset in self.datasets
            for seed in range(self.seeds)
            for name, mode in why
            if not why[name, mode]
        )
        return cells, skipped

    def _why_not(self, name: str, mode: str) -> str:
        """Why a detector cannot be run in a mode; empty when it can."""
        if not _has(name, mode):
            return "the method has no such mode"
        return self.refused.get(name, "") if mode == PRIVATE else ""


def _has(name: str, mode: str) -> bool:
    return mode in contestant(name, RunConfig()).modes


def freeze(folder: Path, plan: StudyPlan, command: str) -> None:
    """Write the plan with its digest, before anything else is done; or check that it is the one that stands there.

    Raises:
        RunDirectoryInUse: the folder holds another study, or something else.
    """
    file = folder / FILE
    if file.exists():
        if read(folder).digest != plan.digest:
            cure = "Choose another --out, or give the options that it was begun with."
            raise RunDirectoryInUse(f"{folder} holds a study with other settings (or of another version).", cure)
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunDirectoryInUse(f"{folder} is not empty and holds no study.", "Choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"digest": plan.digest, "command": command, "study": plan.model_dump(mode="json")}
    replace_file(file, json.dumps(content, indent=1, allow_nan=False).encode())


def read(folder: Path) -> StudyPlan:
    """The plan that stands in a folder.

    Raises:
        RunDirectoryInUse: it is damaged, or was changed by hand.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        plan = StudyPlan.model_validate(content["study"])
        told = content["digest"]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise RunDirectoryInUse(f"{folder / FILE} is damaged.", "Choose another --out.") from error
    if told != plan.digest:
        raise RunDirectoryInUse(f"{folder / FILE} was changed since it was written.", "Choose another --out.")
    return plan
