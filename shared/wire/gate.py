"""The gate between a plant's reply and the mean: `parse_reply` gives `Accepted` or `Rejected`, and the mean takes
`Accepted` only.

Checked: protocol, run, round, kind, plant, model digest, schema, field list, names, dtypes, exact shapes, finiteness,
the range of every number, norm of the update, number of examples, sum of the cluster counts. A rejection carries the
plant's name and a reason that a person can act on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from shared.clustering import Statistic
from shared.errors import BadPayload
from shared.lag.sums import Moments
from shared.model import TensorSpec, Weights
from shared.privacy.noise import SIGMAS, NoiseDue, least_norm
from shared.schema import SensorSchema
from shared.wire.compress import DELTA, SCALES, Wire, expand, unflatten
from shared.wire.envelope import PROTOCOL, Packet, decode_array
from shared.wire.inventory import FINGERPRINT, REPLY, Kind, private_fields, unlisted
from shared.wire.lagged import MomentsDue, parse_moments
from shared.wire.messages import GRADIENT, LARGEST_WEIGHT, WEIGHT, number, parse_weights, same, shown, whole

METRICS = ("train_loss", "cluster_loss", "holdout_loss", "calibrated", "below", "own_model")
TIMINGS = ("seconds_train", "seconds_evaluate", "seconds_cluster")
_LONGEST_TEXT = 2_000_000
_WITHIN: Mapping[str, tuple[float, float]] = {
    "train_loss": (0, 1e12),
    "cluster_loss": (-1e-3, 1e12),  # a divergence: never negative, but for the rounding of float32
    "holdout_loss": (0, 1e12),
    "calibrated": (0, 1),
    "own_model": (0, 1),
    "below": (-1e6, 1e6),  # noised
    **dict.fromkeys(TIMINGS, (0, 1e9)),
}
_NOISED: Mapping[str, tuple[float, float]] = {**_WITHIN, "train_loss": (-1e12, 1e12)}
_REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    Kind.DESCRIBE: (),
    Kind.TRAIN: ("train_loss", "cluster_loss", "holdout_loss"),
    Kind.CLUSTER: (),
    Kind.MOMENTS: (),
    Kind.CALIBRATE: ("holdout_loss", "calibrated"),
}
_REQUIRED_PRIVATE: Mapping[Kind, tuple[str, ...]] = {Kind.TRAIN: ("train_loss", "below")}
_PRIVATE_REPLY = private_fields(REPLY)
_WIDEST = 1e6  # radius of an offset where the architecture gives no bound
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Expectation:
    """What a reply must match.

    Attributes:
        kind, run, round, digest: of the request.
        plant: the member asked, None in the describe round.
        examples: what that member declared, None in the describe round.
        segments: what that member declared; the counts of its statistic must add up to this.
        manifest: the detector's tensors.
        base: the weights that were sent, for the norm of the update.
        clusters: (K, Z) of the clusters that were sent, None when no statistic is due.
        radius: clipping radius of the statistic.
        max_update_norm, max_examples: caps.
        wire: how the update must travel.
        schema: fingerprint of the federation's sensors, which the reply must bear; empty: whatever it bears.
        gradient: whether a gradient is due instead of weights.
        noise: that the reply must bear under local differential privacy, when it may carry nothing unprotected; None
            without.
        measured: whether losses are due; none are under central differential privacy, which has no noise for them.
        moments: what moments must be, None when none are due.
    """

    kind: Kind
    run: str
    round: int
    digest: str = ""
    plant: str | None = None
    examples: int | None = None
    segments: int = 0
    manifest: tuple[TensorSpec, ...] = ()
    base: Weights | None = None
    clusters: tuple[int, int] | None = None
    radius: float = math.inf
    max_update_norm: float = math.inf
    max_examples: int = 2**53
    wire: Wire = "fp32"
    schema: str = ""
    gradient: bool = False
    noise: NoiseDue | None = None
    measured: bool = True
    moments: MomentsDue | None = None


@dataclass(frozen=True)
class Description:
    """A plant's answer to `describe`."""

    schema: SensorSchema
    manifest: tuple[TensorSpec, ...]
    examples: int
    segments: int


