"""Which tags carry codes (valves, pumps, modes) and which a continuous reading, from normal rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.scoring import Float64Array
from shared.series import BoolArray
from shared.windows import IntArray

MOST_CODES = 6
UNKNOWN = MOST_CODES
"""Index of a code that normal rows never showed."""
_TRANSIT_SHARE = 0.9  # of a code's stays are short: a valve on its way, not a position
_FEWEST_STAYS = 4
_SAMPLE = 1000  # rows that usually show that a tag is continuous


@dataclass(frozen=True, eq=False)
class Kinds:
    """The tags of a plant, by kind. Constant tags are of neither.

    Attributes:
        continuous_C: columns of continuous tags, int64 (C,).
        coded_S: columns of tags with 2 to 6 distinct whole values, int64 (S,).
        codes_SA: their values ascending, float64 (S, 6), NaN beyond the last.
        transit_SA: bool (S, 7), codes that only mark the way from one to another; the last entry is for unknown codes.
        switching_J: which of the S have at least two codes that are not transit, int64 (J,).
    """

    continuous_C: IntArray
    coded_S: IntArray
    codes_SA: Float64Array
    transit_SA: BoolArray
    switching_J: IntArray

    def indices(self, rows_BD: NDArray[np.floating]) -> IntArray:
        """Index of each coded tag's code, int64 (..., S); `UNKNOWN` where normal rows had no such code."""
        found_BSA = rows_BD[..., self.coded_S, None] == self.codes_SA
        return np.where(found_BSA.any(axis=-1), found_BSA.argmax(axis=-1), UNKNOWN)


def kinds_of(rows_TD: NDArray[np.floating], short: int) -> Kinds:
    """The kinds of tags in normal rows.

    Args:
        rows_TD: (T, D), finite.
        short: rows; a code nine tenths of whose stays are no longer is transit.
    """
    codes_D = [_codes(column_T) for column_T in rows_TD.T]
    coded_S = np.array([d for d, codes in enumerate(codes_D) if codes is not None and len(codes) > 1], np.int64)
    moves_D = np.ptp(rows_TD, axis=0) > 0
    continuous_C = np.array([d for d, codes in enumerate(codes_D) if codes is None and moves_D[d]], np.int64)
    codes_SA = np.full((len(coded_S), MOST_CODES), np.nan)
    transit_SA = np.zeros((len(coded_S), MOST_CODES + 1), bool)
    for s, d in enumerate(coded_S):
        codes_A = codes_D[d]
        assert codes_A is not None
        codes_SA[s, : len(codes_A)] = codes_A
        transit_SA[s, : len(codes_A)] = _transit(rows_TD[:, d], codes_A, short)
    stable_S = np.isfinite(codes_SA).sum(axis=1) - transit_SA.sum(axis=1)
    return Kinds(continuous_C, coded_S, codes_SA, transit_SA, np.flatnonzero(stable_S > 1))


def switches(rows_TD: NDArray[np.floating], kinds: Kinds) -> IntArray:
    """How often each coded tag changes, int64 (S,)."""
    return np.asarray((np.diff(rows_TD[:, kinds.coded_S], axis=0) != 0).sum(axis=0), np.int64)


def _codes(column_T: NDArray[np.floating]) -> Float64Array | None:
    """Distinct values, if they are few and whole."""
    for part_T in (column_T[:_SAMPLE], column_T):
        values_A = np.unique(part_T)
        if len(values_A) > MOST_CODES or not np.array_equal(values_A, np.round(values_A)):
            return None
    return values_A.astype(np.float64)


def _transit(column_T: NDArray[np.floating], codes_A: Float64Array, short: int) -> BoolArray:
    """Which codes are held only briefly; none where that were all of them."""
    first_M = np.flatnonzero(np.r_[True, column_T[1:] != column_T[:-1]])
    stay_M, code_M = np.diff(np.r_[first_M, len(column_T)]), column_T[first_M]
    stays = [stay_M[code_M == code] for code in codes_A]
    brief_A = np.array([len(one) >= _FEWEST_STAYS and np.quantile(one, _TRANSIT_SHARE) <= short for one in stays])
    return np.zeros_like(brief_A) if brief_A.all() else brief_A
