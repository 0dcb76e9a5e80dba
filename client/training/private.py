"""One differentially private exchange: sample records, clip each one's gradient, sum, add noise (DP-SGD).

    g = (sum_{i in S} clip_C(grad_i) + N(0, (z C)^2 I)) / (q N'),   S: Poisson(q),   N': the plant's public size
    grad_i = (1 / m) sum_{t = 1..m} gradient of the loss of window t of segment i

m is the same public constant for every record; one with fewer usable windows has the smaller gradient. Abadi et al.
2016 (arXiv 1607.00133), with segments as records (docs/privacy.md). No dropout, no batch statistic, no data-dependent
constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.training.tensors import TensorWindows
from shared.config import PrivacyConfig
from shared.detectors import ClusterTarget, Detector
from shared.model import Weights
from shared.privacy.mechanisms import Randomness


@dataclass(frozen=True)
class Records:
    """Which windows belong to which record.

    Attributes:
        windows: all usable windows, those of a record beside each other, records ascending.
        first_R: int64 (R + 1,), record r has the windows first_R[r] .. first_R[r + 1].
        per_record: m, public: windows that a whole record has.
        public_size: N', what the plant declares.
    """

    windows: TensorWindows
    first_R: NDArray[np.int64]
    per_record: int
    public_size: int


@dataclass(frozen=True)
class Exchange:
    """What leaves.

    Attributes:
        gradient: by parameter name, float32, noised.
        below: noised share of the records whose norm lay below the clip.
        loss: noised mean loss, each record's clipped to [0, loss_cap].
    """

    gradient: Weights
    below: float
    loss: float


def private_exchange(
    detector: Detector,
    records: Records,
    target: ClusterTarget | None,
    privacy: PrivacyConfig,
    clip: float,
    noise: Randomness,
) -> Exchange:
    """One exchange; leaves the detector as it was.

    Args:
        detector: with the global weights loaded.
        records: of the plant.
        target: clusters as constants, None before they exist.
        privacy: sampling, multipliers, engine.
        clip: C, as the server says.
        noise: of this request.
    """
    raise NotImplementedError


def clipped_sum(
    detector: Detector, records: Records, chosen_B: NDArray[np.int64], target: ClusterTarget | None, clip: float
) -> tuple[Weights, NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the clipped record gradients (exact, no noise), the records' norms (B,), and their losses (B,)."""
    raise NotImplementedError
