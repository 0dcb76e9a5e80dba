"""Detectors of drift: ADWIN and Page-Hinkley, in a few lines of NumPy. The tests hold them to river's, which would cost
an edge box 129 MB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np

_PER_SIZE = 5  # buckets of one size before two become one
_MOST_SIZES = 40


class Adwin:
    """A window of values that shrinks when its older part has another mean than its newer one.

    Bifet and Gavalda 2007, "Learning from time-changing data with adaptive windowing", SIAM SDM, section 3.2 (ADWIN2):
    an exponential histogram with buckets of 1, 2, 4, ... values, and a cut between two buckets wherever
    `|mu_0 - mu_1| > sqrt(2 v l / m) + 2 l / (3 m)`, with `l = ln(2 ln(n) / delta)` and m the harmonic sum of both
    lengths. O(1) a value on average, O(log n) memory.

    Args:
        delta: confidence; smaller cuts less often.
        clock: values between two looks for a cut.
        least: values on either side of a cut.

    Attributes:
        cuts: found so far.

    Example:
        >>> adwin = Adwin()
        >>> found = [adwin.update(float(x)) for x in [0, 1] * 200 + [6, 7] * 50]
        >>> found.index(True) - 400 < 32, 6 < adwin.mean < 7
        (True, True)
    """

    def __init__(self, delta: float = 0.002, clock: int = 32, least: int = 5) -> None:
        self._delta, self._clock, self._least = delta, clock, least
        self._sizes: list[list[tuple[float, float]]] = [[]]  # by size: total, squares about the mean; oldest first
        self._seen = 0
        self.cuts = 0

    def update(self, value: float) -> bool:
        """Take a finite value; whether the mean has changed."""
        self._sizes[0].append((value, 0.0))
        self._seen += 1
        self._merge()
        return self._seen % self._clock == 0 and self._cut()

    @property
    def width(self) -> int:
        """Values in the window."""
        return sum(len(buckets) << at for at, buckets in enumerate(self._sizes))

    @property
    def mean(self) -> float:
        """Of the window; 0 when it is empty."""
        total = math.fsum(bucket[0] for buckets in self._sizes for bucket in buckets)
        return total / max(1, self.width)

    def _merge(self) -> None:
        for at, buckets in enumerate(self._sizes):
            if len(buckets) <= _PER_SIZE:
                return
            (u, a), (v, b) = buckets[:2]
            del buckets[:2]
            if at + 1 == len(self._sizes):
                self._sizes.append([])
            size = float(1 << at)
            self._sizes[at + 1].append((u + v, a + b + (u / size - v / size) ** 2 * size / 2))

    def _cut(self) -> bool:
        found = False
        while self._differs():
            found = True
            oldest = next(buckets for buckets in reversed(self._sizes) if buckets)
            del oldest[0]
            while len(self._sizes) > 1 and not self._sizes[-1]:
                del self._sizes[-1]
        self.cuts += found
        return found

    def _differs(self) -> bool:
        """Whether there is a cut."""
        rows = np.array(list(self._oldest_first()))
        if len(rows) < 2:
            return False
        n_B, u_B, q_B = rows.T
        n, mean = n_B.sum(), u_B.sum() / n_B.sum()
        variance = (q_B.sum() + np.sum(n_B * (u_B / n_B - mean) ** 2)) / n
        n0_C, u0_C = np.cumsum(n_B)[:-1], np.cumsum(u_B)[:-1]
        n1_C, u1_C = n - n0_C, u_B.sum() - u0_C
        harmonic_C = 1 / n0_C + 1 / n1_C
        log = math.log(2 * max(math.log(n), 1.0) / self._delta)
        limit_C = np.sqrt(2 * harmonic_C * variance * log) + 2 / 3 * log * harmonic_C
        long_C = (n0_C >= self._least) & (n1_C >= self._least)
        return bool(np.any(long_C & (np.abs(u0_C / n0_C - u1_C / n1_C) > limit_C)))

    def _oldest_first(self) -> Iterator[tuple[float, float, float]]:
        for at in range(len(self._sizes) - 1, -1, -1):
            yield from ((float(1 << at), total, squares) for total, squares in self._sizes[at])

    @property
    def json(self) -> str:
        """What it remembers."""
        return json.dumps([self._seen, self.cuts, self._sizes], allow_nan=False)

    def resume(self, text: str) -> None:
        """Go on from what `json` gave.

        Raises:
            ValueError: it is none.
        """
        try:
            seen, cuts, sizes = json.loads(text)
            found = [[(float(total), float(squares)) for total, squares in buckets] for buckets in sizes]
            seen, cuts = int(seen), int(cuts)
        except (TypeError, RecursionError, OverflowError) as error:
            raise ValueError(f"it is no window: {error}") from error
        numbers = [number for buckets in found for bucket in buckets for number in bucket]
        if (
            not 1 <= len(found) <= _MOST_SIZES
            or any(len(b) > _PER_SIZE for b in found)
            or not np.isfinite(numbers).all()
        ):
            raise ValueError("it is no window: too many buckets, or numbers that are not finite")
        self._seen, self.cuts, self._sizes = seen, cuts, found


class PageHinkley:
    """A cumulative sum of deviations from the running mean, in both directions.

    Page 1954, "Continuous inspection schemes", Biometrika 41; with forgetting, as river has it. After a detection it
    begins anew.

    Args:
        least: values before it says anything.
        slack: deviation that does not count, in units of the values.
        threshold: of the sum, in units of the values.
        forget: factor of the sum at each value.

    Example:
        >>> found = PageHinkley(threshold=20.0)
        >>> [found.update(x) for x in [0.0] * 100 + [5.0] * 6][-3:]
        [False, True, False]
    """

    def __init__(self, least: int = 30, slack: float = 0.005, threshold: float = 50.0, forget: float = 0.9999) -> None:
        self._least, self._slack, self._threshold, self._forget = least, slack, threshold, forget
        self._restart()

    def _restart(self) -> None:
        self._n, self._mean, self._up, self._down, self._lowest, self._highest = 0, 0.0, 0.0, 0.0, math.inf, -math.inf

    def update(self, value: float) -> bool:
        """Take a finite value; whether the mean has changed."""
        self._n += 1
        self._mean += (value - self._mean) / self._n
        away = value - self._mean
        self._up = self._forget * self._up + away - self._slack
        self._down = self._forget * self._down + away + self._slack
        self._lowest, self._highest = min(self._lowest, self._up), max(self._highest, self._down)
        far = max(self._up - self._lowest, self._highest - self._down) > self._threshold
        if self._n < self._least or not far:
            return False
        self._restart()
        return True

    @property
    def json(self) -> str:
        """What it remembers."""
        numbers = (self._mean, self._up, self._down, self._lowest, self._highest)
        return json.dumps([self._n, *numbers] if self._n else None)

    def resume(self, text: str) -> None:
        """Go on from what `json` gave.

        Raises:
            ValueError: it is none.
        """
        found = json.loads(text)
        if found is None:
            self._restart()
            return
        if not isinstance(found, list) or len(found) != 6 or not all(isinstance(x, int | float) for x in found):
            raise ValueError("it is no sum: six numbers are due")
        if not np.isfinite(found).all() or found[0] < 1:
            raise ValueError("it is no sum: the numbers must be finite")
        self._n = int(found[0])
        self._mean, self._up, self._down, self._lowest, self._highest = map(float, found[1:])
