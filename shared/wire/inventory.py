"""The list of everything that crosses the wire, in either direction. What is not on it does not travel.

A test sends every message of a whole run past this list; the gate rejects a reply that carries anything else.
`sensitive` says what a
field can tell about a plant's data, `protection` what stands in the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from shared.wire.envelope import Packet

SIGNATURE = "signature"
"""Name of the text that holds the operator's signature over the run, see `shared.wire.signature`."""

FINGERPRINT = "fingerprint"
"""Name of the text that says which sensors a reply was computed on, see `shared.schema`."""


DROPPED = "dropped"


class Kind(StrEnum):
    """The kinds of request that a server may send."""

    DESCRIBE = "describe"
    TRAIN = "train"
    CLUSTER = "cluster"
    MOMENTS = "moments"
    CALIBRATE = "calibrate"


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        name: its name; a trailing `*` stands for any tensor of the manifest.
        part: which map of the packet it lives in.
        kinds: the message kinds that may carry it.
        sensitive: what it can tell about a plant, empty for public facts.
        protection: what limits that without differential privacy.
        sensitivity: how far one record can move it, in the norm that its noise is scaled to; empty where none is added.
        private: what becomes of it under local differential privacy; `DROPPED`: no reply carries it.
    """

    name: str
    part: Literal["arrays", "numbers", "texts"]
    kinds: frozenset[Kind]
    sensitive: str = ""
    protection: str = ""
    sensitivity: str = ""
    private: str = "as it is: no data in it"

    def covers(self, part: str, name: str, kind: Kind) -> bool:
        """Whether this entry allows a field."""
        same = name.startswith(self.name[:-1]) if self.name.endswith("*") else name == self.name
        return same and part == self.part and kind in self.kinds


_ALL = frozenset(Kind)
_TRAIN = frozenset({Kind.TRAIN})
_STATISTIC = frozenset({Kind.TRAIN, Kind.CLUSTER})
_WITH_MODEL = frozenset({Kind.TRAIN, Kind.CLUSTER, Kind.CALIBRATE})
_DESCRIBE = frozenset({Kind.DESCRIBE})
_CALIBRATE = frozenset({Kind.CALIBRATE})
_ON_DATA = _WITH_MODEL | {Kind.MOMENTS}

_NONE = "none without differential privacy"
_LEARNT = "how well the plant is learnt"
_CLIPPED = "sums over segments, clipped at the radius"
_NOISED = "Gaussian noise, in the ledger"
_BUCKET = "the power of two at or below, declared"

REQUEST: tuple[Field, ...] = (
    Field("protocol", "numbers", _ALL),
    Field("round", "numbers", _ALL),
    Field("run", "texts", _ALL),
    Field("kind", "texts", _ALL),
    Field("recipe", "texts", _ALL),
    Field(SIGNATURE, "texts", _ALL),
    Field("model", "texts", _WITH_MODEL),
    Field("weights/*", "arrays", _WITH_MODEL),
    Field("clusters/*", "arrays", _WITH_MODEL),
    Field("radius", "numbers", _WITH_MODEL),
    Field("alpha", "numbers", _TRAIN),
    Field("step", "numbers", _TRAIN),
    Field("one_step", "numbers", _TRAIN),
    Field("with_statistic", "numbers", _TRAIN),
    Field("clip", "numbers", _TRAIN),
    Field("wire", "texts", _TRAIN),
    Field("places", "texts", _TRAIN),
    Field("lag_moments", "arrays", _CALIBRATE),
    Field("lag_tags", "arrays", _CALIBRATE),
    Field("lag_shares", "arrays", _CALIBRATE),
)

REPLY: tuple[Field, ...] = (
    Field("protocol", "numbers", _ALL),
    Field("round", "numbers", _ALL),
    Field("run", "texts", _ALL),
    Field("kind", "texts", _ALL),
    Field("plant", "texts", _ALL, "identity", "name chosen by the plant", private="as it is: not covered by the claim"),
    Field(
        "refused",
        "texts",
        _ALL,
        "why a plant could not take part",
        "fixed code and name only, no data",
        private="as it is: a code and a word; that a budget is spent or records are few shows, nothing that was read",
    ),
    Field("model", "texts", _WITH_MODEL),
    Field(FINGERPRINT, "texts", _ON_DATA, "process know-how", "digest", private="as it is: not covered by the claim"),
    Field(
        "schema",
        "texts",
        _DESCRIBE,
        "process know-how: tag names and sampling",
        "plant may map tags to neutral names",
        private="as it is: not covered by the claim",
    ),
    Field("manifest", "texts", _DESCRIBE),
    Field("examples", "numbers", _DESCRIBE, "volume and uptime", _NONE, private=_BUCKET),
    Field("examples", "numbers", _TRAIN, "volume and uptime", _NONE, private=DROPPED),
    Field("segments", "numbers", _DESCRIBE, "volume and uptime", _NONE, private=_BUCKET),
    Field("weights/*", "arrays", _TRAIN, "training data", _NONE, private=DROPPED),
    Field("gradient/*", "arrays", _TRAIN, "training data", _NONE, "C in L2: each record is clipped to it", _NOISED),
    Field("delta", "arrays", _TRAIN, "training data", _NONE, private="rounding of the noised gradient"),
    Field("delta_scales", "arrays", _TRAIN, "training data", _NONE, private="rounding of the noised gradient"),
    Field("below", "numbers", _TRAIN, "sizes of gradients", "sent under DP only", "1/2", _NOISED),
    Field("train_loss", "numbers", _TRAIN, _LEARNT, _NONE, "1, in units of loss_cap", _NOISED),
    Field("cluster_loss", "numbers", _TRAIN, _LEARNT, _NONE, private=DROPPED),
    Field("holdout_loss", "numbers", _TRAIN | {Kind.CALIBRATE}, _LEARNT, _NONE, private=DROPPED),
    Field("cluster_sums", "arrays", _STATISTIC, "operating points", _CLIPPED, "rho in L2", _NOISED),
    Field("cluster_counts", "arrays", _STATISTIC, "share of time in each mode", _CLIPPED, "1 in L2", _NOISED),
    Field("cluster_spread", "numbers", _STATISTIC, "spread of the operating points", _CLIPPED, "rho^2", _NOISED),
    Field(
        "moments",
        "arrays",
        frozenset({Kind.MOMENTS}),
        "means, spreads and relations of all tags, now and some rows apart",
        "sums over all training rows; of two plants, each can work out the other's",
        private=DROPPED,
    ),
    Field("own_model", "numbers", frozenset({Kind.CALIBRATE}), "whether sharing helps", "one bit", private=DROPPED),
    Field("calibrated", "numbers", _CALIBRATE, "whether data suffices", "one bit", private=DROPPED),
    Field("seconds_train", "numbers", _TRAIN, "hardware and volume", _NONE, private=DROPPED),
    Field("seconds_evaluate", "numbers", _TRAIN, "hardware and volume", _NONE, private=DROPPED),
    Field("seconds_cluster", "numbers", _STATISTIC, "hardware and volume", _NONE, private=DROPPED),
)

BESIDE: tuple[tuple[str, str], ...] = (
    ("that the plant is connected, and when", "not covered by the claim"),
    ("how long an answer takes", "not covered by the claim; grows with the plant's data"),
    ("how large an answer is", "the same for every plant and every round of a run"),
    ("the certificate's name and the address", "not covered by the claim"),
)
"""What a peer sees of a plant beside the fields of its messages, and what is said of it under the claim."""


def private_fields(inventory: tuple[Field, ...]) -> tuple[Field, ...]:
    """What may still travel under local differential privacy."""
    return tuple(f for f in inventory if f.private != DROPPED)


def unlisted(packet: Packet, kind: Kind, inventory: tuple[Field, ...]) -> list[str]:
    """Fields of a packet that are not on the list for its kind, as `part:name`."""
    present = [("arrays", n) for n in packet.arrays] + [("numbers", n) for n in packet.numbers]
    present += [("texts", n) for n in packet.texts]
    return [f"{part}:{name}" for part, name in present if not any(f.covers(part, name, kind) for f in inventory)]
