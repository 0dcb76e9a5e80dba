"""Anomaly Transformer (Xu et al. 2022, ICLR, arXiv 2110.02642), PyOD's, through an adapter.

PyOD scores a row by the mean over all windows that hold it, so that a row's score depends on later rows. Here windows
are laid end to end and PyOD is told to step from one to the next: each is scored by itself, and what counts is its
newest row. Smaller than published (width 512, 3 layers, 100 rows), or nothing trains on two cores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from shared.errors import MissingExtra
from shared.series import FloatArray
from simulations.baselines.base import Float64Array, register
from simulations.baselines.training import seeded
from simulations.baselines.windowed import Score, Windowed

_WINDOW = 30
_SIZES = {"d_model": 64, "n_heads": 4, "n_layers": 2, "epochs": 5, "batch_size": 64, "lr": 1e-4, "device": "cpu"}


def learn(windows_NWD: FloatArray, seed: int) -> Score:
    """Train PyOD's.

    Raises:
        MissingExtra: PyOD is not installed.
    """
    network = _network(windows_NWD.shape[1])
    with seeded(seed):
        network.fit(_end_to_end(windows_NWD))

    def score(windows: FloatArray) -> Float64Array:
        with torch.random.fork_rng(devices=[]):
            found_T = network.decision_function(_end_to_end(windows))
        return np.asarray(found_T.reshape(windows.shape[:2])[:, -1], np.float64)

    return score


def _network(window: int) -> Any:
    try:
        from pyod.models.ts_anomaly_transformer import AnomalyTransformer
    except ImportError as error:
        cause = f"anomaly-transformer needs {error.name}."
        raise MissingExtra(cause, "Install it: pip install 'crossplant[baselines]'.") from error
    return AnomalyTransformer(window_size=window, step=window, **_SIZES)


def _end_to_end(windows_NWD: FloatArray) -> FloatArray:
    return windows_NWD.reshape(-1, windows_NWD.shape[2])


register(Windowed("anomaly-transformer", learn, window=_WINDOW, most=3_000))
