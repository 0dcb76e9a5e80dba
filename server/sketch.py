"""Which way each plant's update points beside the mean of all, without keeping the updates.

A count sketch (Charikar, Chen, Farach-Colton 2002, "Finding frequent items in data streams") puts every value of an
update, with a sign of its own, into one of B buckets; it keeps inner products up to an error of about
|u| |v| / sqrt(B). So the cosine of an update and the mean, which is linear in the updates, is known to about 0.016.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shared.model import Weights
from shared.scoring import Float64Array

BUCKETS = 4096


def sketch(update: Weights) -> Float64Array:
    """The sketch of an update, float64 (B,).

    Args:
        update: by tensor name; the same names and shapes give the same buckets.
    """
    flat_P = np.concatenate([np.ravel(update[name]).astype(np.float64) for name in sorted(update)] or [np.zeros(0)])
    place_P = _mixed(np.arange(len(flat_P), dtype=np.uint64))
    sign_P = np.where(place_P >> np.uint64(63), 1.0, -1.0)
    summed_B = np.bincount((place_P % np.uint64(BUCKETS)).astype(np.intp), flat_P * sign_P, BUCKETS)
    return summed_B.astype(np.float64, copy=False)


def _mixed(number_P: np.ndarray) -> np.ndarray:
    """A fixed hash of 64 bits (the finaliser of SplitMix64)."""
    x_P = number_P + np.uint64(0x9E3779B97F4A7C15)
    x_P = (x_P ^ (x_P >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x_P = (x_P ^ (x_P >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x_P ^ (x_P >> np.uint64(31))


class UpdateSketches:
    """The sketches of a round's updates, 32 kB a plant.

    Args:
        base: the weights that were sent; None where plants answer with gradients.
        share: of each plant in the mean.

    Example:
        >>> found = UpdateSketches(None, {"a": 1.0, "b": 1.0, "c": 1.0})
        >>> for plant, value in (("a", 1.0), ("b", 1.0), ("c", -1.0)):
        ...     found.add(plant, {"w": np.full(8, value, np.float32)})
        >>> {plant: round(cosine, 6) for plant, cosine in found.cosines().items()}
        {'a': 1.0, 'b': 1.0, 'c': -1.0}
    """

    def __init__(self, base: Weights | None, share: Mapping[str, float]) -> None:
        self._base, self._share = base, share
        self._sketch_B = dict[str, Float64Array]()

    def add(self, plant: str, weights: Weights) -> None:
        """Take an accepted update in."""
        base = self._base
        moved = weights if base is None else {name: value - base[name] for name, value in weights.items()}
        self._sketch_B[plant] = sketch(moved)

    def cosines(self) -> Mapping[str, float]:
        """Cosine of each update to their weighted mean; nothing of an update, or with a mean, that is zero."""
        if len(self._sketch_B) < 2:
            return {}
        mean_B = np.sum([self._share[plant] * self._sketch_B[plant] for plant in sorted(self._sketch_B)], axis=0)
        length = float(np.linalg.norm(mean_B))
        own = {plant: float(np.linalg.norm(sketch_B)) for plant, sketch_B in self._sketch_B.items()}
        return {
            plant: float(np.clip(sketch_B @ mean_B / (own[plant] * length), -1.0, 1.0))
            for plant, sketch_B in self._sketch_B.items()
            if own[plant] > 0 and length > 0
        }
