"""What a plant works on for one recipe: its data prepared, the detector, and the windows on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from client.training.own_model import Means
from client.training.tensors import TensorWindows
from client.training.workspace import Workspace
from shared.config import Recipe
from shared.detectors import Detector
from shared.detectors.adapter import build_for
from shared.model import Weights
from shared.sampling import own_recipe, told_schema
from shared.schema import SensorSchema

if TYPE_CHECKING:
    from client.training.private import Records


@dataclass(frozen=True)
class Bench:
    """One recipe's workspace with the detector and the windows on the device.

    Attributes:
        asked: the recipe as it came.
        recipe: as this plant carries it out, see `shared.sampling`.
        told: the columns as the plant tells them.
        workspace: the data.
        detector: its weights are those of the request under way.
        start: the plant's adapter before any training; empty where it has none.
        train, holdout: the windows.
        records: under local differential privacy.
    """

    asked: Recipe
    recipe: Recipe
    told: SensorSchema
    workspace: Workspace
    detector: Detector
    start: Weights
    train: TensorWindows
    holdout: TensorWindows
    records: Records | None = None

    def means(self, site: str, round_: int, stop: Callable[[], bool]) -> Means:
        """What a model of the plant's own is made with."""
        windows, segments_N = (self.train, self.holdout), self.workspace.segments_N
        return Means(self.detector, self.recipe, *windows, segments_N, self.start, site, round_, stop)


def set_up(asked: Recipe, period_s: float, device: torch.device, prepared: Callable[[Recipe], Workspace]) -> Bench:
    """Make a plant ready for a recipe.

    Args:
        asked: the recipe as it came.
        period_s: between two of the plant's samples.
        device: where training runs.
        prepared: gives the data, prepared by the recipe that it is handed.
    """
    recipe = own_recipe(asked, period_s)
    workspace, window = prepared(recipe), recipe.detector.window
    detector = build_for(recipe, workspace.schema).to(device)
    train = TensorWindows(workspace.train, window, device)
    holdout = TensorWindows(workspace.holdout, window, device)
    if workspace.faults is not None:
        faults = TensorWindows(workspace.faults, window, device)
        detector.contrast(faults.batch(torch.arange(len(faults), device=device)))
    private = recipe.privacy.mode == "local"
    return Bench(
        asked=asked,
        recipe=recipe,
        told=told_schema(asked, workspace.schema),
        workspace=workspace,
        detector=detector,
        start=detector.own_weights(),
        train=train,
        holdout=holdout,
        records=_records(workspace, train, recipe) if private else None,
    )


def _records(workspace: Workspace, train: TensorWindows, recipe: Recipe) -> Records:
    from client.agent.private import private_records

    return private_records(workspace, train, recipe)
