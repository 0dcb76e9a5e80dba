from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.windows import segment_of, window_starts, window_view


@pytest.mark.parametrize(
    ("rows", "window", "stride", "recordings", "expected"),
    [
        (7, 3, 1, (0,), [0, 1, 2, 3, 4]),
        (7, 3, 2, (0,), [0, 2, 4]),
        (3, 3, 1, (0,), [0]),
        (2, 3, 1, (0,), []),
        (0, 3, 1, (0,), []),
        (9, 3, 2, (0, 4), [0, 4, 6]),  # each recording counts its strides from its own beginning
        (9, 3, 1, (0, 2, 7), [2, 3, 4]),  # recordings shorter than a window give none
        (7, 3, 100, (0, 3), [0, 3]),
    ],
)
def test_starts(rows: int, window: int, stride: int, recordings: tuple[int, ...], expected: list[int]) -> None:
    starts = window_starts(rows, window, stride, recordings)
    assert starts.tolist() == expected
    assert starts.dtype == np.int64


def test_no_window_straddles_two_recordings() -> None:
    recordings, rows, window = (0, 5, 6, 20, 33), 41, 4
    ends = [*recordings[1:], rows]
    for start in window_starts(rows, window, 1, recordings):
        inside = [a <= start and start + window <= b for a, b in zip(recordings, ends, strict=True)]
        assert sum(inside) == 1


def test_view_holds_the_rows_and_is_read_only() -> None:
    series = np.arange(12, dtype=np.float32).reshape(6, 2)
    view = window_view(series, 3)
    assert view.shape == (4, 3, 2)
    for start in window_starts(6, 3, 1):
        np.testing.assert_array_equal(view[start], series[start : start + 3])
    assert np.shares_memory(view, series)
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("starts", "unit", "recordings", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6], 3, (0,), [0, 0, 0, 1, 1, 1, 2]),
        ([0, 3, 6], 3, (0,), [0, 1, 2]),
        ([0, 6, 12], 3, (0,), [0, 1, 2]),  # segments without a window leave no gap in the numbers
        ([0, 1, 4, 5], 3, (0, 4), [0, 0, 1, 1]),  # a new recording begins a new segment
        ([0, 1, 2], 100, (0,), [0, 0, 0]),
        ([], 3, (0,), []),
    ],
)
def test_segments(starts: list[int], unit: int, recordings: tuple[int, ...], expected: list[int]) -> None:
    ids = segment_of(np.asarray(starts, np.int64), unit, recordings)
    assert ids.tolist() == expected
    assert ids.dtype == np.int64


# ---- as tensors ------------------------------------------------------------------------------------------------------


def part(rows: int, width: int, window: int, recordings: tuple[int, ...] = (0,), stride: int = 1) -> Part:
    values = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    return Part(values, window_starts(rows, window, stride, recordings))


@pytest.mark.parametrize("width", [1, 5])
@pytest.mark.parametrize(("rows", "window", "recordings"), [(50, 8, (0,)), (50, 8, (0, 20, 41)), (8, 8, (0,))])
def test_tensor_windows_are_the_rows(rows: int, window: int, recordings: tuple[int, ...], width: int) -> None:
    made = part(rows, width, window, recordings, stride=3)
    windows = TensorWindows(made, window, torch.device("cpu"))
    expected = np.stack([made.rows_TD[a : a + window] for a in made.starts_N])
    assert len(windows) == len(expected)
    np.testing.assert_array_equal(torch.cat(list(windows.batches(4))).numpy(), expected)
    index = torch.tensor([len(expected) - 1, 0, 0])
    batch = windows.batch(index)
    np.testing.assert_array_equal(batch.numpy(), expected[index.numpy()])
    assert batch.is_contiguous()
    batch.zero_()  # a batch is the caller's
    np.testing.assert_array_equal(windows.batch(index).numpy(), expected[index.numpy()])


@pytest.mark.parametrize("rows", [0, 3, 7])
def test_too_few_rows_are_no_windows(rows: int) -> None:
    windows = TensorWindows(part(rows, 4, 8), 8, torch.device("cpu"))
    assert len(windows) == 0
    assert list(windows.batches(4)) == []


def test_the_rows_are_not_copied_for_windows() -> None:
    made = part(50, 3, 8)
    windows = TensorWindows(made, 8, torch.device("cpu"))
    made.rows_TD[10] = 77
    assert (windows.batch(torch.tensor([10]))[0, 0] == 77).all()


def test_a_view_of_a_million_windows_takes_no_memory() -> None:
    rows = np.zeros((1_000_000, 4), np.float32)
    tracemalloc.start()
    view = window_view(rows, 100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert view.size == 999_901 * 400
    assert peak < 100_000
