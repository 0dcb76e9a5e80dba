"""What releases cost together: epsilon at a delta, from what was released and not from what was meant to be.

min(PRV, RDP), both upper bounds; PRV after Gopi et al. 2021 (arXiv 2106.02848), RDP after Mironov et al. 2019 (arXiv
1908.10530), both by Opacus. Releases of all records are plain Gaussian mechanisms and compose into one, exactly
(Dong et al. 2019, arXiv 1905.02383, corollary 3.3). The central-limit accountant ("GDP") reports too little and is not
used. Imported inside functions: Opacus imports torch.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shared.errors import BudgetTooSmall

MOST_MULTIPLIER = 1000.0
"""More noise than this is nobody's recipe: a budget that needs it is too small."""

_ORDERS = np.array(
    [1 + x / 10 for x in range(1, 100)] + [*range(11, 64), *range(64, 256, 8), 256, 320, 384, 448, 512, 640, 768, 1024]
)
_PRECISION = 1.001
_LEAST_MULTIPLIER = 1e-3
_PRV_SHARE = 0.003  # of epsilon: the numerical error that PRV may add on top
_MOST_POINTS = 2**20  # of PRV's grid
_MOST_PRV_EPSILON = 100.0
_MOST_DISTINCT = 8


@dataclass(frozen=True)
class Event:
    """Equal releases, composed.

    Attributes:
        multiplier: noise over sensitivity, of all parts of one release together.
        sampling: chance of a record to be in one release; 1 when all are.
        count: how many.
    """

    multiplier: float
    sampling: float
    count: int


def together(*multipliers: float) -> float:
    """The multiplier of several parts released at once: precisions add, 1 / sqrt(sum z^-2); parts with 0 are absent.

    Example:
        >>> round(together(1.0, 1.0), 4), together(2.0, 0.0)
        (0.7071, 2.0)
    """
    precision = sum(_precision(z) for z in multipliers if z > 0)
    return precision**-0.5 if precision > 0 else 0.0


def _precision(multiplier: float) -> float:
    """1 / z^2; infinite where that is beyond float64, as it is for noise that hides nothing."""
    return multiplier**-2 if multiplier > 1e-150 else math.inf


def merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """The same releases as few events, in an order of their own: equal ones are one, those without sampling are one.

    Example:
        >>> merged([Event(3, 1, 2), Event(1, 0.5, 3), Event(3, 1, 1), Event(1, 0.5, 1)])
        (Event(multiplier=1, sampling=0.5, count=4), Event(multiplier=1.7320508075688774, sampling=1.0, count=1))
    """
    counts: Counter[tuple[float, float]] = Counter()
    for event in events:
        if event.count > 0 and event.sampling > 0:
            counts[event.multiplier, event.sampling] += event.count
    sampled = tuple(Event(z, q, n) for (z, q), n in sorted(counts.items()) if q < 1)
    whole = sorted((z, n) for (z, q), n in counts.items() if q >= 1)
    if not whole:
        return sampled
    none = any(z <= 0 for z, _ in whole)
    return (*sampled, Event(0.0 if none else sum(n * _precision(z) for z, n in whole) ** -0.5, 1.0, 1))


def epsilon(events: Sequence[Event], delta: float) -> float:
    """Epsilon of all events together; 0 for none, infinite where a multiplier is 0.

    Args:
        events: in any order.
        delta: in (0, 1).

    Example:
        >>> round(epsilon([Event(multiplier=5.0, sampling=1.0, count=50)], 1e-5), 3)
        6.573
    """
    return _epsilon(merged(events), delta)


def upper(events: Sequence[Event], delta: float) -> float:
    """A quick upper bound on `epsilon` (RDP alone), for a ledger that is asked before every release."""
    return _upper(merged(events), delta)


@lru_cache(maxsize=4096)
def _epsilon(events: tuple[Event, ...], delta: float) -> float:
    bound = _upper(events, delta)
    if not 0 < bound < _MOST_PRV_EPSILON or _only_whole(events) or len(events) > _MOST_DISTINCT:
        return bound
    return min(bound, _prv(events, delta, bound))


@lru_cache(maxsize=4096)
def _upper(events: tuple[Event, ...], delta: float) -> float:
    if not events:
        return 0.0
    if any(event.multiplier <= 0 for event in events):
        return math.inf
    if _only_whole(events):
        return gaussian_epsilon(1 / events[0].multiplier, delta)
    divergence_A = np.add.reduce([event.count * _renyi(event.multiplier, event.sampling) for event in events])
    return _from_renyi(divergence_A, delta)


def _only_whole(events: tuple[Event, ...]) -> bool:
    return len(events) == 1 and events[0].sampling >= 1


