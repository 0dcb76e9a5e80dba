"""The models that look at a row, side by side, and what each says of it on a logarithmic scale.

| channel | what it knows | learnt from |
| --- | --- | --- |
| joint | the newest p + 1 rows laid side by side: how T2 is spread over the tags | own rows, the federation's moments |
| step m | the newest row given the p before: the largest residual of a tag against its own tail | the same |
| shape w | each tag's course over w rows | own rows alone |
| network | what the federated network could not rebuild of the newest row, whitened by mode | own rows; network: all |
| rebuilt | the same, as it is | network: all |

T2 itself is ruled by the one tag whose relation has drifted most. The joint channel is the mean over tags of
ln(1 + 3 D c_d), c_d the tag's part of T2: many tags a little off tell more than one tag far off, which is what the step
channels are for. A step channel has its own trailing mean over m rows.

Lean: an edge box imports this. Shapes: N windows, H rows of history, D tags, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shared.evidence.residual import ResidualModel
from shared.evidence.shape import ShapeModel
from shared.lag.sums import Values
from shared.lag.var import VarModel
from shared.local_guard.lagged import LagModel
from shared.scoring import Float64Array
from shared.windows import IntArray

STEP_TRAILS = (4, 12)
"""Rows of the trailing means of the step channels: residuals of single rows are noisy."""

SHARPNESS = 3.0  # of the joint channel: how soon another tag counts more than more of the same one

QUIET = 0.1
"""Added before each logarithm, in units in which normal data gives about 1: what is far below it tells nothing."""


class Looked(NamedTuple):
    """What the models find in windows before anything is made of it, A the tags that have courses.

    Attributes:
        joint_ND: each tag's part of T2.
        step_ND: `Models.steps`.
        distance_NLA: `ShapeModel.distances`.
    """

    joint_ND: Float64Array
    step_ND: Float64Array
    distance_NLA: Float64Array


@dataclass(frozen=True, eq=False)
class Models:
    """What a judge's channels are computed by.

    Attributes:
        joint, step: lag models of the same tags.
        tails_D: float64 (D,), what the step residual of each tag reaches on unseen normal rows, over what a normal
            distribution's would: tags that jump now and then are not held to a bell curve.
        shape: courses of the tags that are not coded.
        network: residuals of the network; None without one.
    """

    joint: LagModel
    step: VarModel
    tails_D: Float64Array
    shape: ShapeModel
    network: ResidualModel | None = None

    @property
    def rows(self) -> int:
        """Rows of history that are looked at, H."""
        return max(self.joint.lags, self.step.rows, self.shape.rows)

    @property
    def dim(self) -> int:
        """Number of tags, D."""
        return self.joint.dim

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, (C,)."""
        steps, shapes = (f"step {m}" for m in STEP_TRAILS), (f"shape {w}" for w in self.shape.lengths)
        return ("joint", *steps, *shapes, *(("network", "rebuilt") if self.network else ()))

    def logs(self, windows_NHD: Values, residual_ND: Values | None, modes_N: IntArray | None) -> Float64Array:
        """What each channel says of the newest row of each window, float64 (N, C).

        Args:
            windows_NHD: (N, H, D), prepared, finite.
            residual_ND, modes_N: of the network for these rows; not needed without one.
        """
        return self.logs_of(self.looked(windows_NHD), residual_ND, modes_N)

    def looked(self, windows_NHD: Values) -> Looked:
        """What `logs_of` and `parts_of` both rest on, worked out once."""
        contribution_ND = self.joint.explain(windows_NHD).contribution_ND
        return Looked(contribution_ND, self.steps(windows_NHD), self.shape.distances(windows_NHD))

    def logs_of(self, looked: Looked, residual_ND: Values | None, modes_N: IntArray | None) -> Float64Array:
        """See `logs`."""
        step_N = np.log(looked.step_ND.max(axis=1) + QUIET)
        found = [self._spread_out(looked.joint_ND), *(step_N for _ in STEP_TRAILS), *_rms_logs(looked.distance_NLA)]
        if self.network is not None and residual_ND is not None:
            modes = np.full(len(residual_ND), -1) if modes_N is None else modes_N
            rebuilt_N = np.sqrt(np.square(residual_ND).mean(axis=1))
            found += [np.log(np.sqrt(self.network.score(residual_ND, modes)) + QUIET), np.log(rebuilt_N + QUIET)]
        return np.stack(found, axis=1)

    def _spread_out(self, joint_ND: Float64Array) -> Float64Array:
        mean_N: Float64Array = np.log1p(SHARPNESS * self.dim * joint_ND).mean(axis=1)
        return mean_N

    def steps(self, windows_NHD: Values) -> Float64Array:
        """The step residual of each tag over its tail, not negative, float64 (N, D)."""
        return standardised(self.step, windows_NHD) / self.tails_D

    def parts(self, windows_NHD: Values, residual_ND: Values | None, modes_N: IntArray | None) -> Float64Array:
        """Each tag's share of what each channel says, float64 (N, C, D); each row adds up to 1."""
        return self.parts_of(self.looked(windows_NHD), residual_ND, modes_N)

    def parts_of(self, looked: Looked, residual_ND: Values | None, modes_N: IntArray | None) -> Float64Array:
        """See `parts`."""
        step_ND = np.square(looked.step_ND)
        found = [looked.joint_ND, *(step_ND for _ in STEP_TRAILS), *self._shape_parts(looked.distance_NLA)]
        if self.network is not None and residual_ND is not None:
            modes = np.full(len(residual_ND), -1) if modes_N is None else modes_N
            found += [self.network.parts(residual_ND, modes), np.square(residual_ND)]
        parts_NCD = np.stack(found, axis=1)
        wild_NCD = ~np.isfinite(parts_NCD)  # What is no number has all of it.
        if wild_NCD.any():
            parts_NCD = np.where(wild_NCD.any(axis=2, keepdims=True), wild_NCD, parts_NCD)
        total_NC1 = parts_NCD.sum(axis=2, keepdims=True)
        even_NCD = np.full_like(parts_NCD, 1 / self.dim)
        shares_NCD: Float64Array = np.divide(parts_NCD, total_NC1, out=even_NCD, where=total_NC1 > 0)
        return shares_NCD

    def _shape_parts(self, distance_NLA: Float64Array) -> Float64Array:
        square_NLA = np.square(distance_NLA)
        whole_NLD = np.zeros((len(square_NLA), len(self.shape.lengths), self.dim))
        whole_NLD[:, :, np.concatenate([self.shape.columns_A, self.shape.still_S])] = square_NLA
        turned_LND: Float64Array = whole_NLD.transpose(1, 0, 2)
        return turned_LND


def _rms_logs(distance_NLA: Float64Array) -> Float64Array:
    """Root mean square over the tags, (L, N), as logarithms; nothing where all tags are coded."""
    square_NL = np.square(distance_NLA).sum(axis=2) / max(distance_NLA.shape[2], 1)
    logs_LN: Float64Array = np.log(np.sqrt(square_NL).T + QUIET)
    return logs_LN


def standardised(step: VarModel, windows_NHD: Values) -> Float64Array:
    """How far each tag of the newest row lies from its prediction, over the spread that the other tags leave it."""
    residual_ND = step.residuals(windows_NHD)[:, 0]
    spread_D = np.sqrt(np.diagonal(step.whitened.precision_PP))
    found_ND: Float64Array = np.abs(residual_ND) * spread_D
    return found_ND
