"""Weights to begin a private run with, trained on plants that are made: public by construction, so they cost nothing.

Nothing of the run's own plants goes into them but the number of tags. Which plants fit follows from the tags.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from client.training.segments import prepare_records, segments
from client.training.tensors import TensorWindows
from shared.config import DataConfig, RunConfig
from shared.detectors import build
from shared.errors import UnknownName
from shared.model import GlobalModel, initial_weights
from shared.series import SiteData
from simulations.made import GENERATED, MADE, make_sites

AUTO, NONE = "auto", "none"
SOURCES = (AUTO, NONE, *MADE)

_LIKE = {
    GENERATED: GENERATED,
    "twin-swat": "twin-swat",
    "swat": "twin-swat",
    "twin-wadi": "twin-wadi",
    "wadi": "twin-wadi",
}
_APART = 1_000_003  # between the seed of the run and that of the public plants
_PLANTS, _DAYS, _ROWS = 2, 1.0, 40_000
_EPOCHS, _BATCH, _RATE = 6, 128, 2e-3


def check_source(asked: str, config: RunConfig) -> str:
    """Which made plants a run begins with; empty for none.

    Raises:
        UnknownName: nobody makes such plants.
    """
    if asked not in SOURCES:
        raise UnknownName("public start", asked, list(SOURCES))
    if asked in (AUTO, NONE):
        wanted = asked == AUTO and config.recipe.privacy.mode == "local" and not config.rounds.start
        return _LIKE.get(config.data.dataset, "") if wanted else ""
    return asked


def public_plants(source: str, config: RunConfig) -> tuple[SiteData, ...]:
    """Made plants that no run with this seed has."""
    seed = (config.seed + _APART) % 2**31
    data = DataConfig(dataset=source, sites=_PLANTS, days=_DAYS, rows=_ROWS)
    return make_sites(config.model_copy(update={"seed": seed, "data": data}))


def pretrained(plants: Sequence[SiteData], config: RunConfig, device: torch.device) -> GlobalModel:
    """A model trained on public plants together, without noise.

    Args:
        plants: made.
        config: the run's; its network, its preprocessing, its seed.
        device: where to train.
    """
    recipe = config.recipe
    torch.set_num_threads(config.engine.threads)  # as the plants train: more of them only wait for each other
    works = [prepare_records(site, recipe, segments(site, recipe), _ranges(site)) for site in plants]
    detector = build(recipe.detector, works[0].schema.dim).to(device)
    detector.load_weights(initial_weights(detector.manifest(), config.seed))
    windows = [TensorWindows(work.train, recipe.detector.window, device) for work in works]
    optimizer = torch.optim.Adam(detector.parameters(), lr=_RATE)
    order = torch.Generator().manual_seed(config.seed)
    for _ in range(_EPOCHS):
        for plant, index_B in _shuffled(windows, order):
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(detector.loss(windows[plant].batch(index_B.to(device)), None).total)
            optimizer.step()
    return GlobalModel(detector.weights())


def _ranges(site: SiteData) -> NDArray[np.float64]:
    """The published ranges of a made plant's tags; all of them have one."""
    return np.asarray(site.ranges, np.float64)


def _shuffled(windows: Sequence[TensorWindows], order: torch.Generator) -> list[tuple[int, torch.Tensor]]:
    """Batches of all plants, in one random order."""
    pieces = [
        (plant, index_B)
        for plant, those in enumerate(windows)
        for index_B in torch.split(torch.randperm(len(those), generator=order), _BATCH)
    ]
    return [pieces[i] for i in torch.randperm(len(pieces), generator=order).tolist()]
