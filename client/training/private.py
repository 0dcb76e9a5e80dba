"""One differentially private exchange: sample records, clip each one's gradient, sum, add noise (DP-SGD).

    g = (sum_{i in S} clip_C(grad_i) + N(0, (z C)^2 I)) / (q N'),   S: Poisson(q),   N': the plant's public size
    grad_i = (1 / m) sum_{t = 1..m} gradient of the loss of window t of segment i

m is the same public constant for every record; one with fewer usable windows has the smaller gradient. Abadi et al.
2016 (arXiv 1607.00133), with segments as records (docs/privacy.md). No dropout, no batch statistic, no data-dependent
constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.training.ghost import ghost_gradients
from client.training.gradients import Engine, Gradients, KeptGradients
from client.training.opacus_step import opacus_gradients
from client.training.tensors import TensorWindows
from shared.config import PrivacyConfig
from shared.detectors import ClusterTarget, Detector
from shared.errors import PrivacyUnmet
from shared.model import Weights
from shared.privacy.mechanisms import Randomness

Double = NDArray[np.float64]
Indices = NDArray[np.int64]

_ENGINES: dict[str, Engine] = {"ghost": ghost_gradients, "opacus": opacus_gradients}
_CHUNK = 128  # windows at a time, which bounds the memory
_ROUNDING = 5e-6  # by which the norm of float32 numbers may come out too small, windows that cancel included


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
    first_R: Indices
    per_record: int
    public_size: int

    def __len__(self) -> int:
        return len(self.first_R) - 1

    def batch(self, record_B: Indices) -> Tensor:
        """Windows of records that have n each: (n B, W, D), window j of record b at j B + b."""
        first_B, end_B = self.first_R[record_B], self.first_R[record_B + 1]
        index_nB = first_B + np.arange(end_B[0] - first_B[0])[:, None]
        return self.windows.batch(torch.from_numpy(index_nB.ravel()))


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


class ClippedSum(NamedTuple):
    """Exact, without noise: stays at the plant.

    Attributes:
        sums: `sum_i clip_C(grad_i)` by parameter, float64.
        norms_B: norm of each record's gradient before it was clipped. NaN for a record that contributes nothing at all:
            it has no window, or its loss or gradient is not finite.
        losses_B: (1 / m) sum of the losses of each record's windows; 0 for such a record.
    """

    sums: dict[str, Double]
    norms_B: Double
    losses_B: Double


def private_exchange(
    detector: Detector,
    records: Records,
    target: ClusterTarget | None,
    privacy: PrivacyConfig,
    clip: float,
    noise: Randomness,
) -> Exchange:
    """One exchange; leaves the detector as it was.

    Sensitivities, for adding or removing one record: C of the gradient sum; 1/2 of the sum of 1[norm <= C] - 1/2; 1 of
    the sum of min(loss, cap) / cap. The three share the sampled records, so their precisions add up
    (`shared.privacy.planning.together`).

    Args:
        detector: with the global weights loaded.
        records: of the plant.
        target: clusters as constants, None before they exist.
        privacy: sampling, multipliers, engine.
        clip: C, as the server says.
        noise: of this request.
    """
    exact = clipped_sum(detector, records, noise.chosen(len(records), privacy.sampling), target, clip, privacy.engine)
    expected = privacy.sampling * records.public_size
    gradient = {
        name: ((total + noise.normal(total.shape, privacy.noise.weights * clip)) / expected).astype(np.float32)
        for name, total in sorted(exact.sums.items())
    }
    sign_B = np.where(np.isnan(exact.norms_B), 0.0, (exact.norms_B <= clip) - 0.5)
    share_B = np.clip(exact.losses_B / privacy.loss_cap, 0.0, 1.0)
    below = sign_B.sum() + noise.normal(1, privacy.noise.below / 2)[0]
    loss = share_B.sum() + noise.normal(1, privacy.noise.loss)[0]
    return Exchange(gradient, float(below / expected + 0.5), float(loss / expected * privacy.loss_cap))


def clipped_sum(
    detector: Detector,
    records: Records,
    chosen_B: Indices,
    target: ClusterTarget | None,
    clip: float,
    engine: Literal["ghost", "opacus"] = "ghost",
) -> ClippedSum:
    """Sum of the clipped record gradients, the records' norms (B,), and their losses (B,).

    A record that is not finite is left out and the others of its batch are computed anew without it, since even nothing
    times infinity is not nothing.

    Raises:
        PrivacyUnmet: no record's gradient of this detector can be clipped exactly.
    """
    check_clips(detector)
    sums = {name: np.zeros(parameter.shape) for name, parameter in detector.named_parameters()}
    norms_B, losses_B = np.full(len(chosen_B), np.nan), np.zeros(len(chosen_B))
    gradients_of = partial(_gradients, _ENGINES[engine], detector, target, 1.0 / records.per_record)
    for place_b, size in _batches(records, chosen_B):
        while own := len(place_b):
            filled_b = _filled(place_b, size)
            gradients = gradients_of(records.batch(chosen_B[filled_b]), size)
            norm_b, loss_b = gradients.square_norms().double().sqrt(), gradients.losses.double()
            finite_b = (norm_b.isfinite() & loss_b.isfinite()).numpy(force=True)
            finite_b[0] &= finite_b[own:].all()
            if finite_b.all():
                weight_b = clip / (norm_b * (1.0 + _ROUNDING)).clamp(min=clip)
                weight_b[own:] = 0.0
                for name, part in gradients.weighted_sum(weight_b.float()).items():
                    sums[name] += part.numpy(force=True)
                norms_B[filled_b], losses_B[filled_b] = norm_b.numpy(force=True), loss_b.numpy(force=True)
                break
            place_b = place_b[finite_b[:own]]
    return ClippedSum(sums, norms_B, losses_B)


def check_clips(detector: Detector) -> None:
    """Refuse a detector of which it is known that no record's gradient can be clipped exactly.

    Raises:
        PrivacyUnmet: that is so, and why.
    """
    if detector.unclipped:
        cause = f"no exact clipping is known for the detector {detector.name!r}: {detector.unclipped}."
        raise PrivacyUnmet(cause, "Choose another recipe.detector.name, or run without --epsilon.")


def _batches(records: Records, chosen_B: Indices) -> Iterator[tuple[Indices, int]]:
    """Places in `chosen_B` of records with equally many windows, _CHUNK windows at a time or one record; and how many
    records that makes.
    """
    count_B = records.first_R[chosen_B + 1] - records.first_R[chosen_B]
    for count in np.unique(count_B[count_B > 0]):
        place_b = np.flatnonzero(count_B == count)
        size = max(1, _CHUNK // int(count))
        yield from ((place_b[first : first + size], size) for first in range(0, len(place_b), size))


def _filled(place_b: Indices, size: int) -> Indices:
    """A batch of the one size, its first record repeated. In a smaller batch matrix products round otherwise, and a
    network can be made that blows this up: then one record more or less would change all others' gradients.
    """
    return np.concatenate([place_b, np.full(size - len(place_b), place_b[0])])


def _gradients(
    engine: Engine, detector: Detector, target: ClusterTarget | None, share: float, windows_NWD: Tensor, records: int
) -> Gradients:
    """Of records that fit into a batch; a longer one, alone, in parts whose gradients are added up."""
    if len(windows_NWD) <= _CHUNK:
        return engine(detector, windows_NWD, records, target, share)
    loss_1, total = windows_NWD.new_zeros(1, dtype=torch.float64), dict[str, Tensor]()
    for part_NWD in torch.split(windows_NWD, _CHUNK):
        part = engine(detector, part_NWD, 1, target, share)
        loss_1 += part.losses
        for name, value in part.weighted_sum(torch.ones_like(part.losses)).items():
            total[name] = value.double()[None] + total.get(name, 0.0)
    return KeptGradients(loss_1, total)
