"""A model of a plant's own beside the federation's, and which of the two the plant had better keep.

    personal: min_v F(v) + lambda/2 ||v - theta||^2, from theta on (Ditto: Li et al. 2021, arXiv 2012.04221, equation 1)
    alone:    min_v F(v), from the run's fresh weights on: what the plant would have without the others

F is the mean reconstruction error of the plant's training windows. What is kept is judged by windows that nobody
trained on, and without any label: the error of each under both models, and whether their mean difference is more than
two standard errors, the windows counted for as many as they are worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from client.training.infer import encode_all, score_all
from client.training.loop import round_generator, train_epochs
from client.training.tensors import TensorWindows
from shared.clustering import cloud_radius, statistic, update
from shared.config import Recipe
from shared.detectors import Detector
from shared.model import Clusters, GlobalModel, Weights, initial_weights
from shared.series import FloatArray
from shared.thresholds import effective_size
from shared.windows import IntArray

Origin = Literal["federated", "personal", "alone"]

STANDARD_ERRORS = 2.0
_LLOYD = 5  # steps by which centroids follow another encoder


@dataclass(frozen=True)
class Own:
    """The model that a plant keeps.

    Attributes:
        origin: whether it is the federation's, that fine-tuned, or one that never saw the federation.
        model: all weights of the network, an adapter among them, with clusters in its encoder's coordinates.
        losses: mean error on held-out normal windows of every model that was made and is finite there; empty where
            there was no choice.
    """

    origin: Origin
    model: GlobalModel
    losses: tuple[tuple[Origin, float], ...]


@dataclass(frozen=True)
class Means:
    """What models are made with.

    Attributes:
        detector: with the federation's weights and the plant's adapter; in the end, with those that are kept.
        recipe: the plant's.
        train, holdout: windows.
        segments_N: the segment of each training window.
        start: the adapter before any training.
        site, round: random numbers follow from them.
        stop: says when to give up.
    """

    detector: Detector
    recipe: Recipe
    train: TensorWindows
    holdout: TensorWindows
    segments_N: IntArray
    start: Weights
    site: str
    round: int
    stop: Callable[[], bool]


def kept_model(federated: GlobalModel, means: Means) -> Own:
    """The model that a plant keeps, by the recipe's `sharing`; the detector has its weights afterwards.

    Raises:
        TaskGivenUp: `stop` said so.
    """
    sharing, detector = means.recipe.sharing, means.detector
    own = detector.own_weights()
    whole = GlobalModel({**federated.weights, **own}, federated.clusters) if own else federated
    made: dict[Origin, GlobalModel] = {"federated": whole}
    if sharing.own_models:
        if sharing.personal_epochs:
            made["personal"] = _trained(whole, means, "personal", sharing.personal_epochs, sharing.personal_proximal)
        if sharing.keep == "better" and sharing.alone_epochs:
            fresh = initial_weights(detector.manifest(), means.recipe.training.seed)
            begin = GlobalModel({**fresh, **means.start}, federated.clusters)
            made["alone"] = _trained(begin, means, "alone", sharing.alone_epochs, 0.0)
    errors = {name: _errors(model, means) for name, model in made.items()} if sharing.own_models else {}
    origin = _best(errors) if sharing.keep == "better" else next(reversed(made))
    detector.load_weights(made[origin].weights)
    losses = ((name, float(error_N.mean())) for name, error_N in errors.items())
    return Own(origin, made[origin], tuple(one for one in losses if math.isfinite(one[1])))


def _best(errors: dict[Origin, FloatArray]) -> Origin:
    """The model with the lowest error among those that clearly beat the federation's; without one, that."""
    better = [name for name, error_N in errors.items() if clearly_lower(error_N, errors["federated"])]
    return min(better, key=lambda name: float(errors[name].mean()), default="federated")


def clearly_lower(error_N: NDArray[Any], than_N: NDArray[Any]) -> bool:
    """Whether errors of the same windows are lower by more than noise: windows overlap, and are worth fewer.

    Example:
        >>> noisy = np.tile([1.0, 3.0], 50)
        >>> clearly_lower(noisy - 1.0, noisy + np.tile([0.1, -0.1, 0.0, 0.0], 25)), clearly_lower(noisy, noisy)
        (True, False)
    """
    gain_N = than_N.astype(np.float64) - error_N
    worth = effective_size(gain_N)
    return bool(gain_N.mean() > STANDARD_ERRORS * gain_N.std() / math.sqrt(max(worth, 1.0)))


def _trained(begin: GlobalModel, means: Means, name: Origin, epochs: int, proximal: float) -> GlobalModel:
    detector, config = means.detector, means.recipe.training.model_copy(update={"local_epochs": epochs})
    detector.load_weights(begin.weights)
    noise = round_generator(config.seed, f"{means.site}/{name}", means.round, next(detector.parameters()).device)
    train_epochs(detector, means.train, None, config, noise, means.stop, proximal)
    clusters = None if begin.clusters is None else _followed(begin.clusters, means, name)
    return GlobalModel({**detector.weights(), **detector.own_weights()}, clusters)


def _followed(clusters: Clusters, means: Means, name: Origin) -> Clusters:
    """Clusters in the coordinates of the detector as it is: those of a model trained alone are seeded anew."""
    latents_NZ, box = encode_all(means.detector, means.train), means.detector.latent_box
    radius = 2.0 * box * math.sqrt(latents_NZ.shape[1])
    if name == "alone":
        rng = np.random.default_rng([means.recipe.training.seed, means.round])
        clusters = _seeded(clusters, latents_NZ, rng)
    for _ in range(_LLOYD):
        total = statistic(latents_NZ, means.segments_N, clusters.centroids_KZ, radius)
        clusters = update(clusters, total, radius, kappa=0.0, floor=means.recipe.clustering.n_min, box=box)
        clusters = Clusters(
            clusters.centroids_KZ,
            clusters.frequency_K,
            clusters.active_K,
            clusters.misses_K,
            cloud_radius(clusters, total),
        )
    return clusters


def _seeded(like: Clusters, latents_NZ: FloatArray, rng: np.random.Generator) -> Clusters:
    """As many centroids, by k-means++ (Arthur and Vassilvitskii 2007): each drawn in proportion to D(x)^2."""
    chosen = [int(rng.integers(len(latents_NZ)))]
    square_N = np.full(len(latents_NZ), np.inf)
    while len(chosen) < like.count:
        offset_NZ = latents_NZ - latents_NZ[chosen[-1]]
        square_N = np.minimum(square_N, np.square(offset_NZ, dtype=np.float64).sum(axis=1))
        total = square_N.sum()
        share_N = square_N / total if total > 0 else None
        chosen.append(int(rng.choice(len(latents_NZ), p=share_N)))
    k = like.count
    even_K, ones_K, zeros_K = np.full(k, 1 / k, np.float32), np.ones(k, np.bool_), np.zeros(k, np.int64)
    return Clusters(latents_NZ[chosen].astype(np.float32), even_K, ones_K, zeros_K, like.radius)


def _errors(model: GlobalModel, means: Means) -> FloatArray:
    means.detector.load_weights(model.weights)
    return score_all(means.detector, means.holdout).error_N
