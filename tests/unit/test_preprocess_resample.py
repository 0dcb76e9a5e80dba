from __future__ import annotations

import numpy as np
import pytest

from shared.preprocess import join_labels, join_rows, joined_starts

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("how", "block", "joined"),
    [
        ("median", [3, 1, 2], 2),
        ("median", [3, 1, 2, 10], 2.5),
        ("median", [3, NAN, INF, 5], 4),
        ("median", [-INF, 7, NAN, NAN], 7),
        ("mean", [3, 1, 2], 2),
        ("mean", [3, NAN, -INF, 5], 4),
        ("mean", [3e38, 3e38, 3e38], 3e38),
        ("median", [3e38, 3e38, 3e38, 3e38], 3e38),
        ("last", [3, 1, 2], 2),
        ("last", [3, 1, NAN, INF], 1),
    ],
)
def test_a_block_becomes_one_row_of_what_was_measured(how: str, block: list[float], joined: float) -> None:
    values = np.asarray([block, block[::-1] if how != "last" else block], np.float32).reshape(-1, 1)
    rows, starts = join_rows(values, (0,), len(block), how)
    np.testing.assert_allclose(rows, [[joined], [joined]], rtol=1e-6)
    assert rows.dtype == np.float32
    assert starts == (0,)


@pytest.mark.parametrize("how", ["median", "mean", "last"])
def test_a_block_without_a_reading_is_missing(how: str) -> None:
    rows, _ = join_rows(np.float32([[NAN, 1], [INF, NAN], [4, 5], [4, 5]]), (0,), 2, how)
    np.testing.assert_array_equal(rows, [[NAN, 1], [4, 5]])


def test_blocks_begin_with_their_recording_and_an_incomplete_last_one_is_dropped() -> None:
    values = np.arange(23, dtype=np.float32)[:, None]
    rows, starts = join_rows(values, (0, 10, 13, 16), 3, "last")
    assert rows[:, 0].tolist() == [2, 5, 8, 12, 15, 18, 21]
    assert starts == (0, 3, 4, 5)


def test_a_recording_shorter_than_a_block_is_gone() -> None:
    values = np.arange(12, dtype=np.float32)[:, None]
    rows, starts = join_rows(values, (0, 2, 9), 3, "mean")
    assert rows[:, 0].tolist() == [3, 6, 10]
    assert starts == (0, 2)
    rows, starts = join_rows(values, (0,), 13, "mean")
    assert (rows.shape, starts) == ((0, 1), (0,))


def test_any_labelled_row_labels_its_block() -> None:
    labels = np.zeros(23, bool)
    labels[[1, 9, 14, 22]] = True  # row 9 is in the incomplete end of its recording, and so is row 22
    assert join_labels(labels, (0, 10, 13, 16), 3).tolist() == [True, False, False, False, True, False, False]
    assert joined_starts((0, 10, 13, 16), 23, 3) == (0, 3, 4, 5)


def test_every_row_alone_is_the_input_itself() -> None:
    values, labels = np.ones((5, 2), np.float32), np.ones(5, bool)
    assert join_rows(values, (0, 3), 1, "median") == (values, (0, 3))
    assert join_labels(labels, (0, 3), 1) is labels


@pytest.mark.parametrize("how", ["median", "mean", "last"])
def test_many_blocks_give_the_same_bits_as_each_alone(how: str) -> None:
    rng = np.random.default_rng(1)
    values = (rng.normal(size=(60_000, 7)) * 1e3).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = NAN
    whole, _ = join_rows(values, (0,), 40, how)
    alone = np.concatenate([join_rows(part, (0,), 40, how)[0] for part in np.split(values, 1500)])
    np.testing.assert_array_equal(whole.view(np.int32), alone.view(np.int32))
