"""The gate between a plant's reply and the mean: `parse_reply` gives `Accepted` or `Rejected`, and the mean takes
`Accepted` only.

Checked: protocol, run, round, kind, plant, model digest, field list, names, dtypes, exact shapes, finiteness, range,
norm of the update,
number of examples. A rejection carries the plant's name and a reason that a person can act on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from shared.clustering import Statistic
from shared.errors import BadPayload
from shared.model import TensorSpec, Weights
from shared.schema import SensorSchema
from shared.wire.envelope import PROTOCOL, Packet, decode_array
from shared.wire.inventory import REPLY, Kind, unlisted
from shared.wire.messages import number, parse_weights, whole

METRICS = ("train_loss", "cluster_loss", "holdout_loss", "calibrated")
TIMINGS = ("seconds_train", "seconds_evaluate", "seconds_cluster")
_LONGEST_TEXT = 2_000_000


@dataclass(frozen=True)
class Expectation:
    """What a reply must match.

    Attributes:
        kind, run, round, digest: of the request.
        plant: the member asked, None in the describe round.
        examples: what that member declared, None in the describe round.
        manifest: the detector's tensors.
        base: the weights that were sent, for the norm of the update.
        clusters: (K, Z) of the clusters that were sent, None when no statistic is due.
        radius: clipping radius of the statistic.
        max_update_norm, max_examples: caps.
    """

    kind: Kind
    run: str
    round: int
    digest: str = ""
    plant: str | None = None
    examples: int | None = None
    manifest: tuple[TensorSpec, ...] = ()
    base: Weights | None = None
    clusters: tuple[int, int] | None = None
    radius: float = math.inf
    max_update_norm: float = math.inf
    max_examples: int = 2**53


@dataclass(frozen=True)
class Description:
    """A plant's answer to `describe`."""

    schema: SensorSchema
    manifest: tuple[TensorSpec, ...]
    examples: int
    segments: int


@dataclass(frozen=True)
class Accepted:
    """A reply that may be aggregated. Only this module makes one."""

    plant: str
    examples: int | None = None
    weights: Weights | None = None
    statistic: Statistic | None = None
    description: Description | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    update_norm: float | None = None


@dataclass(frozen=True)
class Rejected:
    """A reply that does not count, with the reason."""

    plant: str
    reason: str


def parse_reply(packet: Packet, expect: Expectation, node: str = "unknown plant") -> Accepted | Rejected:
    """Judge one reply. Never raises on account of its content.

    Args:
        packet: what came.
        expect: what was asked.
        node: what to call the sender while its name is not known.
    """
    plant = expect.plant or _claimed_name(packet) or node
    try:
        return _parse(packet, expect, plant)
    except BadPayload as error:
        return Rejected(plant, error.cause)


def _parse(packet: Packet, expect: Expectation, plant: str) -> Accepted | Rejected:
    _check_head(packet, expect, plant)
    if "refused" in packet.texts:
        return Rejected(plant, f"refused by the plant: {packet.texts['refused'][:200]}")
    weights, norm = _weights(packet, expect)
    return Accepted(
        plant=plant,
        examples=_examples(packet, expect),
        weights=weights,
        statistic=_statistic(packet, expect),
        description=_description(packet, expect) if expect.kind is Kind.DESCRIBE else None,
        metrics={name: number(packet, name) for name in METRICS if name in packet.numbers},
        timings={name.removeprefix("seconds_"): number(packet, name) for name in TIMINGS if name in packet.numbers},
        update_norm=norm,
    )


def _claimed_name(packet: Packet) -> str:
    name = packet.texts.get("plant")
    return name[:64] if isinstance(name, str) and name.isprintable() else ""


