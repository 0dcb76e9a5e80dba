"""Files of numbers under a head: their bytes stay what they are, and what is wrong with one is told."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

from shared.artefact import Artefact
from shared.errors import BundleInvalid
from shared.evidence import file as judges
from shared.evidence.judge import Judge
from shared.evidence.models import Models
from shared.evidence.residual import ResidualModel
from shared.evidence.shape import ShapeModel
from shared.headed import Format, digest
from shared.lag.var import VarModel
from shared.local_guard.lagged import LagModel
from shared.named_arrays import laid, misshapen, taken
from shared.relations import file as relations_file
from shared.relations.blocks import PHASES, Frame
from shared.relations.hazards import CODES, Hazards
from shared.relations.kinds import MOST_CODES, Kinds
from shared.relations.model import NAMES, Relations
from shared.relations.scale import ModeScale
from shared.relations.trees import Trees


def judge() -> Judge:
    """Of two tags that move and one that stands still, made by hand: nothing in it is computed."""
    joint = LagModel(np.arange(6.0).reshape(2, 3), np.eye(6) * 2.0)
    step = VarModel(np.ones((2, 3)), np.full((3, 3), 0.5), LagModel(np.zeros((1, 3)), np.eye(3)))
    courses = np.arange(16, dtype=np.float32).reshape(2, 2, 4)
    shape = ShapeModel(np.array([0, 2]), courses, np.array([1]), np.array([7.0]), (2, 4))
    network = ResidualModel(np.zeros((2, 3)), np.stack([np.eye(3), np.eye(3) * 4.0]))
    weights = np.array([0.25, 0.25, 0.125, 0.125, 0.125, 0.125, 0.0])
    scales = np.arange(7.0), np.full(7, 2.0), np.array([1, 2, 4, 8, 1, 2, 4]), weights
    return Judge(Models(joint, step, np.full(3, 1.5), shape, network), *scales, trail=3)


def relations() -> Relations:
    """Of one valve with two codes and one reading, made by hand."""
    codes = np.full((1, MOST_CODES), np.nan)
    codes[0, :2] = 1.0, 2.0
    kinds = Kinds(np.array([1]), np.array([0]), codes, np.zeros((1, CODES), bool), np.array([0]))
    frame = Frame(2, 3, np.array([1.0, 5.0]), kinds, np.array([5.0]), np.array([0.5]))
    leaf = Trees(*(np.zeros((1, 1), kind) for kind in (np.int64, np.float64, np.int64, np.int64)))
    odds = np.full((1, CODES, CODES), 1 / CODES)
    hazards = Hazards(leaf, np.full((1, 1, CODES), 1 / CODES), np.array([0]), np.array([1]), odds)
    return Relations(
        frame=frame,
        weights_PO=np.full((13, 2), 0.125),
        scale=ModeScale(leaf, np.ones((1, 2))),
        tight_C=np.array([True]),
        home_CH=np.array([[5.0]]),
        past=9,
        limits_PQC=np.full((len(PHASES) + 1, len(NAMES), 1), 3.0),
        hazards=hazards,
        cut_J=np.array([4.0]),
        patience=6,
        median=0.25,
        spread=0.5,
    )


def test_a_judges_bytes_are_those_of_its_second_version() -> None:
    data = judges.to_bytes(judge())
    assert judges.to_bytes(judges.from_bytes(data)) == data
    assert hashlib.sha256(data).hexdigest() == "1030b59fa8103b28d9ef00e94458eea0af5e2d9485d169511c9019fb082a5077"


def test_relations_bytes_are_those_of_their_first_version() -> None:
    data = relations_file.to_bytes(relations())
    assert relations_file.to_bytes(relations_file.from_bytes(data)) == data
    assert hashlib.sha256(data).hexdigest() == "20a6fd48cfca23a7f07b69acf98ce10c43d0794f64f755f8e57cebc135ca65a6"


class Told(Artefact):
    word: str
    digest: str


FORMAT = Format(b"a format 1\n", "example", Told, most=200)
NUMBERS = laid({"b": np.arange(4.0)[::2], "a": np.ones((2, 1), np.int64)})
DATA = FORMAT.joined(Told(word="x", digest=digest(NUMBERS)), NUMBERS)


def test_what_is_joined_comes_apart_and_its_arrays_cannot_be_written_to() -> None:
    head, numbers = FORMAT.parted(DATA, "north")
    arrays = taken(numbers, "north")
    assert (head.word, sorted(arrays), arrays["b"].tolist()) == ("x", ["a", "b"], [0.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        arrays["a"][0] = 2
    assert laid(dict(reversed(arrays.items()))) == NUMBERS


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "north is no example that this version reads"),
        (DATA.replace(b"format 1", b"format 2"), "north is no example that this version reads"),
        (DATA.replace(b'"x"', b'"' + b"x" * 200 + b'"'), "north is no example that this version reads"),
        (DATA[: DATA.index(b"}")], "north is no example that this version reads"),
        (DATA.replace(b'"x"', b"7"), "north has an unreadable head: .*word"),
        (DATA.replace(b'"word"', b'"\xff"'), "north has an unreadable head"),
        (DATA[:-1], "north was changed after it was written"),
        (DATA + b"\0", "north was changed after it was written"),
    ],
)
def test_what_is_no_such_file_is_refused_and_why(data: bytes, told: str) -> None:
    with pytest.raises(BundleInvalid, match=told):
        FORMAT.parted(data, "north")


@pytest.mark.parametrize("numbers", [b"", NUMBERS[:-1], b"\xff" * 16, b"\x02\0\0\0\0\0\0\0{}" + b"rest"])
def test_numbers_that_are_no_arrays_are_refused(numbers: bytes) -> None:
    with pytest.raises(BundleInvalid, match="north cannot be read"):
        taken(numbers, "north")


@pytest.mark.parametrize(
    ("name", "kind", "shape", "told"),
    [
        ("a", np.int64, (2, 1), ""),
        ("a", np.int64, (2,), r"a is int64 \(2, 1\)"),
        ("a", np.float64, (2, 1), r"a is int64 \(2, 1\)"),
        ("c", np.int64, (2, 1), "it holds other arrays: a, c"),
    ],
)
def test_another_type_shape_or_name_is_told(name: str, kind: type, shape: tuple[int, ...], told: str) -> None:
    found = misshapen(taken(NUMBERS, "north"), {"b": (np.dtype(np.float64), (2,)), name: (np.dtype(kind), shape)})
    assert re.fullmatch(told, found)
