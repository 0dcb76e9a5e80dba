"""What `Models` say of one row at a time: the same numbers as in batch, in a fraction of the time.

Everything goes into arrays that are there already, and what tags share in is added up once for all channels. Lean: an
edge box imports this. Shapes: H rows of history, D tags, C channels, F of them that tags share in each in its own way
(the step channels are one), L lagged rows, P = L D.
"""

from __future__ import annotations

import math

import numpy as np

from shared.evidence.courses import Courses, CourseTable
from shared.evidence.models import QUIET, SHARPNESS, STEP_TRAILS, Models
from shared.lag.sums import Values
from shared.scoring import Float64Array


class NewestTable:
    """What is worked out once for models; nothing in it changes.

    Args:
        models: what channels are computed by.
    """

    def __init__(self, models: Models) -> None:
        joint, step, network = models.joint, models.step, models.network
        self.models, self.courses = models, CourseTable(models.shape, models.dim)
        self.own_LLD: Float64Array = np.ascontiguousarray(joint.own_DLL.transpose(1, 2, 0))
        self.same_offsets = np.array_equal(joint.mean_LD, step.mean_LD)
        self.reach_D: Float64Array = np.sqrt(np.diagonal(step.whitened.precision_PP)) / models.tails_D
        self.one_D = np.ones(models.dim)
        self.network_KD = None if network is None else np.diagonal(network.precision_KDD, axis1=1, axis2=2).copy()
        self.first_F = np.array([0, 1, *range(1 + len(STEP_TRAILS), len(models.channels))])


class Newest:
    """Looks at one row after the other. It remembers what it last looked at, for `parts`, and no more.

    Args:
        table: of the models.
    """

    def __init__(self, table: NewestTable) -> None:
        models = table.models
        self._table, self._courses = table, Courses(table.courses)
        self._offset_LD, self._gradient_LD = np.empty_like(models.joint.mean_LD), np.empty_like(models.joint.mean_LD)
        self._step_D, self._pull_D = np.empty(models.dim), np.empty(models.dim)
        self._share_FD = np.zeros((len(table.first_F), models.dim))
        self._total_F = np.zeros(len(table.first_F))

    def logs(self, newest_HD: Values, residual_D: Float64Array | None, mode: int | None) -> list[float] | None:
        """What each channel says of the newest row, as `Models.logs`; None: it had better be asked as in batch.

        Args:
            newest_HD: float64, the newest H rows, side by side in memory; no number too large to be squared.
            residual_D, mode: of the network for this row; not needed without one.
        """
        table, share_FD, shape = self._table, self._share_FD, self._table.models.shape
        unheard = residual_D is None and table.models.network is not None
        square_LX = None if unheard else self._courses.squares(newest_HD[-shape.rows :])
        if square_LX is None:
            return None
        ends = 2 + len(shape.lengths)
        share_FD[2:ends, table.courses.columns_X] = square_LX
        joint = self._joint(newest_HD)
        step = math.log(self._step(newest_HD) + QUIET)
        form = None if residual_D is None else self._network(residual_D, mode)
        self._total_F = np.dot(share_FD, table.one_D)
        total = self._total_F.tolist()
        tags = max(square_LX.shape[1], 1)
        logs = [joint, *(step for _ in STEP_TRAILS), *(_level(one / tags) for one in total[2:ends])]
        return logs if form is None else [*logs, _level(form), _level(total[-1] / len(table.one_D))]

    def parts(self, above_C: Float64Array) -> Float64Array:
        """Each tag's part of what channels say above ordinary, float64 (D,), as `Judge.parts`.

        Args:
            above_C: weighed, not negative, finite; of the row last looked at.
        """
        above_F, total_F = np.add.reduceat(above_C, self._table.first_F), self._total_F
        if total_F.min() > 0:
            found_D: Float64Array = np.dot(above_F / total_F, self._share_FD)
            return found_D
        told_F = total_F > 0  # All tags share alike in what none of them has a part in.
        each_F = np.divide(above_F, total_F, out=np.zeros_like(above_F), where=told_F)
        evenly_D: Float64Array = np.dot(each_F, self._share_FD) + above_F[~told_F].sum() / len(self._table.one_D)
        return evenly_D

    def _joint(self, newest_HD: Values) -> float:
        """See `Models`: mean of ln(1 + 3 D c_d)."""
        table, joint, fall_D = self._table, self._table.models.joint, self._share_FD[0]
        np.subtract(newest_HD[-joint.lags :], joint.mean_LD, out=self._offset_LD)
        offset_P, gradient_LD = self._offset_LD.reshape(-1), self._gradient_LD
        np.dot(joint.precision_PP, offset_P, out=gradient_LD.reshape(-1))
        np.einsum("lmd,md,ld->d", table.own_LLD, gradient_LD, gradient_LD, out=fall_D)
        np.maximum(fall_D, 0.0, out=fall_D)
        score, total = float(np.dot(offset_P, gradient_LD.reshape(-1))) / len(offset_P), float(fall_D.sum())
        if score <= 0 or total <= 0:
            return math.log1p(SHARPNESS * max(score, 0.0))
        spread_D = np.log1p(fall_D * (SHARPNESS * len(fall_D) * score / total))
        return float(np.dot(spread_D, table.one_D)) / len(fall_D)

    def _step(self, newest_HD: Values) -> float:
        """The largest of `Models.steps`."""
        step, found_D, square_D = self._table.models.step, self._step_D, self._share_FD[1]
        same = self._table.same_offsets
        offset_LD = self._offset_LD if same else newest_HD[-step.rows :] - step.mean_LD
        np.dot(offset_LD[:-1].reshape(-1), step.weights_ZD, out=found_D)
        np.subtract(offset_LD[-1], found_D, out=found_D)
        np.multiply(found_D, self._table.reach_D, out=found_D)
        np.multiply(found_D, found_D, out=square_D)
        return math.sqrt(square_D.max())

    def _network(self, residual_D: Float64Array, mode: int | None) -> float | None:
        """`ResidualModel.score`; None without a network."""
        network, diagonal_KD = self._table.models.network, self._table.network_KD
        if network is None or diagonal_KD is None:
            return None
        last = len(network.mean_KD) - 1
        known = last if mode is None or not 0 <= mode < last else mode
        offset_D = residual_D - network.mean_KD[known]
        pull_D, share_FD = self._pull_D, self._share_FD
        np.dot(network.precision_KDD[known], offset_D, out=pull_D)
        np.multiply(pull_D, pull_D, out=share_FD[-2])
        np.divide(share_FD[-2], diagonal_KD[known], out=share_FD[-2])
        np.multiply(residual_D, residual_D, out=share_FD[-1])
        return max(float(np.dot(offset_D, pull_D)) / len(pull_D), 0.0)


def _level(square: float) -> float:
    return math.log(math.sqrt(square) + QUIET)
