"""Typed requests, and their way into and out of packets. Replies are parsed by `shared.wire.gate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from shared.config import ALPHA_MOST, Recipe
from shared.errors import BadPayload
from shared.lag.pooled import LagSum
from shared.model import Clusters, GlobalModel, TensorSpec, Weights
from shared.wire.compress import WIRES, Wire
from shared.wire.envelope import PROTOCOL, Number, Packet, RawArray, decode_array, encode_array
from shared.wire.inventory import REQUEST, SIGNATURE, Kind, unlisted
from shared.wire.lagged import encode_lag, parse_lag

WEIGHT = "weights/"
GRADIENT = "gradient/"
CLUSTER = "clusters/"
LARGEST_WEIGHT = 1e4  # in magnitude; neither side takes a model beyond it
LARGEST_CENTROID = 1e6
CLIP_LEAST, CLIP_MOST = 1e-4, 1e4

_BEYOND = 2**63


@dataclass(frozen=True)
class TrainOrder:
    """How to train in one round.

    Attributes:
        alpha: weight of the clustering loss.
        step: index of this training round within the run; seeds the order of the batches, so a repeated round repeats
            exactly.
        one_step: return the gradient on the whole local set (under differential privacy: on a sample of it) instead of
            training for the recipe's epochs.
        with_statistic: also report the cluster statistic under the incoming model.
        wire: how the update travels back, see `shared.wire.compress`.
        clip: norm that each record's gradient is clipped to under local differential privacy; 0 without.
        places: of the plants, for an ensemble of which each trains a part (`shared.ensemble`); empty without.
    """

    alpha: float = 0.0
    step: int = 0
    one_step: bool = False
    with_statistic: bool = False
    wire: Wire = "fp32"
    clip: float = 0.0
    places: str = ""


@dataclass(frozen=True)
class Request:
    """What a server asks of a plant.

    Attributes:
        kind: what to do.
        run, round: what this is part of; echoed by the reply.
        recipe: what every plant of the run does alike.
        digest: digest of the global model that is sent along; echoed by the reply.
        model: weights and clusters, None for `describe`.
        radius: clipping radius for the cluster statistic.
        order: for `train`.
        lag: for `calibrate`, what plants sent when they were asked for moments, added up; None: nothing of that.
    """

    kind: Kind
    run: str
    round: int
    recipe: Recipe
    digest: str = ""
    model: GlobalModel | None = None
    radius: float = math.inf
    order: TrainOrder = TrainOrder()
    lag: LagSum | None = None


@dataclass(frozen=True)
class EncodedModel:
    """A model's arrays, encoded once for all plants."""

    arrays: Mapping[str, RawArray] = field(default_factory=dict)

    @staticmethod
    def of(model: GlobalModel | None) -> EncodedModel:
        """Encode a model; nothing for None."""
        if model is None:
            return EncodedModel()
        arrays = {f"{WEIGHT}{name}": encode_array(value) for name, value in model.weights.items()}
        if model.clusters is not None:
            c = model.clusters
            arrays[f"{CLUSTER}centroids"] = encode_array(c.centroids_KZ)
            arrays[f"{CLUSTER}frequency"] = encode_array(c.frequency_K)
            arrays[f"{CLUSTER}active"] = encode_array(c.active_K.astype(np.uint8))
            arrays[f"{CLUSTER}misses"] = encode_array(c.misses_K.astype(np.float64))
            arrays[f"{CLUSTER}radius"] = encode_array(np.asarray([c.radius], np.float64))
        return EncodedModel(arrays)


def encode_request(request: Request, signature: str = "") -> Packet:
    """A request as a packet, the same for every plant.

    Args:
        request: what is asked.
        signature: the operator's over the run; empty when nobody signed it.
    """
    numbers: dict[str, Number] = {"protocol": PROTOCOL, "round": request.round}
    texts = {"run": request.run, "kind": request.kind.value, "recipe": recipe_text(request.recipe)}
    if signature:
        texts[SIGNATURE] = signature
    if request.model is not None:
        texts["model"] = request.digest
        # Flower's records hold no infinity; a negative radius means none.
        numbers["radius"] = request.radius if math.isfinite(request.radius) else -1.0
    if request.kind is Kind.TRAIN:
        order = request.order
        numbers |= {"alpha": order.alpha, "step": order.step}
        numbers |= {"one_step": int(order.one_step), "with_statistic": int(order.with_statistic)}
        if order.clip:
            numbers["clip"] = order.clip
        texts["wire"] = order.wire
        if order.places:
            texts["places"] = order.places
    return Packet({**EncodedModel.of(request.model).arrays, **encode_lag(request.lag)}, numbers, texts)


