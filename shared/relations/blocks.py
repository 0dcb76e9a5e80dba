"""From raw rows to what a block of B rows looks like: traces of codes, means of readings, how long codes have stood.

    F_t = [u_t, u_{t-1}, 1],   X_t = [F_t, m_t, m_{t-1}],   K_t = [m_t, codes, blocks since each switched]

u: traces (`traces`); m: block means in units of normal spread. Everything looks back only, in bounded memory. Shapes:
n blocks, B rows a block, D tags, C continuous, S coded, J of them switching, P columns of X.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.relations.kinds import Kinds
from shared.relations.traces import TIMES, Traces
from shared.scoring import Float64Array
from shared.series import BoolArray
from shared.windows import IntArray

LONGEST = 1000
"""Blocks since a switch are counted so far."""
PHASES = (6, 24)
"""Blocks since any code changed at which another phase begins."""
_FAR = 1e6  # units of spread: what lies farther is as wrong


@dataclass(frozen=True, eq=False)
class Frame:
    """How rows become blocks, as a value.

    Attributes:
        dim: tags, D.
        block: rows of a block, B.
        middle_D: median of each tag, for a tag that has not been read yet.
        kinds: of the tags.
        mean_C, spread_C: of the block means of continuous tags.
    """

    dim: int
    block: int
    middle_D: Float64Array
    kinds: Kinds
    mean_C: Float64Array
    spread_C: Float64Array

    @property
    def history(self) -> int:
        """Columns of F, which precede the readings in X."""
        return 2 * (1 + len(TIMES)) * len(self.indicators) + 1

    @property
    def columns(self) -> int:
        """Columns of X, P."""
        return self.history + 2 * len(self.mean_C)

    @property
    def indicators(self) -> IntArray:
        """Coded tag and code of each indicator, (I, 2): every code but the lowest."""
        found_I2: IntArray = np.argwhere(np.isfinite(self.kinds.codes_SA[:, 1:])) + np.array([0, 1])
        return found_I2


class Blocks(NamedTuple):
    """Finished blocks. `history_nF` is the left part of `x_nP`; `stable_nJ` holds indices of codes."""

    x_nP: Float64Array
    history_nF: Float64Array
    mean_nC: Float64Array
    target_nO: Float64Array
    control_nK: Float64Array
    stable_nJ: IntArray
    phase_n: IntArray
    rows_nBC: NDArray[np.floating]


class Walk:
    """One recording, from its beginning, a chunk of blocks at a time."""

    def __init__(self, frame: Frame) -> None:
        kinds = frame.kinds
        self._frame, self._traces = frame, Traces(frame.block, len(frame.indicators))
        self._read_D = frame.middle_D.copy()
        self._code_S: IntArray | None = None
        lowest_SA = np.where(kinds.transit_SA[:, :-1], np.inf, np.nan_to_num(kinds.codes_SA, nan=np.inf))
        self._stable_J: IntArray = lowest_SA.argmin(axis=1)[kinds.switching_J]
        self._since_J = np.full(len(kinds.switching_J), LONGEST)
        self._since = np.array([PHASES[-1] * frame.block])
        self._before: tuple[Float64Array, Float64Array] | None = None
        self._begun = False

    def take(self, rows_nBD: NDArray[np.floating]) -> Blocks:
        """Blocks of raw rows, at least one; what is not a finite number takes the last reading."""
        frame = self._frame
        count, rows_nBD = len(rows_nBD), self._filled(rows_nBD)
        read_nBC = rows_nBD[..., frame.kinds.continuous_C]
        mean_nC = np.clip((read_nBC.mean(axis=1, dtype=np.float64) - frame.mean_C) / frame.spread_C, -_FAR, _FAR)
        code_nBS = frame.kinds.indices(rows_nBD)
        tag_I, index_I = frame.indicators.T
        trace_nU = self._traces.take((code_nBS[..., tag_I] == index_I).astype(np.float64))
        mean_before_C, trace_before_U = self._before or (mean_nC[0], trace_nU[0])
        mean_before_nC = np.concatenate([mean_before_C[None], mean_nC[:-1]])
        history_nF = np.hstack([trace_nU, np.concatenate([trace_before_U[None], trace_nU[:-1]]), np.ones((count, 1))])
        self._before = mean_nC[-1], trace_nU[-1]
        stable_nJ, phase_n = self._stable(code_nBS), self._phase(code_nBS)
        return Blocks(
            x_nP=np.hstack([history_nF, mean_nC, mean_before_nC]),
            history_nF=history_nF,
            mean_nC=mean_nC,
            target_nO=np.hstack([mean_nC - mean_before_nC, mean_nC]),
            control_nK=np.hstack([mean_nC, stable_nJ, self._counted(stable_nJ)]),
            stable_nJ=stable_nJ,
            phase_n=phase_n,
            rows_nBC=read_nBC,
        )

    def _filled(self, rows_nBD: NDArray[np.floating]) -> NDArray[np.floating]:
        rows_TD = np.asarray(rows_nBD, np.float32).reshape(-1, self._frame.dim)
        filled_TD = last_known(rows_TD, np.isfinite(rows_TD), self._read_D)
        self._read_D = filled_TD[-1]
        return filled_TD.reshape(rows_nBD.shape)

    def _stable(self, code_nBS: IntArray) -> IntArray:
        """The newest code of each switching tag that is not transit, at each block's end."""
        kinds = self._frame.kinds
        code_TJ = code_nBS.reshape(-1, code_nBS.shape[2])[:, kinds.switching_J]
        transit_TJ = kinds.transit_SA[kinds.switching_J, code_TJ]
        stable_nJ = last_known(code_TJ, ~transit_TJ, self._stable_J)[self._frame.block - 1 :: self._frame.block]
        if not self._begun:
            self._stable_J, self._begun = stable_nJ[0], True
        self._changed_nJ: BoolArray = np.diff(np.vstack([self._stable_J[None], stable_nJ]), axis=0) != 0
        self._stable_J = stable_nJ[-1]
        return stable_nJ

    def _counted(self, stable_nJ: IntArray) -> IntArray:
        """Blocks since each tag switched, 0 in the block where it did."""
        since_nJ = np.minimum(since(self._changed_nJ, self._since_J), LONGEST)
        self._since_J = since_nJ[-1]
        return since_nJ

    def _phase(self, code_nBS: IntArray) -> IntArray:
        """0, 1 or 2 by the rows since any code changed."""
        code_TS = code_nBS.reshape(-1, code_nBS.shape[2])
        before_S = code_TS[0] if self._code_S is None else self._code_S
        changed_T1 = (np.diff(np.vstack([before_S[None], code_TS]), axis=0) != 0).any(axis=1, keepdims=True)
        since_T = since(changed_T1, self._since)[:, 0]
        self._code_S, self._since = code_TS[-1], since_T[-1:]
        block = self._frame.block
        return np.digitize(since_T[block - 1 :: block], np.array(PHASES) * block)


