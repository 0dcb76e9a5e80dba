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


class Kind(StrEnum):
    """The kinds of request that a server may send."""

    DESCRIBE = "describe"
    TRAIN = "train"
    CLUSTER = "cluster"
    CALIBRATE = "calibrate"


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        name: its name; a trailing `*` stands for any tensor of the manifest.
        part: which map of the packet it lives in.
        kinds: the message kinds that may carry it.
        sensitive: what it can tell about a plant, empty for public facts.
        protection: what limits that today.
    """

    name: str
    part: Literal["arrays", "numbers", "texts"]
    kinds: frozenset[Kind]
    sensitive: str = ""
    protection: str = ""

    def covers(self, part: str, name: str, kind: Kind) -> bool:
        """Whether this entry allows a field."""
        same = name.startswith(self.name[:-1]) if self.name.endswith("*") else name == self.name
        return same and part == self.part and kind in self.kinds


_ALL = frozenset(Kind)
_TRAIN = frozenset({Kind.TRAIN})
_STATISTIC = frozenset({Kind.TRAIN, Kind.CLUSTER})
_WITH_MODEL = frozenset({Kind.TRAIN, Kind.CLUSTER, Kind.CALIBRATE})
_DESCRIBE = frozenset({Kind.DESCRIBE})

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
    Field("wire", "texts", _TRAIN),
)

REPLY: tuple[Field, ...] = (
    Field("protocol", "numbers", _ALL),
    Field("round", "numbers", _ALL),
    Field("run", "texts", _ALL),
    Field("kind", "texts", _ALL),
    Field("plant", "texts", _ALL, "identity", "name chosen by the plant"),
    Field("refused", "texts", _ALL, "why a plant could not take part", "fixed code and name only, no data"),
    Field("model", "texts", _WITH_MODEL),
    Field(FINGERPRINT, "texts", _WITH_MODEL),
    Field(
        "schema", "texts", _DESCRIBE, "process know-how: tag names and sampling", "plant may map tags to neutral names"
    ),
    Field("manifest", "texts", _DESCRIBE),
    Field("examples", "numbers", _DESCRIBE | _TRAIN, "volume and uptime", "none without differential privacy"),
    Field("segments", "numbers", _DESCRIBE, "volume and uptime", "none without differential privacy"),
    Field("weights/*", "arrays", _TRAIN, "training data", "none without differential privacy"),
    Field("delta", "arrays", _TRAIN, "training data", "none without differential privacy"),
    Field("delta_scales", "arrays", _TRAIN, "training data", "none without differential privacy"),
    Field("train_loss", "numbers", _TRAIN, "how well the plant is learnt", "none without differential privacy"),
    Field("cluster_loss", "numbers", _TRAIN, "how well the plant is learnt", "none without differential privacy"),
    Field("holdout_loss", "numbers", _TRAIN | {Kind.CALIBRATE}, "how well the plant is learnt", "none without DP"),
    Field("cluster_sums", "arrays", _STATISTIC, "operating points", "sums over segments, clipped at the radius; no DP"),
    Field("cluster_counts", "arrays", _STATISTIC, "share of time in each operating mode", "sums over segments"),
    Field("cluster_spread", "numbers", _STATISTIC, "spread of the operating points", "clipped at the radius"),
    Field("calibrated", "numbers", frozenset({Kind.CALIBRATE}), "whether enough calibration data is there", "one bit"),
    Field("seconds_train", "numbers", _TRAIN, "hardware and volume", "none without differential privacy"),
    Field("seconds_evaluate", "numbers", _TRAIN, "hardware and volume", "none without differential privacy"),
    Field("seconds_cluster", "numbers", _STATISTIC, "hardware and volume", "none without differential privacy"),
)


def unlisted(packet: Packet, kind: Kind, inventory: tuple[Field, ...]) -> list[str]:
    """Fields of a packet that are not on the list for its kind, as `part:name`."""
    present = [("arrays", n) for n in packet.arrays] + [("numbers", n) for n in packet.numbers]
    present += [("texts", n) for n in packet.texts]
    return [f"{part}:{name}" for part, name in present if not any(f.covers(part, name, kind) for f in inventory)]
