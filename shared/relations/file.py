"""Relations as bytes: a line that names the format, a line of JSON, then their arrays as safetensors."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.artefact import Artefact
from shared.errors import BundleInvalid
from shared.headed import Format, digest
from shared.named_arrays import Arrays, Due, laid, misshapen, size, taken
from shared.relations.blocks import PHASES, Frame
from shared.relations.hazards import CODES, Hazards
from shared.relations.kinds import MOST_CODES, Kinds
from shared.relations.model import NAMES, Relations
from shared.relations.scale import ModeScale
from shared.relations.trees import Trees

MAGIC = b"crossplant relations 1\n"
_TREES = ("column", "cut", "left", "right")


class _Head(Artefact, frozen=True, kw_only=True):
    """What stands before the arrays; `digest` is their SHA-256."""

    dim: Annotated[int, Meta(ge=1, le=100_000)]
    block: Annotated[int, Meta(ge=1, le=10_000)]
    past: Annotated[int, Meta(ge=4, le=1_000_000)]
    patience: Annotated[int, Meta(ge=1, le=1_000_000)]
    median: float
    spread: Annotated[float, Meta(gt=0)]
    digest: str


_FORMAT = Format(MAGIC, "file of relations", _Head)


def to_bytes(relations: Relations) -> bytes:
    """Relations as one file's content; equal relations give equal bytes."""
    numbers = laid(_parts(relations))
    head = _Head(
        dim=relations.frame.dim,
        block=relations.frame.block,
        past=relations.past,
        patience=relations.patience,
        median=relations.median,
        spread=relations.spread,
        digest=digest(numbers),
    )
    return _FORMAT.joined(head, numbers)


def from_bytes(data: bytes, source: str = "relations") -> Relations:
    """Read what `to_bytes` wrote; shapes are checked before a number is believed.

    Raises:
        BundleInvalid: no relations, cut short, changed, or numbers that are none.
    """
    head, numbers = _FORMAT.parted(data, source)
    arrays = taken(numbers, source)
    told = misshapen(arrays, _due(arrays, head)) or _unsound(arrays, head)
    if told:
        raise BundleInvalid(f"{source} holds no usable relations: {told}.")
    return _whole(arrays, head)


def _parts(relations: Relations) -> Arrays:
    frame, hazards = relations.frame, relations.hazards
    kinds = frame.kinds
    return {
        "kinds.continuous": kinds.continuous_C,
        "kinds.coded": kinds.coded_S,
        "kinds.codes": kinds.codes_SA,
        "kinds.transit": kinds.transit_SA,
        "kinds.switching": kinds.switching_J,
        "frame.middle": frame.middle_D,
        "frame.mean": frame.mean_C,
        "frame.spread": frame.spread_C,
        "weights": relations.weights_PO,
        "scale": relations.scale.scale_NO,
        "tight": relations.tight_C,
        "home": relations.home_CH,
        "limits": relations.limits_PQC,
        "hazard.share": hazards.share_RNA,
        "hazard.tag": hazards.tag_R,
        "hazard.code": hazards.code_R,
        "hazard.plain": hazards.plain_JAA,
        "hazard.surprise": relations.cut_J,
        **_laid("scale", relations.scale.tree),
        **_laid("hazard", hazards.trees),
    }


def _laid(name: str, trees: Trees) -> Arrays:
    arrays = (trees.column_RN, trees.cut_RN, trees.left_RN, trees.right_RN)
    return {f"{name}.{part}": array for part, array in zip(_TREES, arrays, strict=True)}


def _whole(arrays: Arrays, head: _Head) -> Relations:
    names = ("continuous", "coded", "codes", "transit", "switching")
    kinds = Kinds(*(arrays[f"kinds.{name}"] for name in names))
    of_means = (arrays["frame.mean"], arrays["frame.spread"])
    trees = {name: Trees(*(arrays[f"{name}.{part}"] for part in _TREES)) for name in ("scale", "hazard")}
    forests = (arrays[f"hazard.{name}"] for name in ("share", "tag", "code", "plain"))
    return Relations(
        frame=Frame(head.dim, head.block, arrays["frame.middle"], kinds, *of_means),
        weights_PO=arrays["weights"],
        scale=ModeScale(trees["scale"], arrays["scale"]),
        tight_C=arrays["tight"],
        home_CH=arrays["home"],
        past=head.past,
        limits_PQC=arrays["limits"],
        hazards=Hazards(trees["hazard"], *forests),
        cut_J=arrays["hazard.surprise"],
        patience=head.patience,
        median=head.median,
        spread=head.spread,
    )


