from __future__ import annotations

import io
import pickle
import time
import tracemalloc

import numpy as np
import pytest

from shared.errors import BadPayload
from shared.wire.envelope import Packet, RawArray, decode_array, encode_array

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3) / 7


def npy(header: str, body: bytes = VALUES.tobytes(), magic: bytes = b"\x93NUMPY\x01\x00") -> RawArray:
    """A blob with this header; what it says about itself outside is always honest-looking."""
    text = header.encode("latin-1")
    return RawArray("float32", (2, 3), magic + len(text).to_bytes(2, "little") + text + body)


def header(descr: str = "'<f4'", order: str = "False", shape: str = "(2, 3)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (VALUES, "<f4"),
        (VALUES.astype(np.float64), "<f8"),
        (np.asarray([1, 0, 255], np.uint8), "|u1"),
        (np.asarray([np.nan, np.inf, -0.0], np.float32), "<f4"),
        (np.asfortranarray(VALUES), "<f4"),
        (VALUES.T, "<f4"),
        (np.float64(3.5), "<f8"),
        (np.empty((0, 4), np.float32), "<f4"),
    ],
)
def test_arrays_come_back_to_the_bit(values: np.ndarray, dtype: str) -> None:
    raw = encode_array(values)
    again = decode_array(raw, np.shape(values), dtype)
    assert again.tobytes() == np.ascontiguousarray(values).tobytes()
    assert again.shape == np.shape(values)
    assert np.load(io.BytesIO(raw.data), allow_pickle=False).tobytes() == again.tobytes()


def test_nobody_can_change_what_came() -> None:
    raw = encode_array(VALUES)
    with pytest.raises(ValueError, match="read-only"):
        decode_array(raw, (2, 3))[:] = 0


@pytest.mark.parametrize("shape", [(3, 2), (6,), (1, 6), (2, 3, 1), (1, 2, 3), (), (2,), (3,), (1, 3), (2, 1), (0, 3)])
def test_every_other_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadPayload, match=r"shape \(2, 3\), expected"):
        decode_array(encode_array(VALUES), shape)


@pytest.mark.parametrize(
    ("raw", "telling"),
    [
        (RawArray("float32", (2, 3), b""), "not an .npy"),
        (RawArray("float32", (2, 3), VALUES.tobytes()), "not an .npy"),
        (RawArray("float32", (2, 3), pickle.dumps(VALUES)), "not an .npy"),
        (npy(header(), magic=b"\x93NUMPY\x02\x00"), "not an .npy"),
        (npy(header(), VALUES.tobytes()[:-1]), "23 bytes of data, expected 24"),
        (npy(header(), VALUES.tobytes() + b"\0"), "25 bytes of data, expected 24"),
        (npy(header(), VALUES.astype(np.float64).tobytes()), "48 bytes of data, expected 24"),
        (npy(header("'<f8'"), VALUES.astype(np.float64).tobytes()), "dtype <f8, expected <f4"),
        (npy(header("'|O'"), pickle.dumps([VALUES])), "dtype |O"),
        (npy(header("'<i4'"), VALUES.astype(np.int32).tobytes()), "dtype <i4"),
        (npy(header("'>f4'"), VALUES.byteswap().tobytes()), "dtype >f4"),
        (npy(header("[('a', '<f4')]")), "dtype"),
        (npy(header(order="True")), "order True"),
        (npy(header(order="0")), "order 0"),
        (npy(header(shape="(10000000000,)")), "impossible shape"),
        (npy(header(shape="(100000, 100000)")), "expected"),
        (npy(header(shape="(0, 1000000000000000000)"), b""), "impossible shape"),
        (npy(header(shape="(0, 3)"), b""), r"shape \(0, 3\)"),
        (npy(header(shape="(-2, -3)")), "impossible shape"),
        (npy(header(shape="(2.0, 3)")), "impossible shape"),
        (npy(header(shape="(True, 3)")), "impossible shape"),
        (npy(header(shape="[2, 3]")), "impossible shape"),
        (npy(header(shape="6")), "impossible shape"),
        (npy("{'descr': '<f4', 'shape': (2, 3)}"), "other fields"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}"), "other fields"),
        (npy("[1, 2]"), "other fields"),
        (npy("{[]: 1}"), "unreadable"),
        (npy("{{}}"), "unreadable"),
        (npy("__import__('os').getcwd()"), "unreadable"),
        (npy("{'descr': '<f4'"), "unreadable"),
        (npy("{'descr': '\xe9'}"), "unreadable"),
        (npy("\x00"), "unreadable"),
        (npy("(" * 400), "unreadable"),
        (npy("-" * 500 + "1"), "unreadable|other fields"),
        (npy("[" * 80 + "]" * 80), "other fields"),
        (npy("9" * 500), "other fields"),
        (npy(header() + " " * 600), "header of"),
        (RawArray("float32", (2, 3), b"\x93NUMPY\x01\x00\xff\xffx"), "header of 65535 bytes"),
        (RawArray("float32", (2, 3), b"\x93NUMPY\x01\x00\x80\x00x"), "header of 128 bytes"),
    ],
)
def test_every_other_blob_is_refused_in_words(raw: RawArray, telling: str) -> None:
    with pytest.raises(BadPayload, match=telling):
        decode_array(raw, (2, 3))


def test_a_header_that_claims_37_gib_costs_nothing() -> None:
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(BadPayload):
        decode_array(npy(header(shape="(10000000000,)"), b""), (10_000_000_000,))
    with pytest.raises(BadPayload, match="0 bytes of data, expected 40"):
        decode_array(npy(header(shape="(1000000000, 10)"), b""), (1_000_000_000, 10))
    assert time.process_time() - begin < 0.1
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_the_payload_is_counted_in_bytes() -> None:
    raw = encode_array(VALUES)
    packet = Packet({"a": raw}, {"n": 1, "x": 0.5}, {"t": "äb"})
    assert packet.payload_bytes == len(raw.data) + 16 + 3
    assert Packet(texts={"t": "\ud800"}).payload_bytes == 3  # no text, however broken, stops the count