def _check_head(packet: Packet, expect: Expectation, plant: str) -> None:
    if packet.numbers.get("protocol") != PROTOCOL:
        raise BadPayload(
            f"protocol version {packet.numbers.get('protocol')!r}, expected {PROTOCOL}: update the older side."
        )
    for name, due in (("run", expect.run), ("kind", expect.kind.value), ("plant", plant)):
        if packet.texts.get(name) != due:
            raise BadPayload(f"{name} {str(packet.texts.get(name))[:64]!r}, expected {due!r}.")
    if packet.numbers.get("round") != expect.round:
        raise BadPayload(f"round {packet.numbers.get('round')!r}, expected {expect.round}: a stale reply.")
    if expect.digest and "refused" not in packet.texts and packet.texts.get("model") != expect.digest:
        raise BadPayload("computed from another global model than was sent: a stale reply.")
    if any(len(text) > _LONGEST_TEXT for text in packet.texts.values()):
        raise BadPayload(f"a text of more than {_LONGEST_TEXT:,} characters.")
    extra = unlisted(packet, expect.kind, REPLY)
    if extra:
        raise BadPayload(f"fields that no {expect.kind.value} reply may carry: {', '.join(e[:80] for e in extra[:3])}.")


def _weights(packet: Packet, expect: Expectation) -> tuple[Weights | None, float | None]:
    if expect.kind is not Kind.TRAIN:
        return None, None
    weights = parse_weights(packet, expect.manifest)
    base = expect.base or {}
    squares = (_square(weights[name] - base[name]) for name in base)
    norm = math.sqrt(sum(squares))
    if norm > expect.max_update_norm:
        raise BadPayload(f"update norm {norm:.3g}, more than the cap of {expect.max_update_norm:g}.")
    return weights, norm


def _square(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    flat = values.ravel().astype(np.float64)
    return float(flat @ flat)


def _examples(packet: Packet, expect: Expectation) -> int | None:
    if expect.kind not in (Kind.DESCRIBE, Kind.TRAIN):
        return None
    examples = whole(packet, "examples")
    if not 1 <= examples <= expect.max_examples:
        raise BadPayload(f"{examples:,} examples, allowed are 1 to {expect.max_examples:,}.")
    if expect.examples is not None and examples != expect.examples:
        raise BadPayload(f"{examples:,} examples, but {expect.examples:,} were declared in the describe round.")
    return examples


def _statistic(packet: Packet, expect: Expectation) -> Statistic | None:
    if expect.clusters is None:
        return None
    k, z = expect.clusters
    for name in ("cluster_sums", "cluster_counts"):
        if name not in packet.arrays:
            raise BadPayload(f"{name} is missing.")
    sums = decode_array(packet.arrays["cluster_sums"], (k, z), "<f8").astype(np.float64)
    counts = decode_array(packet.arrays["cluster_counts"], (k,), "<f8").astype(np.float64)
    spread = number(packet, "cluster_spread")
    if not (np.isfinite(sums).all() and np.isfinite(counts).all() and spread >= 0):
        raise BadPayload("cluster statistic with values that are not finite.")
    # A segment moves the sums of its clusters by at most rho times its share: more than that was not computed from
    # data.
    if math.isfinite(expect.radius):
        bound = expect.radius * np.maximum(counts, 0.0) * (1 + 1e-6) + 1e-6
        if (np.linalg.norm(sums, axis=1) > bound).any():
            raise BadPayload("cluster sums larger than their counts allow.")
    if (counts < 0).any() or counts.sum() > expect.max_examples:
        raise BadPayload("cluster counts that are negative or beyond the cap.")
    return Statistic(sums, counts, spread)


def _description(packet: Packet, expect: Expectation) -> Description:
    try:
        schema = SensorSchema.model_validate_json(packet.texts["schema"])
        manifest = _manifest(json.loads(packet.texts["manifest"]))
    except (KeyError, ValueError, ValidationError, TypeError, RecursionError) as error:
        raise BadPayload("an unreadable schema or manifest.") from error
    return Description(schema, manifest, whole(packet, "examples"), whole(packet, "segments"))


def _manifest(rows: Any) -> tuple[TensorSpec, ...]:
    specs = tuple(TensorSpec(str(name), tuple(int(n) for n in shape), float(bound)) for name, shape, bound in rows)
    sane = all(s.name and len(s.name) <= 200 and all(n >= 1 for n in s.shape) and 0 <= s.bound <= 10 for s in specs)
    if not specs or not sane or len({s.name for s in specs}) < len(specs) or sum(s.size for s in specs) > 200_000_000:
        raise ValueError("an impossible manifest")
    return specs


def encode_manifest(manifest: tuple[TensorSpec, ...]) -> str:
    """A manifest as text, for the describe reply."""
    return json.dumps([[spec.name, list(spec.shape), spec.bound] for spec in manifest])