def recipe_text(recipe: Recipe) -> str:
    """A recipe as it travels and is signed."""
    return recipe.model_dump_json()


def parse_head(packet: Packet) -> tuple[Kind, Recipe]:
    """Kind and recipe of a request, all that is needed to choose the plant's workspace.

    Raises:
        BadPayload: the packet is no request of this protocol.
    """
    if not same(packet.numbers.get("protocol"), PROTOCOL):
        raise BadPayload(f"protocol version {shown(packet.numbers.get('protocol'))}, expected {PROTOCOL}.")
    try:
        kind = Kind(packet.texts["kind"])
        recipe = Recipe.model_validate_json(packet.texts["recipe"])
    except (KeyError, ValueError, ValidationError) as error:
        raise BadPayload("a request without a known kind and a valid recipe.") from error
    extra = unlisted(packet, kind, REQUEST)
    if extra:
        raise BadPayload(f"fields that no {kind.value} request may carry: {', '.join(extra[:5])}.")
    return kind, recipe


def parse_request(packet: Packet, manifest: tuple[TensorSpec, ...], latent: int) -> Request:
    """Parse a request at the plant, against the plant's own detector.

    Raises:
        BadPayload: a field is missing, of the wrong type, not finite, or of another shape than the plant's detector
            has.
    """
    kind, recipe = parse_head(packet)
    round_ = whole(packet, "round")
    run = packet.texts.get("run", "")
    if kind in (Kind.DESCRIBE, Kind.MOMENTS):
        return Request(kind, run, round_, recipe)
    model = GlobalModel(parse_weights(packet, manifest), _parse_clusters(packet, latent))
    radius = number(packet, "radius")
    order = _parse_order(packet) if kind is Kind.TRAIN else TrainOrder()
    digest = packet.texts.get("model", "")
    if digest != model.digest:
        raise BadPayload(f"the model has digest {model.digest[:12]}, the message says {digest[:12]!r}.")
    lag = parse_lag(packet) if kind is Kind.CALIBRATE else None
    return Request(kind, run, round_, recipe, digest, model, radius if radius >= 0 else math.inf, order, lag)


def _parse_order(packet: Packet) -> TrainOrder:
    alpha = number(packet, "alpha")
    if not 0 <= alpha <= ALPHA_MOST:
        raise BadPayload(f"alpha is {alpha:g}, expected 0 to {ALPHA_MOST:g}.")
    wire = next((known for known in WIRES if known == packet.texts.get("wire")), None)
    if wire is None:
        raise BadPayload(f"wire {str(packet.texts.get('wire'))[:40]!r}, expected one of {', '.join(WIRES)}.")
    clip = number(packet, "clip") if "clip" in packet.numbers else 0.0
    if not 0 <= clip <= CLIP_MOST:
        raise BadPayload(f"clip is {clip:g}, expected 0 to {CLIP_MOST:g}.")
    return TrainOrder(
        wire=wire,
        clip=clip,
        places=packet.texts.get("places", ""),
        alpha=alpha,
        step=whole(packet, "step"),
        one_step=bool(whole(packet, "one_step")),
        with_statistic=bool(whole(packet, "with_statistic")),
    )