def _due(arrays: Arrays, head: _Head) -> Due:
    """Type and shape of each array, by how many tags of each kind, nodes and trees there seem to be."""
    long = partial(size, arrays)
    tags, coded, switching = (long(f"kinds.{name}", 0) for name in ("continuous", "coded", "switching"))
    codes = arrays.get("kinds.codes", np.zeros((0, 1)))
    traced = int(np.isfinite(codes[:, 1:]).sum()) if codes.ndim == 2 and codes.dtype == np.float64 else 0
    columns = 2 * 5 * traced + 1 + 2 * tags
    nodes, trees = max(long("scale.cut", 1), 1), long("hazard.cut", 0)
    hazard = trees, max(long("hazard.cut", 1), 1)
    real, whole, flag = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)
    shapes: dict[np.dtype[Any], dict[str, tuple[int, ...]]] = {
        real: {
            "kinds.codes": (coded, MOST_CODES),
            "frame.middle": (head.dim,),
            "frame.mean": (tags,),
            "frame.spread": (tags,),
            "weights": (columns, 2 * tags),
            "scale": (nodes, 2 * tags),
            "home": (tags, max(long("home", 1), 1)),
            "limits": (len(PHASES) + 1, len(NAMES), tags),
            "hazard.share": (*hazard, CODES),
            "hazard.plain": (switching, CODES, CODES),
            "hazard.surprise": (switching,),
            "scale.cut": (1, nodes),
            "hazard.cut": hazard,
        },
        whole: {
            "kinds.continuous": (max(tags, 1),),
            "kinds.coded": (coded,),
            "kinds.switching": (switching,),
            "hazard.tag": (trees,),
            "hazard.code": (trees,),
            **{f"scale.{part}": (1, nodes) for part in ("column", "left", "right")},
            **{f"hazard.{part}": hazard for part in ("column", "left", "right")},
        },
        flag: {"kinds.transit": (coded, CODES), "tight": (tags,)},
    }
    return {name: (kind, shape) for kind, some in shapes.items() for name, shape in some.items()}


def _unsound(arrays: Arrays, head: _Head) -> str:
    """What is no model, in words; empty: nothing."""
    continuous, coded, switching = (arrays[f"kinds.{name}"] for name in ("continuous", "coded", "switching"))
    columns = np.concatenate([continuous, coded])
    codes, padded = arrays["kinds.codes"], {"kinds.codes", "home"}
    finite = all(np.isfinite(one).all() for name, one in arrays.items() if name not in padded)
    tag, code = arrays["hazard.tag"], arrays["hazard.code"]
    forest = tag * CODES + code
    wide = 2 * len(switching) + len(continuous)
    odds = [arrays["hazard.share"], arrays["hazard.plain"]]
    positive = ("frame.spread", "scale", "limits", "hazard.surprise")
    wrong = {
        "not all numbers are finite": not finite,
        "columns of tags that there are not": bool(((columns < 0) | (columns >= head.dim)).any()),
        "a tag of two kinds": len(set(columns.tolist())) != len(columns),
        "codes that are not whole and ascending": bool(np.isinf(codes).any() or not _ascending(codes)),
        "switching tags that are not coded": bool(((switching < 0) | (switching >= len(coded))).any()),
        "a scale or limit that is not positive": any((arrays[name] <= 0).any() for name in positive),
        "odds that are none": any(((one < 0) | (one > 1 + 1e-9)).any() for one in odds)
        or bool((arrays["hazard.plain"] <= 0).any()),
        "forests of tags or codes that there are not": bool(
            ((tag < 0) | (tag >= len(switching)) | (code < 0) | (code >= CODES)).any() or (np.diff(forest) < 0).any()
        ),
        "no tree over modes": not _sound(arrays, "scale", len(arrays["weights"]) - 2 * len(continuous)),
        "no tree over hazards": not _sound(arrays, "hazard", wide),
    }
    return next((told for told, bad in wrong.items() if bad), "")


def _ascending(codes_SA: NDArray[np.float64]) -> bool:
    """Whether each row is at least two whole numbers, ascending, then NaN."""
    known_SA = np.isfinite(codes_SA)
    whole = np.array_equal(codes_SA[known_SA], np.round(codes_SA[known_SA]))
    packed = not (known_SA[:, 1:] & ~known_SA[:, :-1]).any() and bool(known_SA[:, :2].all())
    return whole and packed and not (np.diff(codes_SA, axis=1) <= 0).any()


def _sound(arrays: Arrays, name: str, columns: int) -> bool:
    """Whether trees look at columns that there are, and every way down ends: children stay, or have higher numbers."""
    column, left, right = (arrays[f"{name}.{part}"] for part in ("column", "left", "right"))
    at_N = np.arange(column.shape[1])
    leaf = (left == at_N) & (right == at_N)
    inner = (left > at_N) & (right > at_N) & (left < len(at_N)) & (right < len(at_N))
    seen = not column.size or bool((column >= 0).all() and column.max() < columns)
    return seen and bool((leaf | inner).all())
