"""The two traces: how training and clustering go, step by step, on made-up plants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.training.loop import round_generator, train_epochs
from client.training.tensors import TensorWindows
from client.training.workspace import prepare
from server.rounds import Phase
from shared.config import RunConfig
from shared.detectors import build
from shared.model import initial_weights
from shared.schema import SensorSchema
from shared.series import SiteData
from tests.support import plants
from tests.support.plants import federate

FOLDER = Path(__file__).parent
SCHEMA = SensorSchema(tags=("FIT101", "LIT101", "P101"), period_s=1)
POINTS = np.asarray([[-1.0, 0.6, 0.0], [0.9, 1.0, 1.0], [0.4, -1.0, 0.5], [-0.7, -0.8, -1.0]])


def site(number: int) -> SiteData:
    """A plant with three of four common operating points by turns, and a little noise; no libm, so exact everywhere."""
    rng = np.random.default_rng([7, number])
    own = POINTS[[i for i in range(4) if i != number]]
    values = np.concatenate([np.repeat(own[i % 3][None], 24, axis=0) for i in range(12)])
    values = values + 0.1 * (rng.random(values.shape) - 0.5)
    return SiteData(f"plant {number}", SCHEMA, values.astype(np.float32), np.empty((0, 3), np.float32), None)


def config() -> RunConfig:
    """Two rounds of warm-up and three with clustering: five."""
    return plants.settings(
        recipe={
            "detector": {"dropout": 0.1},
            "training": {"stride": 2, "batch_size": 32, "learning_rate": 0.01, "local_epochs": 2},
            "clustering": {"clusters": 4, "unit": 12, "choose": "fixed"},
        },
        rounds={"pretrain": 2, "joint": 3},
    )


def loss_curve(steps: int = 20) -> dict[str, Any]:
    """Mean reconstruction loss of each of 20 epochs at one plant.

    The rate is kept low: at 0.01 a last bit grows to a tenth of the loss within 20 epochs, for Adam goes as far along a
    tiny gradient as along a large one, and no tolerance for another processor could be told from a fault.
    """
    recipe = config().recipe
    one_epoch = recipe.training.model_copy(update={"local_epochs": 1, "learning_rate": 0.003})
    made, cpu = prepare(site(0), recipe), torch.device("cpu")
    windows = TensorWindows(made.train, recipe.detector.window, cpu)
    detector = build(recipe.detector, SCHEMA.dim)
    detector.load_weights(initial_weights(detector.manifest(), 0))
    losses = [
        train_epochs(detector, windows, None, one_epoch, round_generator(0, "plant 0", step, cpu)).reconstruction
        for step in range(steps)
    ]
    return {"loss": losses}


def centroid_trace() -> dict[str, Any]:
    """Every round of three plants from the refined seeds on: centroids, mass, losses."""
    _, journal, _ = federate([site(number) for number in range(3)], config())
    rounds = []
    for record, state in zip(journal.records, journal.states, strict=True):
        clusters = state.model.clusters if state.model else None
        seeded = clusters is not None and clusters.count == 4 and record.phase in (Phase.CLUSTER, Phase.JOINT)
        if seeded and record.label not in ("centre", "radius"):
            order = np.lexsort(clusters.centroids_KZ.T[::-1])  # clusters are numbered by chance: sort them
            rounds.append(
                {
                    "round": f"{record.phase.value}: {record.label}",
                    "centroids": clusters.centroids_KZ[order].tolist(),
                    "frequency": clusters.frequency_K[order].tolist(),
                    "radius": clusters.radius,
                    "metrics": dict(sorted(record.metrics.items())),
                }
            )
    return {"rounds": rounds}


TRACES = {"loss_curve.json": loss_curve, "centroid_trace.json": centroid_trace}