@dataclass(frozen=True)
class Accepted:
    """A reply that may be aggregated. Only this module makes one.

    `weights` are the plant's, or its gradient where that was due; `update_norm` is how far they are from what was sent,
    or the gradient's norm.
    """

    plant: str
    examples: int | None = None
    weights: Weights | None = None
    statistic: Statistic | None = None
    description: Description | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    update_norm: float | None = None
    moments: Moments | None = None


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
        return Rejected(plant, f"refused by the plant: {_printable(packet.texts['refused'][:200])}")
    weights, norm = _weights(packet, expect)
    return Accepted(
        plant=plant,
        examples=_examples(packet, expect),
        weights=weights,
        statistic=_statistic(packet, expect),
        description=_description(packet, expect) if expect.kind is Kind.DESCRIBE else None,
        metrics=_measured(packet, METRICS, expect),
        timings={name.removeprefix("seconds_"): value for name, value in _measured(packet, TIMINGS, expect).items()},
        update_norm=norm,
        moments=None if expect.moments is None else parse_moments(packet, expect.moments),
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _claimed_name(packet: Packet) -> str:
    name = packet.texts.get("plant")
    return name[:64] if isinstance(name, str) and name.isprintable() else ""


def _check_head(packet: Packet, expect: Expectation, plant: str) -> None:
    version, round_ = packet.numbers.get("protocol"), packet.numbers.get("round")
    if not same(version, PROTOCOL):
        raise BadPayload(f"protocol version {shown(version)}, expected {PROTOCOL}: update the older side.")
    for name, due in (("run", expect.run), ("kind", expect.kind.value), ("plant", plant)):
        if packet.texts.get(name) != due:
            raise BadPayload(f"{name} {str(packet.texts.get(name))[:64]!r}, expected {due!r}.")
    if not same(round_, expect.round):
        raise BadPayload(f"round {shown(round_)}, expected {expect.round}: a stale reply.")
    if expect.digest and "refused" not in packet.texts and packet.texts.get("model") != expect.digest:
        raise BadPayload("computed from another global model than was sent: a stale reply.")
    if expect.schema and "refused" not in packet.texts:
        _check_schema(packet.texts.get(FINGERPRINT), expect.schema)
    if any(len(text) > _LONGEST_TEXT for text in packet.texts.values()):
        raise BadPayload(f"a text of more than {_LONGEST_TEXT:,} characters.")
    extra = unlisted(packet, expect.kind, REPLY if expect.noise is None else _PRIVATE_REPLY)
    if extra:
        names = ", ".join(_printable(e[:80]) for e in extra[:3])
        under = "" if expect.noise is None else " under differential privacy"
        raise BadPayload(f"fields that no {expect.kind.value} reply may carry{under}: {names}.")


def _check_schema(found: object, due: str) -> None:
    """A plant whose tags were changed while it was away may still have as many of them, and a network that fits."""
    if found is None:
        raise BadPayload("schema: the reply bears no fingerprint of its sensors: update the plant.")
    if found != due:
        raise BadPayload(f"schema: computed on sensors with schema {shown(found)}, the federation's is {due!r}.")


def _weights(packet: Packet, expect: Expectation) -> tuple[Weights | None, float | None]:
    if expect.kind is not Kind.TRAIN:
        return None, None
    base = expect.base or {}
    weights = _whole(packet, expect) if expect.wire == "fp32" else _moved(packet, expect, base)
    moved = (weights[name] if expect.gradient else weights[name] - base[name] for name in base)
    norm = math.sqrt(sum(map(_square, moved)))
    if norm > expect.max_update_norm:
        raise BadPayload(f"update norm {norm:.3g}, more than the cap of {expect.max_update_norm:g}.")
    if expect.noise is not None:
        _check_noise(norm, expect.noise, sum(spec.size for spec in expect.manifest))
    return weights, norm


def _check_noise(norm: float, due: NoiseDue, size: int) -> None:
    least = least_norm(due.gradient, size)
    if norm < least:
        raise BadPayload(
            f"noise: the gradient's norm is {norm:.3g}, its noise alone must have {least:.3g}: it carries too little "
            "noise for the differential privacy that the run promises; tell the plant's operator."
        )


def _whole(packet: Packet, expect: Expectation) -> Weights:
    other = WEIGHT if expect.gradient else GRADIENT
    odd = sorted(name for name in packet.arrays if name in (DELTA, SCALES) or name.startswith(other))
    if odd:
        raise BadPayload(f"{_printable(odd[0][:80])} in a reply that was to travel as fp32, {_due(expect)}.")
    return parse_weights(packet, expect.manifest, GRADIENT if expect.gradient else WEIGHT)


def _due(expect: Expectation) -> str:
    return "as a gradient" if expect.gradient else "as weights"


def _moved(packet: Packet, expect: Expectation, base: Weights) -> Weights:
    """The weights that a compressed change leads to, or the gradient that it is; within what no plant leaves."""
    of_weights = {name: raw for name, raw in packet.arrays.items() if not name.startswith("cluster_")}
    change = unflatten(expand(of_weights, expect.manifest, expect.wire), expect.manifest)
    with np.errstate(over="ignore"):
        weights = {name: -value if expect.gradient else base[name] + value for name, value in change.items()}
    for name, value in weights.items():
        if not (np.abs(value) <= LARGEST_WEIGHT).all():
            raise BadPayload(f"tensor {name}: a value beyond 10,000.")
    return weights


def _square(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    flat = values.ravel().astype(np.float64)
    return float(flat @ flat)


def _examples(packet: Packet, expect: Expectation) -> int | None:
    if expect.kind not in (Kind.DESCRIBE, Kind.TRAIN) or (expect.kind is Kind.TRAIN and expect.noise is not None):
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
    if not (np.isfinite(sums).all() and np.isfinite(counts).all()):
        raise BadPayload("cluster statistic with values that are not finite.")
    check = _check_statistic if expect.noise is None else _check_noised
    check(Statistic(sums, counts, spread), expect)
    return Statistic(sums, counts, spread)


@np.errstate(over="ignore")  # a sum that overflows is infinite, and infinitely too much
def _check_statistic(said: Statistic, expect: Expectation) -> None:
    """Every segment adds exactly 1 to the counts, and moves the sums of its clusters by its share of rho at most."""
    segments, radius = float(said.counts_K.sum()), min(expect.radius, _WIDEST)
    if (said.counts_K < 0).any():
        raise BadPayload("cluster counts that are negative.")
    if not abs(segments - expect.segments) <= _ROUNDING * expect.segments:
        raise BadPayload(f"cluster counts of {segments:,.9g} segments, but {expect.segments:,} were declared.")
    if (np.linalg.norm(said.sums_KZ, axis=1) > _slack(radius * said.counts_K)).any():
        raise BadPayload("cluster sums larger than their counts allow.")
    if not 0 <= said.spread <= _slack(radius * radius * segments):
        raise BadPayload(f"cluster_spread is {said.spread:g}, outside of what its counts allow.")


@np.errstate(over="ignore")
def _check_noised(said: Statistic, expect: Expectation) -> None:
    """The same with room for noise; how many segments there are is known to a factor of two only, and any number of
    them may hold no usable reading: how many is the plant's secret.
    """
    due = expect.noise or NoiseDue(0.0, 0.0, 0.0, 0.0)
    radius, most = min(expect.radius, _WIDEST), 2.0 * expect.segments
    count, slack = float(said.counts_K.sum()), SIGMAS * due.counts
    if (said.counts_K < -slack).any():
        raise BadPayload("cluster counts more negative than noise makes them.")
    room = slack * math.sqrt(said.counts_K.size)
    if not -room <= count <= most + room:
        raise BadPayload(f"cluster counts of {count:,.9g} segments, at most {most:,.0f} follow from what was declared.")
    longest_K = radius * (np.maximum(said.counts_K, 0.0) + slack) + due.sums * (
        math.sqrt(said.sums_KZ.shape[1]) + SIGMAS
    )
    if (np.linalg.norm(said.sums_KZ, axis=1) > _slack(longest_K)).any():
        raise BadPayload("cluster sums larger than their counts and the noise allow.")
    if not -SIGMAS * due.spread <= said.spread <= _slack(radius * radius * most + SIGMAS * due.spread):
        raise BadPayload(f"cluster_spread is {said.spread:g}, outside of what its counts and the noise allow.")


Bound = TypeVar("Bound", float, NDArray[np.float64])


def _slack(bound: Bound) -> Bound:
    return bound * (1 + _ROUNDING) + _ROUNDING


def _measured(packet: Packet, names: Sequence[str], expect: Expectation) -> dict[str, float]:
    """Those of the numbers that came, of which some must; each within what can be measured."""
    plain = _REQUIRED[expect.kind] if expect.measured else ()
    required = plain if expect.noise is None else _REQUIRED_PRIVATE.get(expect.kind, ())
    within = _WITHIN if expect.noise is None else _NOISED
    found = {name: number(packet, name) for name in names if name in packet.numbers or name in required}
    for name, value in found.items():
        low, high = within[name]
        if not low <= value <= high:
            raise BadPayload(f"{name} is {value:g}, beyond what can be measured: {low:g} to {high:g}.")
    if found.get("calibrated", 0) not in (0, 1):
        raise BadPayload(f"calibrated is {found['calibrated']:g}, expected 0 or 1.")
    return found


def _description(packet: Packet, expect: Expectation) -> Description:
    try:
        schema = SensorSchema.parse(packet.texts["schema"])
        manifest = _manifest(json.loads(packet.texts["manifest"]))
    except (KeyError, ValueError, ValidationError, TypeError, RecursionError) as error:
        raise BadPayload("an unreadable schema or manifest.") from error
    examples, segments = whole(packet, "examples"), whole(packet, "segments")
    if not 1 <= segments <= examples:
        raise BadPayload(f"{segments:,} segments in {examples:,} windows.")
    return Description(schema, manifest, examples, segments)


def _manifest(rows: Any) -> tuple[TensorSpec, ...]:
    specs = tuple(_spec(name, shape, bound) for name, shape, bound in rows)
    if not specs or len({s.name for s in specs}) < len(specs) or sum(s.size for s in specs) > 200_000_000:
        raise ValueError("an impossible manifest")
    return specs


def _spec(name: Any, shape: Any, bound: Any) -> TensorSpec:
    named = type(name) is str and name.isprintable() and 1 <= len(name) <= 200
    shaped = type(shape) is list and len(shape) <= 8 and all(type(n) is int and 1 <= n < 2**31 for n in shape)
    if not named or not shaped or type(bound) not in (int, float) or not 0 <= bound <= 10:
        raise ValueError("an impossible tensor")
    return TensorSpec(name, tuple(shape), float(bound))


def encode_manifest(manifest: tuple[TensorSpec, ...]) -> str:
    """A manifest as text, for the describe reply."""
    return json.dumps([[spec.name, list(spec.shape), spec.bound] for spec in manifest])