def gaussian_delta(mu: float, eps: float) -> float:
    """Delta of a Gaussian mechanism of sensitivity over noise `mu`: Balle and Wang 2018 (arXiv 1805.06530), theorem 8.

    Phi(-eps / mu + mu / 2) - e^eps Phi(-eps / mu - mu / 2)

    Example:
        >>> round(gaussian_delta(1.0, 1.0), 4)
        0.1269
    """
    from scipy.special import log_ndtr

    near, far = log_ndtr(mu / 2 - eps / mu), eps + log_ndtr(-mu / 2 - eps / mu)
    return float(-math.exp(near) * math.expm1(far - near)) if far < near else 0.0


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon at which `gaussian_delta` is `delta`, from above; 0 where delta alone covers it."""
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    most = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1e-12  # the bound of concentrated privacy
    return _bisected(lambda eps: gaussian_delta(mu, eps) <= delta, 0.0, most, 1 + 1e-12)


def _bisected(holds: Callable[[float], bool], low: float, high: float, precision: float) -> float:
    """A point above the smallest at which a monotone property holds, by at most the factor; it holds at `high`."""
    for _ in range(200):
        middle = (low + high) / 2
        if high <= low * precision or middle in (low, high):
            break
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@lru_cache(maxsize=4096)
def _renyi(multiplier: float, sampling: float) -> NDArray[np.float64]:
    """Renyi divergence of one release at each of `_ORDERS`; infinite where it cannot be computed."""
    from opacus.accountants.analysis.rdp import compute_rdp

    def at(order: float) -> float:
        try:
            value = float(compute_rdp(q=sampling, noise_multiplier=multiplier, steps=1, orders=float(order)))
        except (ValueError, OverflowError, ZeroDivisionError):
            return math.inf
        return value if value >= 0 else math.inf  # also for what is no number

    with np.errstate(all="ignore"):
        return np.array([at(order) for order in _ORDERS])


def _from_renyi(divergence_A: NDArray[np.float64], delta: float) -> float:
    """Balle et al. 2020 (arXiv 1905.09982), theorem 21, at the best order."""
    eps_A = divergence_A + np.log1p(-1 / _ORDERS) - (math.log(delta) + np.log(_ORDERS)) / (_ORDERS - 1)
    return max(0.0, float(eps_A.min()))


def _prv(events: tuple[Event, ...], delta: float, bound: float) -> float:
    """PRV's upper bound; infinite where its grid would be too large or too coarse, or it fails."""
    from opacus.accountants import PRVAccountant

    steps, delta_error = sum(event.count for event in events), delta / 1000
    per_error = math.sqrt(steps * math.log(12 / delta_error) / 2)
    error = max(_PRV_SHARE * bound, 2 * (bound + 3) * per_error / _MOST_POINTS)
    if error > max(0.1 * bound, 1e-3) or error >= 1:
        return math.inf
    accountant = PRVAccountant()
    accountant.history = [(event.multiplier, event.sampling, event.count) for event in events]
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = float(accountant.get_epsilon(delta, eps_error=error, delta_error=delta_error))
    except (RuntimeError, ValueError, ArithmeticError, MemoryError, IndexError):
        return math.inf
    return value if value >= 0 else math.inf


def multiplier_for(target: float, delta: float, sampling: float, count: int, others: Sequence[Event] = ()) -> float:
    """The least multiplier at which `count` releases beside `others` stay within `target`, to 0.1 % above.

    Example:
        >>> round(multiplier_for(1.0, 1e-5, sampling=1.0, count=1), 2)
        3.73

    Raises:
        BudgetTooSmall: `others` alone spend it.
    """

    def spent(multiplier: float) -> float:
        return epsilon([*others, Event(multiplier, sampling, count)], delta)

    alone = epsilon(others, delta)
    if alone >= target:
        raise BudgetTooSmall(f"the other releases alone cost epsilon {alone:.3g} of {target:g} at delta {delta:g}.")
    most = [*others, Event(MOST_MULTIPLIER, sampling, count)]
    if upper(most, delta) > target and epsilon(most, delta) > target:
        raise BudgetTooSmall(
            f"{count:,} releases at sampling {sampling:g} cost more than epsilon {target:g} at delta {delta:g}, "
            f"even with noise of {MOST_MULTIPLIER:,.0f} times what one record can move."
        )
    if count < 1 or spent(_LEAST_MULTIPLIER) <= target:
        return _LEAST_MULTIPLIER
    return _least(spent, target, _guess(target, delta, sampling, count, others))


def _guess(target: float, delta: float, sampling: float, count: int, others: Sequence[Event]) -> float:
    """Where to look first: the central limit theorem, good to some per cent; never an answer."""

    def squared(event: Event) -> float:
        precision = min(event.multiplier**-2, 500.0)
        return event.sampling**2 * event.count * (precision if event.sampling >= 1 else math.expm1(precision))

    mu = _bisected(lambda mu: gaussian_epsilon(mu, delta) >= target, 0.0, 1e3, 1.001)
    left = max(mu * mu - sum(map(squared, merged(others))), 0.01 * mu * mu)
    precision = left / sampling**2 / count
    return float(np.clip((precision if sampling >= 1 else math.log1p(precision)) ** -0.5, 1e-2, MOST_MULTIPLIER / 2))


def _least(spent: Callable[[float], float], target: float, guess: float) -> float:
    """Secants on the logarithms, where epsilon is nearly a power of the noise, between a bound on either side."""
    low, high, trial, slope = _LEAST_MULTIPLIER, MOST_MULTIPLIER, guess, -1.1
    seen: tuple[float, float] | None = None
    while high > low * _PRECISION:
        trial = trial if low < trial < high else math.sqrt(low * high)
        reached = spent(trial)
        low, high = (low, trial) if reached <= target else (trial, high)
        here, gap = math.log(trial), math.log(min(max(reached, 1e-9), 1e9) / target)
        if seen is not None and abs(here - seen[0]) > 1e-3:
            slope = min(max((gap - seen[1]) / (here - seen[0]), -20.0), -0.2)
        seen = (here, gap)
        # A hair beyond the secant's root, on the side that is still open: most times the two then enclose it.
        trial *= math.exp(-gap / slope) * (0.9996 if reached <= target else 1.0004)
    return high
