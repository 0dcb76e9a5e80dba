"""Frames come back as they were, and nothing but exactly one frame is read."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadPayload
from shared.wire.envelope import Packet, RawArray
from shared.wire.frame import decode_frame, encode_frame

NAMES = st.text(max_size=20)
ARRAYS = st.builds(
    RawArray, st.sampled_from(["float32", "float64"]), st.lists(st.integers(0, 9)).map(tuple), st.binary(max_size=40)
)
NUMBERS = st.integers() | st.floats(allow_nan=False)
PACKETS = st.builds(
    Packet,
    st.dictionaries(NAMES, ARRAYS, max_size=4),
    st.dictionaries(NAMES, NUMBERS, max_size=4),
    st.dictionaries(NAMES, st.text(st.characters(exclude_categories=[])), max_size=4),
)
SMALL = encode_frame(Packet({"a": RawArray("float32", (2,), b"12345678")}, {"n": 1}, {"t": "x"}))


@given(PACKETS.filter(lambda packet: all(len(raw.shape) <= 32 for raw in packet.arrays.values())))
def test_a_packet_comes_back(packet: Packet) -> None:
    got = decode_frame(encode_frame(packet))
    assert got == packet
    assert [type(n) for n in got.numbers.values()] == [type(n) for n in packet.numbers.values()]
    assert list(got.arrays) == list(packet.arrays)


def test_a_loss_that_is_not_a_number_reaches_the_gate_that_judges_it() -> None:
    assert math.isnan(decode_frame(encode_frame(Packet(numbers={"train_loss": math.nan}))).numbers["train_loss"])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    for candidate in (data, b"CPF1" + data, SMALL[:8] + data):
        try:
            decode_frame(candidate)
        except BadPayload:
            continue


@pytest.mark.parametrize("cut", range(len(SMALL)))
def test_no_byte_may_be_missing(cut: int) -> None:
    with pytest.raises(BadPayload):
        decode_frame(SMALL[:cut])


def test_no_byte_may_be_left() -> None:
    with pytest.raises(BadPayload, match="1 bytes too many"):
        decode_frame(SMALL + b"x")


def framed(head: object, body: bytes = b"", text: str | None = None) -> bytes:
    encoded = (json.dumps(head) if text is None else text).encode()
    return b"CPF1" + len(encoded).to_bytes(4, "little") + encoded + body


def head(arrays: object = (), numbers: object = None, texts: object = None) -> dict[str, object]:
    return {"arrays": arrays, "numbers": numbers or {}, "texts": texts or {}}


@pytest.mark.parametrize(
    "frame",
    [
        framed([]),
        framed({"arrays": []}),
        framed({**head(), "more": 1}),
        framed(head(arrays={})),
        framed(head(numbers=[1])),
        framed(head(numbers={"n": True})),
        framed(head(numbers={"n": "1"})),
        framed(head(numbers={"n": None})),
        framed(head(texts={"t": 1})),
        framed(head(texts={"t" * 301: "x"})),
        framed(head(texts={str(i): "" for i in range(10_001)})),
        framed(head(arrays=[["a", "<f4", [1]]])),
        framed(head(arrays=[["a", "<f4", [1], -1]])),
        framed(head(arrays=[["a", "<f4", [1], True]]), b"x"),
        framed(head(arrays=[["a", "<f4", [1], 10**30]])),
        framed(head(arrays=[["a", "<f4", [-1], 0]])),
        framed(head(arrays=[["a", "<f4", [True], 0]])),
        framed(head(arrays=[["a", "<f4", 1, 0]])),
        framed(head(arrays=[["a", "<f4" * 10, [1], 0]])),
        framed(head(arrays=[[1, "<f4", [1], 0]])),
        framed(head(arrays=[["a", "<f4", [0], 0], ["a", "<f4", [0], 0]])),
        framed(None, text='{"arrays":[],"numbers":{"n":1,"n":2},"texts":{}}'),
        framed(None, text='{"arrays":[],"numbers":{},"texts":{},"texts":{"run":"x"}}'),
        framed(None, text='{"arrays":[],"numbers":{"n":' + "9" * 5000 + '},"texts":{}}'),
        framed(None, text="[" * 100_000),
    ],
)
def test_what_a_frame_may_not_say(frame: bytes) -> None:
    with pytest.raises(BadPayload):
        decode_frame(frame)
