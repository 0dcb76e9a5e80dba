"""A detector between two linear maps: plants with other tags share what lies between them.

    h_t = A x_t + a        A: M x D, at the plant        the trunk: a detector of M channels, shared
    x'_t = B h'_t + b      B: D x M, at the plant        L as the trunk's, with the error taken of x

Personal layers beside a shared base are those of Arivazhagan et al. 2019 (FedPer, arXiv 1912.00818), who keep the last
layers; tags differ on both ends, so both are kept here. The trunk's tensors have the names and shapes that they have
alone, the same at every plant: they are aggregated by name, like any detector's. Nothing of A, a, B, b leaves a plant.

Where training begins follows from what tags are, not from their order (`shared.catalogue.meaning`): the column of A for
a tag is the sum of fixed directions for its quantity, kind, stage and name. So like tags of any two plants begin in
like channels, and the trunk sees one language from the first round on. B is the ridge inverse of A.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.catalogue.meaning import meaning
from shared.config import DetectorConfig, Recipe
from shared.detectors.base import Detector, Pass, build
from shared.errors import InvalidConfig
from shared.model import TensorSpec, Weights
from shared.schema import SensorSchema

OWN = "adapter."
"""How the names of what never leaves a plant begin."""

_SHARES = {"quantity": 1.0, "kind": 0.5, "stage": 0.25, "name": 0.5}
_RIDGE = 0.1  # of the mean eigenvalue: tags that begin alike would have an inverse that blows noise up

Double = NDArray[np.float64]


def build_for(recipe: Recipe, schema: SensorSchema) -> Detector:
    """A plant's detector as a recipe has it: with an adapter around it where the run shares a trunk.

    Raises:
        UnknownName: no detector of that name.
        InvalidConfig: the detector's loss cannot be taken around an adapter.
    """
    if recipe.sharing.share == "all":
        return build(recipe.detector, schema.dim)
    return Adapted(recipe.detector, schema.tags, recipe.sharing.adapter)


class Adapter(nn.Module):
    """The two linear maps of one plant.

    Args:
        tags: of the plant, D names.
        width: M.
    """

    def __init__(self, tags: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.inlet, self.outlet = nn.Linear(len(tags), width), nn.Linear(width, len(tags))
        into_MD = directions(tags, width)
        with torch.no_grad():
            for layer, weight in ((self.inlet, into_MD), (self.outlet, inverse(into_MD))):
                layer.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
                layer.bias.zero_()


class Adapted(Detector):
    """A detector of M channels behind a plant's adapter; to whoever uses it, a detector of D tags.

    Args:
        config: of the trunk.
        tags: of the plant.
        width: M.

    Raises:
        InvalidConfig: the trunk has a loss of its own, which is not taken of one pass of windows (`Detector.passed`).
    """

    name: ClassVar[str] = "adapted"

    def __init__(self, config: DetectorConfig, tags: tuple[str, ...], width: int) -> None:
        super().__init__(config, len(tags))
        self.adapter, self.trunk = Adapter(tags, width), build(config, width)
        if type(self.trunk).loss is not Detector.loss or type(self.trunk).forward is not Detector.forward:
            cause = f"detector {config.name!r} has a loss or a score of its own, which no trunk can have."
            raise InvalidConfig(cause, "Choose another recipe.detector.name, or recipe.sharing.share=all.")

    @property
    def latent_box(self) -> float:
        return self.trunk.latent_box

    def manifest(self) -> tuple[TensorSpec, ...]:
        """The trunk's alone: what the federation knows."""
        return self.trunk.manifest()

    def encode(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Tensor:
        return self.trunk.encode(self.adapter.inlet(windows_NWD), noise)

    def decode(self, latents_NZ: Tensor, noise: torch.Generator | None = None) -> Tensor:
        windows_NWD: Tensor = self.adapter.outlet(self.trunk.decode(latents_NZ, noise))
        return windows_NWD

    def passed(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Pass:
        """The trunk's pass, in the plant's own tags."""
        made = self.trunk.passed(self.adapter.inlet(windows_NWD), noise)
        return Pass(self.adapter.outlet(made.windows_NWD), made.latents_NZ, made.prior_N)

    def graph(self) -> bytes:
        """The whole network, in the plant's own tags."""
        from shared.detectors.adapter_graph import around  # needs the package onnx, which a plant has

        return around(self.trunk.graph(), self.own_weights())

    def shared_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self.trunk.shared_parameters()

    def own_weights(self) -> Weights:
        """A copy of the adapter by name, sorted."""
        return {f"{OWN}{name}": p.detach().cpu().numpy().copy() for name, p in sorted(self.adapter.named_parameters())}

    def load_weights(self, weights: Weights) -> None:
        """Copy weights in by name: of the trunk, of the adapter, or of both."""
        self.trunk.load_weights({name: value for name, value in weights.items() if not name.startswith(OWN)})
        own = dict(self.adapter.named_parameters())
        with torch.no_grad():
            for name, value in weights.items():
                if name.startswith(OWN):
                    own[name.removeprefix(OWN)].copy_(torch.from_numpy(np.array(value, np.float32)))


def directions(tags: tuple[str, ...], width: int) -> Double:
    """Where each tag begins among the trunk's channels, float64 (M, D), from its name alone.

    Columns have the norm sqrt(M / D), so that D tags of variance 1 that are not related give channels of variance 1.

    Example:
        >>> a, b, c = directions(("LIT101", "1_LT_001_PV", "P101"), 64).T
        >>> float(a @ b / (a @ a)) > 0.5, abs(float(a @ c / (a @ a))) < 0.5
        (True, True)
    """
    columns_DM = np.stack([_direction(tag, width) for tag in tags])
    columns_DM /= np.linalg.norm(columns_DM, axis=1, keepdims=True)
    return np.ascontiguousarray(columns_DM.T * np.sqrt(width / len(tags)))


def _direction(tag: str, width: int) -> Double:
    means = meaning(tag)
    words = {"quantity": means.quantity, "kind": means.kind, "stage": means.stage, "name": tag}
    total_M = np.zeros(width)
    for what, share in _SHARES.items():
        if words[what]:
            total_M += share * _unit(f"{what}:{words[what]}", width)
    return total_M


def _unit(word: str, width: int) -> Double:
    """A direction that a word stands for, of norm 1, the same on every machine."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(word.encode()).digest()[:16], "little"))
    drawn_M = rng.standard_normal(width)
    return np.asarray(drawn_M / np.linalg.norm(drawn_M), np.float64)


def inverse(into_MD: Double) -> Double:
    """`(A' A + r I)^-1 A'`, (D, M): what gives x back from A x, but for what M channels cannot hold."""
    gram_DD = into_MD.T @ into_MD
    ridge = _RIDGE * float(np.trace(gram_DD)) / len(gram_DD)
    return np.asarray(np.linalg.solve(gram_DD + ridge * np.eye(len(gram_DD)), into_MD.T), np.float64)
