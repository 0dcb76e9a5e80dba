"""Nothing that a peer sends raises anything but what the wire is meant to raise."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import BadPayload, ModelCorrupt
from shared.model import parse_model
from shared.wire.envelope import Packet, RawArray, decode_array, encode_array
from shared.wire.gate import Accepted, Expectation, Rejected, parse_reply
from shared.wire.inventory import REPLY, REQUEST, Kind
from shared.wire.messages import parse_request
from tests.support.puppets import MANIFEST
from tests.unit.test_gate import MODEL, RADIUS, K, Z, reply, request

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
GOOD = encode_array(np.arange(12, dtype=np.float32).reshape(3, 4)).data
MAGIC = b"\x93NUMPY\x01\x00"


def headed(text: str, body: bytes) -> bytes:
    header = text.encode("latin-1", errors="replace")[:600]
    return MAGIC + len(header).to_bytes(2, "little") + header + body


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
HEADERS = st.one_of(
    st.text(max_size=60),
    LITERALS.map(repr),
    st.builds(
        lambda descr, order, shape: repr({"descr": descr, "fortran_order": order, "shape": shape}),
        LITERALS | st.sampled_from(["<f4", "<f8", "|u1", "|O"]),
        LITERALS | st.just(False),
        LITERALS | SHAPES,
    ),
)
BLOBS = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=60).map(lambda tail: MAGIC + tail),
    st.builds(headed, HEADERS, st.binary(max_size=64)),
    st.builds(lambda at, byte: GOOD[:at] + bytes([byte]) + GOOD[at + 1 :], st.integers(0, 175), st.integers(0, 255)),
    st.integers(0, len(GOOD)).map(lambda at: GOOD[:at]),
    st.just(GOOD),
)
RAW = st.builds(RawArray, st.text(max_size=8), SHAPES, BLOBS)


@settings(max_examples=400)
@given(BLOBS, SHAPES, st.sampled_from(["<f4", "<f8", "|u1"]))
@example(headed("{[]: 1}", b""), (3,), "<f4")
@example(headed("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'shape': {}}", b""), (3, 4), "<f4")
@example(GOOD, (3, 4), "<f4")
def test_decoding_raises_bad_payload_or_gives_what_was_asked_for(
    data: bytes, shape: tuple[int, ...], dtype: str
) -> None:
    try:
        values = decode_array(RawArray("float32", shape, data), shape, dtype)
    except BadPayload:
        return
    assert (values.shape, values.dtype) == (shape, np.dtype(dtype))


NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from([0, 1, 7, 100, -1, 2**63, 10**400, 10**5000, float("nan")]),
)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["run", "train", "describe", "cluster", "calibrate", "north", MODEL.digest, "\ud800", "[[[", "{}"]),
    LITERALS.map(repr),
)


def names(part: str) -> st.SearchStrategy[str]:
    listed = [f.name for f in (*REPLY, *REQUEST) if f.part == part and "*" not in f.name]
    tensors = [f"weights/{spec.name}" for spec in MANIFEST] + ["clusters/centroids", "clusters/active", "weights/"]
    return st.sampled_from(listed + tensors) | st.text(max_size=12)


PACKETS = st.builds(
    Packet,
    st.dictionaries(names("arrays"), RAW, max_size=4),
    st.dictionaries(names("numbers"), NUMBERS, max_size=6),
    st.dictionaries(names("texts"), TEXTS, max_size=6),
)


def laid_over(kind: Kind, wild: Packet, base: Packet) -> Packet:
    """A good message with some fields gone wild: it gets further than noise does."""
    return Packet({**base.arrays, **wild.arrays}, {**base.numbers, **wild.numbers}, {**base.texts, **wild.texts})


def expectation(kind: Kind) -> Expectation:
    if kind is Kind.DESCRIBE:
        return Expectation(kind, "run", 7)
    due = {"manifest": MANIFEST, "base": MODEL.weights, "clusters": (K, Z), "radius": RADIUS, "plant": "north"}
    return Expectation(kind, "run", 7, MODEL.digest, examples=100, segments=11, max_update_norm=5.0, **due)


@settings(max_examples=400)
@given(st.sampled_from(Kind), PACKETS, st.booleans())
def test_judging_a_reply_never_raises(kind: Kind, wild: Packet, well_meant: bool) -> None:
    packet = laid_over(kind, wild, reply(kind)) if well_meant else wild
    verdict = parse_reply(packet, expectation(kind), "node 3")
    assert isinstance(verdict, Accepted | Rejected)
    assert packet.payload_bytes >= 0
    if isinstance(verdict, Rejected):
        assert verdict.reason.isprintable()
        assert 0 < len(verdict.reason) < 1000
    else:
        for value in (verdict.weights or {}).values():
            assert np.isfinite(value).all()
        assert all(np.isfinite(value) for value in (*verdict.metrics.values(), *verdict.timings.values()))


@settings(max_examples=300)
@given(st.sampled_from(Kind), PACKETS, st.booleans())
def test_parsing_a_request_raises_bad_payload_only(kind: Kind, wild: Packet, well_meant: bool) -> None:
    packet = laid_over(kind, wild, request(kind)) if well_meant else wild
    try:
        parsed = parse_request(packet, MANIFEST, Z)
    except BadPayload:
        return
    assert isinstance(parsed.kind, Kind)


FILE = MODEL.file_bytes


@settings(max_examples=300)
@given(st.binary(max_size=100) | st.tuples(st.integers(0, len(FILE) - 1), st.integers(0, 255)))
def test_a_model_file_that_is_damaged_anywhere_is_corrupt_or_another_model(damage: bytes | tuple[int, int]) -> None:
    data = damage if isinstance(damage, bytes) else FILE[: damage[0]] + bytes([damage[1]]) + FILE[damage[0] + 1 :]
    try:
        model = parse_model(data)
    except ModelCorrupt:
        return
    assert (model.digest == MODEL.digest) == (data == FILE) or model.file_bytes != data