def _parse_clusters(packet: Packet, latent: int) -> Clusters | None:
    raw = packet.arrays.get(f"{CLUSTER}centroids")
    if raw is None:
        return None
    k = raw.shape[0] if len(raw.shape) == 2 else 0
    if not 1 <= k <= 4096:
        raise BadPayload(f"{k} clusters.")
    shapes = {"centroids": ((k, latent), "<f4"), "frequency": ((k,), "<f4"), "active": ((k,), "|u1")}
    shapes |= {"misses": ((k,), "<f8"), "radius": ((1,), "<f8")}
    parts = {}
    for name, (shape, dtype) in shapes.items():
        if f"{CLUSTER}{name}" not in packet.arrays:
            raise BadPayload(f"clusters without {name}.")
        parts[name] = decode_array(packet.arrays[f"{CLUSTER}{name}"], shape, dtype)
    _check_clusters(parts)
    return Clusters(
        centroids_KZ=parts["centroids"].astype(np.float32),
        frequency_K=parts["frequency"].astype(np.float32),
        active_K=parts["active"].astype(bool),
        misses_K=parts["misses"].astype(np.int64),
        radius=float(parts["radius"][0]),
    )


_WITHIN = {
    "centroids": (-LARGEST_CENTROID, LARGEST_CENTROID),
    "frequency": (1e-9, 1.0),
    "active": (0, 1),
    "misses": (0, 1e9),
    "radius": (0, math.inf),
}


def _check_clusters(parts: Mapping[str, NDArray[np.generic]]) -> None:
    """A frequency of 0 would make the loss divide by nothing, as would no active cluster; NaN is within no bounds."""
    for name, (low, high) in _WITHIN.items():
        values = parts[name].astype(np.float64)
        if not ((low <= values) & (values <= high)).all():
            raise BadPayload(f"clusters with a {name} outside of {low:g} to {high:g}.")
    if not parts["active"].any():
        raise BadPayload("clusters of which none is active.")


def parse_weights(packet: Packet, manifest: tuple[TensorSpec, ...], prefix: str = WEIGHT) -> Weights:
    """The packet's weights, which must be exactly the manifest's names and shapes, float32 and finite.

    Args:
        packet: a request or a reply.
        manifest: the tensors due.
        prefix: `WEIGHT`, or `GRADIENT` for what a one-step round brings.

    Raises:
        BadPayload: a tensor is missing, unknown, of another shape or dtype, NaN or infinite, or beyond 10,000.
    """
    present = {name.removeprefix(prefix) for name in packet.arrays if name.startswith(prefix)}
    expected = {spec.name for spec in manifest}
    if present != expected:
        missing, extra = sorted(expected - present), sorted(present - expected)
        raise BadPayload(f"tensors missing: {missing[:3] or 'none'}; unknown: {[e[:80] for e in extra[:3]] or 'none'}.")
    return MappingProxyType({spec.name: _parse_tensor(packet, spec, prefix) for spec in manifest})


def _parse_tensor(packet: Packet, spec: TensorSpec, prefix: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    try:
        values = decode_array(packet.arrays[f"{prefix}{spec.name}"], spec.shape).astype(np.float32, copy=False)
    except BadPayload as error:
        raise BadPayload(f"tensor {spec.name}: {error.cause}") from error
    # min and max are NaN when any value is: one pass each, no temporary mask.
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadPayload(f"tensor {spec.name}: NaN or infinite values.")
    if max(-low, high) > LARGEST_WEIGHT:
        raise BadPayload(f"tensor {spec.name}: a value beyond 10,000.")
    return values


def number(packet: Packet, name: str) -> float:
    """A finite number, or BadPayload."""
    value = packet.numbers.get(name)
    if (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < _BEYOND):
        return float(value)
    raise BadPayload(f"{name} is {shown(value)}, expected a finite number.")


def whole(packet: Packet, name: str) -> int:
    """A whole number from 0 on, or BadPayload."""
    value = packet.numbers.get(name)
    if type(value) is not int or not 0 <= value < _BEYOND:
        raise BadPayload(f"{name} is {shown(value)}, expected a whole number from 0 on.")
    return value


def same(found: object, due: int) -> bool:
    """Whether a number is this whole number. True and 1.0 are not 1, although Python holds them equal."""
    return type(found) is int and found == due


def shown(value: object, longest: int = 40) -> str:
    """A peer's value for a person to read: printable, short, whatever it is.

    Example:
        >>> shown(10**5000), shown("north"), shown(2.5)
        ('a number beyond 64 bits', "'north'", '2.5')
    """
    if isinstance(value, int) and abs(value) >= _BEYOND:
        return "a number beyond 64 bits"
    return repr(value[:longest] if isinstance(value, str) else value)[: longest + 2]
