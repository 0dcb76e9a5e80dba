"""What an attacker really finds out, in one run: a lower bound on epsilon that a claim must stay above.

The auditor hides m canaries in a plant's data, each with probability 1/2, looks at what left the plant, and says of
some which way its coin fell. Under (epsilon, delta)-differential privacy not many more than half can be right: Steinke,
Nasr and Jagielski 2023, "Privacy auditing with one (1) training run" (arXiv 2305.08846), theorem 5.2 and appendix D.

A bound above the claim refutes it. A bound below it proves nothing: perhaps the attack was poor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95

_MOST_EPSILON = 64.0
_PRECISION = 1e-4


@dataclass(frozen=True)
class Guesses:
    """How well the auditor did.

    Attributes:
        canaries: m, each in the data with probability 1/2 and independently.
        guessed: r, of how many it said anything; of the others it abstained.
        correct: v, how often it was right.
    """

    canaries: int
    guessed: int
    correct: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.guessed <= self.canaries or self.canaries < 1:
            raise ValueError(f"{self.correct} correct of {self.guessed} guesses about {self.canaries} canaries.")


def guess(scores_M: NDArray[np.floating], included_M: NDArray[np.bool_], guessed: int) -> Guesses:
    """Take the highest scores for canaries that are in and the lowest for ones that are not; abstain between them.

    How many guesses there are must be settled before the scores are seen, or the bound does not hold.

    Args:
        scores_M: (M,), the higher the likelier to be in; no NaN.
        included_M: (M,), the coins.
        guessed: r, halved between the two sides; an odd one goes to the high side.

    Example:
        >>> guess(np.array([3.0, -2.0, 0.1, 5.0]), np.array([True, False, True, False]), guessed=3)
        Guesses(canaries=4, guessed=3, correct=2)

    Raises:
        ValueError: more guesses than canaries, a score that is no number, or not as many scores as coins.
    """
    if scores_M.shape != included_M.shape or not np.isfinite(scores_M).all():
        raise ValueError(f"{scores_M.size} finite scores are due for {included_M.size} coins.")
    if not 0 <= guessed <= len(scores_M):
        raise ValueError(f"{guessed} guesses about {len(scores_M)} canaries.")
    ascending = np.argsort(scores_M, kind="stable")
    low = guessed // 2
    high = guessed - low
    out, inside = ascending[:low], ascending[len(ascending) - high :]
    correct = int((~included_M[out]).sum() + included_M[inside].sum())
    return Guesses(len(scores_M), guessed, correct)


def p_value(found: Guesses, epsilon: float, delta: float) -> float:
    """How likely so many correct guesses are at most, if (epsilon, delta) held; theorem 5.2, at most 1.

        beta + 2 m delta alpha,   W ~ Binomial(r, 1 / (1 + e^-epsilon))
        beta = P[W >= v],   alpha = max_{1 <= i <= v} P[v > W >= v - i] / i

    Example:
        >>> round(p_value(Guesses(100, 100, 100), epsilon=3.0, delta=0.0), 4)
        0.0078
    """
    from scipy.stats import binom

    r, v = found.guessed, found.correct
    if v == 0:
        return 1.0
    rate = 1.0 / (1.0 + math.exp(-epsilon))
    below_V = np.cumsum(binom.pmf(np.arange(v - 1, -1, -1), r, rate))
    alpha = float((below_V / np.arange(1, v + 1)).max())
    return min(1.0, float(binom.sf(v - 1, r, rate)) + 2.0 * found.canaries * delta * alpha)


def epsilon_bound(found: Guesses, delta: float, confidence: float = CONFIDENCE) -> float:
    """The largest epsilon that so many correct guesses refute: below the true one in `confidence` of all audits.

    Args:
        found: of one run.
        delta: of the claim.
        confidence: 1 - the chance of a bound that is too high.

    Example:
        >>> [round(epsilon_bound(Guesses(m, m, m), delta=1e-5), 1) for m in (20, 100, 1000)]
        [1.8, 3.5, 5.8]
    """
    refuted, open_ = 0.0, _MOST_EPSILON
    if p_value(found, refuted, delta) >= 1.0 - confidence:
        return 0.0
    while open_ - refuted > _PRECISION:
        middle = (refuted + open_) / 2
        if p_value(found, middle, delta) < 1.0 - confidence:
            refuted = middle
        else:
            open_ = middle
    return refuted
