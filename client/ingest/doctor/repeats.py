"""Test rows that repeat a stretch of the training rows: whoever trained on them has seen the answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client.ingest.doctor.columns import blocks
from shared.series import FloatArray, SiteData

STRETCH = 64
"""Rows in a row that must be equal. Single rows repeat by chance where readings are coarse or stand still."""

_DOUBLINGS = 6
_LEAST_CHANGES = STRETCH // 2  # a stretch in which less moves is a plant standing still, not a copy

Hashes = NDArray[np.uint64]


def repeated_rows(site: SiteData) -> int:
    """How many test rows lie in stretches of `STRETCH` rows that also stand in the training rows."""
    if min(len(site.train_TD), len(site.test_TD)) < STRETCH:
        return 0
    train_N, _ = _stretches(row_hashes(site.train_TD))
    test_N, lively_N = _stretches(row_hashes(site.test_TD))
    covered_T = np.zeros(len(site.test_TD) + 1, dtype=np.int64)
    starts = np.flatnonzero(np.isin(test_N, train_N) & lively_N)
    np.add.at(covered_T, starts, 1)
    np.add.at(covered_T, starts + STRETCH, -1)
    return int((covered_T.cumsum() > 0).sum())


def row_hashes(values_TD: FloatArray) -> Hashes:
    """A number for each row's bits, uint64 (T,): equal rows have equal ones, others almost never."""
    hashes_T = np.full(len(values_TD), 0xCBF29CE484222325, dtype=np.uint64)
    for block_BT in blocks(values_TD):
        for column_T in block_BT:
            hashes_T = _mixed(hashes_T, column_T.view(np.uint32))
    return hashes_T


def _mixed(hashes_T: Hashes, more_T: NDArray[np.unsignedinteger]) -> Hashes:
    mixed_T: Hashes = (hashes_T ^ more_T) * np.uint64(0x9E3779B97F4A7C15)
    mixed_T ^= mixed_T >> np.uint64(29)
    return mixed_T


def _stretches(hashes_T: Hashes) -> tuple[Hashes, NDArray[np.bool_]]:
    """A number for each stretch, and whether enough changes within it: (T - STRETCH + 1,) each.

    Doubling: a stretch of 2 n rows is that of n rows and the one n rows later.
    """
    moves_T = np.concatenate([[0], np.cumsum(hashes_T[1:] != hashes_T[:-1])])
    count = len(hashes_T) - STRETCH + 1
    changes_N = moves_T[STRETCH - 1 :] - moves_T[:count]
    for step in (1 << power for power in range(_DOUBLINGS)):
        hashes_T = _mixed(hashes_T[:-step], hashes_T[step:] + np.uint64(step))
    return hashes_T, changes_N >= _LEAST_CHANGES
