"""Controllers: how likely each switch is, given what the plant looked like just before, and a belief in who is lying.

    P(next code | code, m_t, all codes, blocks since each switched)

by extremely randomised trees (Geurts, Ernst and Wehenkel 2006, Machine Learning 63(1)), one forest a tag and code: a
discrete-time hazard (Cox 1972, section 7, J. R. Stat. Soc. B 34). A switch that the plant gave no cause for leaves
the *believed* code behind, and the tag stays suspicious until both agree, the belief would switch as well, or time is
up: the command was forged, or the reading. A switch that was due and did not come moves the belief alone.
Shapes: n blocks, J tags, A codes (the last: unknown), R trees, N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.relations.kinds import MOST_CODES
from shared.relations.trees import Trees
from shared.scoring import Float64Array
from shared.windows import IntArray

CODES = MOST_CODES + 1
LEAST_SURPRISE = 5.0
FLOOR = 1e-4
"""Probability of what never happened."""
_FADE = 0.98  # of the surprise about a switch that does not come
_MISSED = 4.0  # such surprise must exceed the cut by so much
_LIKELY = 0.2  # a believed code that would switch to the observed one with this probability does
_RAISED = 1.8  # ratio of a tag whose belief is apart: it ranks high, and alarms only where thresholds are low
_SHOWN = 2.0  # surprise about a switch that does not come, from which on it shows


@dataclass(frozen=True, eq=False)
class Hazards:
    """Probabilities of the next code, as a value.

    Attributes:
        trees: of all forests.
        share_RNA: each leaf's probability of each next code; 0 for a code that never followed.
        tag_R, code_R: int64, whose forest a tree belongs to.
        plain_JAA: next-code probabilities where there is no forest: 1 where too little is known to say anything.
    """

    trees: Trees
    share_RNA: Float64Array
    tag_R: IntArray
    code_R: IntArray
    plain_JAA: Float64Array

    def surprises(self, control_nK: Float64Array) -> Float64Array:
        """-log P of each next code given each code, float64 (n, J, A, A)."""
        odds_nJAA = np.broadcast_to(self.plain_JAA, (len(control_nK), *self.plain_JAA.shape)).copy()
        if len(self.tag_R):
            leaf_nR = self.trees.leaves(control_nK)
            pair_R = self.tag_R * CODES + self.code_R
            pair_f, first_f = np.unique(pair_R, return_index=True)  # a forest's trees lie together
            share_nRA = self.share_RNA[np.arange(len(pair_R)), leaf_nR]
            size_f1 = np.diff([*first_f, len(pair_R)])[:, None]
            mean_nfA = np.add.reduceat(share_nRA, first_f, axis=1) / size_f1
            odds_nJAA[:, pair_f // CODES, pair_f % CODES] = np.maximum(mean_nfA, FLOOR)
        return -np.log(odds_nJAA)


class Beliefs:
    """Believed codes over one recording, a chunk of blocks at a time.

    Args:
        cut_J: surprise from which on a switch had no cause.
        patience: blocks after which an observed code is believed whatever happened.
    """

    def __init__(self, cut_J: Float64Array, patience: int) -> None:
        self._cut_J, self._tags = cut_J, [_Belief(float(cut), patience) for cut in cut_J]
        self._last_JAA: Float64Array | None = None

    def take(self, stable_nJ: IntArray, surprise_nJAA: Float64Array) -> Float64Array:
        """The ratio of each tag, float64 (n, J): below 1 usual, `_RAISED` while belief and observation are apart."""
        before_nJAA = surprise_nJAA[:-1]
        first = self._last_JAA is None
        if self._last_JAA is not None:
            before_nJAA = np.concatenate([self._last_JAA[None], before_nJAA])
        self._last_JAA = surprise_nJAA[-1]
        found_nJ = np.zeros(stable_nJ.shape)
        for j, tag in enumerate(self._tags):
            codes = stable_nJ[:, j].tolist()
            if first:
                tag.begin(codes.pop(0))
            steps = zip(codes, before_nJAA[:, j], strict=True)
            found_nJ[int(first) :, j] = [tag.step(code, surprise_AA) for code, surprise_AA in steps]
        return np.where(found_nJ > self._cut_J, _RAISED, 0.99 * found_nJ / self._cut_J)


class _Belief:
    """What is believed of one tag."""

    __slots__ = ("_age", "_believed", "_cut", "_due", "_patience", "_seen", "_surprise")

    def __init__(self, cut: float, patience: int) -> None:
        self._cut, self._patience = cut, patience
        self.begin(0)

    def begin(self, code: int) -> None:
        """A recording begins with a code, which is believed."""
        self._seen = self._believed = code
        self._surprise, self._due, self._age = 0.0, 0.0, 0

    def step(self, code: int, surprise_AA: Float64Array) -> float:
        """How suspicious a tag is that now has this code; `surprise_AA` is of the block before."""
        together = self._seen == self._believed
        self._seen = code
        if not together:
            return self._apart(code, surprise_AA)
        return self._stays(surprise_AA) if code == self._believed else self._switched(code, surprise_AA)

    def _stays(self, surprise_AA: Float64Array) -> float:
        self._due = self._due * _FADE + float(surprise_AA[self._believed, self._believed])
        if self._due <= self._cut + _MISSED:
            return min(self._due, 0.99 * self._cut) if self._due > _SHOWN else 0.0
        others = surprise_AA[self._believed].copy()
        others[self._believed] = np.inf
        self._surprise, self._due, self._age = self._due, 0.0, 0
        self._believed = int(others.argmin())
        return self._surprise

    def _switched(self, code: int, surprise_AA: Float64Array) -> float:
        self._due, surprise = 0.0, float(surprise_AA[self._believed, code])
        if surprise > self._cut:
            self._surprise, self._age = surprise, 0
        else:
            self._believed = code
        return surprise

    def _apart(self, code: int, surprise_AA: Float64Array) -> float:
        self._age += 1
        likely = float(surprise_AA[self._believed, code]) < -np.log(_LIKELY)
        if code == self._believed or self._age > self._patience or likely:
            self.begin(code)
            return 0.0
        return self._surprise