def last_known(values_TX: NDArray[Any], known_TX: BoolArray, before_X: NDArray[Any]) -> NDArray[Any]:
    """Each value, or the newest known one before it.

    Example:
        >>> last_known(np.array([[7], [8], [9]]), np.array([[False], [True], [False]]), np.array([5])).tolist()
        [[5], [8], [8]]
    """
    if known_TX.all():
        return values_TX
    at_TX = np.maximum.accumulate(np.where(known_TX, np.arange(len(values_TX))[:, None], -1), axis=0)
    found_TX: NDArray[Any] = np.where(at_TX < 0, before_X, np.take_along_axis(values_TX, np.maximum(at_TX, 0), axis=0))
    return found_TX.astype(values_TX.dtype)


def since(changed_TX: BoolArray, before_X: IntArray) -> IntArray:
    """Rows since the last change, 0 where there is one; `before_X`: at the row before the first.

    Example:
        >>> since(np.array([[False], [True], [False]]), np.array([4])).tolist()
        [[5], [0], [1]]
    """
    row_T1 = np.arange(len(changed_TX))[:, None]
    at_TX = np.maximum.accumulate(np.where(changed_TX, row_T1, -1), axis=0)
    return np.where(at_TX < 0, before_X + row_T1 + 1, row_T1 - at_TX)
