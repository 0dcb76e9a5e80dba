"""What calibration data is worth: how many independent scores, which rate they can carry, and what is lacking."""

from __future__ import annotations

import math

import numpy as np

from shared.errors import RateNotSupported
from shared.scoring import Float64Array

EFFECTIVE_WANTED = 100  # independent windows
EXPECTED_WANTED = 20  # normal windows above the threshold
_ROUNDING = 1e-9


def effective_size(scores_N: Float64Array) -> float:
    """How many independent scores an autocorrelated series is worth, `n / (1 + 2 sum_k rho_k)`.

    The sum ends before the first pair of lags (2m, 2m + 1) whose correlations add up to nothing or less: the initial
    positive sequence of Geyer (1992), "Practical Markov Chain Monte Carlo", Statistical Science 7(4).

    Returns:
        a number in [1, n]; 1 for a constant series.

    Example:
        >>> effective_size(np.repeat([0.0, 1.0, 1.0, 0.0, 1.0, 0.0], 50)) < 10
        True
    """
    n = len(scores_N)
    rho_N = _autocorrelation(scores_N)
    pairs_M = np.append(rho_N, np.zeros(n % 2)).reshape(-1, 2).sum(axis=1)
    positive = int(np.argmax(np.append(pairs_M, 0.0) <= 0))
    time = 2 * float(pairs_M[:positive].sum()) - 1  # 1 + 2 sum_k rho_k, with rho_0 = 1 in the first pair
    return float(np.clip(n / max(time, 1.0), 1.0, n))


def _autocorrelation(scores_N: Float64Array) -> Float64Array:
    """Correlation at lags 0..N-1, by FFT of the zero-padded series; all ones for a constant series."""
    n = len(scores_N)
    if np.ptp(scores_N) == 0:
        return np.ones(n)
    centred_N = (scores_N - scores_N.mean()) / np.ptp(scores_N)
    length = 1 << (2 * n - 1).bit_length()  # a power of two: other lengths may have large prime factors
    power = np.abs(np.fft.rfft(centred_N, length)) ** 2
    covariance_N = np.fft.irfft(power, length)[:n]
    rho_N: Float64Array = covariance_N / covariance_N[0]
    return rho_N


def least_rate(size: int, effective: float) -> float:
    """The least false alarm rate that data can carry (docs/edge/thresholds.md, "What the data can carry").

    Args:
        size: normal windows, n; the rate must leave 20 of them above the threshold.
        effective: how many independent ones they are worth; at least 100, and one above the threshold.

    Returns:
        a share of windows; infinite when the data can carry none.

    Example:
        >>> least_rate(10_000, 400.0), least_rate(10_000, 10_000.0), least_rate(10_000, 99.0)
        (0.0025, 0.002, inf)
    """
    if effective < EFFECTIVE_WANTED:
        return math.inf
    return max(1 / effective, EXPECTED_WANTED / size)


def windows_wanted(rate: float, size: int, effective: float) -> int:
    """How many normal windows a rate wants, if further ones are as alike as those there are: n of the above.

    Example:
        >>> windows_wanted(0.001, 10_000, 400.0)
        25000
    """
    independent = max(EFFECTIVE_WANTED, 1 / rate) * size / effective
    return math.ceil(max(independent, EXPECTED_WANTED / rate) * (1 - _ROUNDING))


def hours_lacking(rate: float, size: int, effective: float, windows_an_hour: float) -> float:
    """Hours of normal data that a rate wants beyond what there is; 0 when it wants none. Arguments: `check_rate`'s.

    Example:
        >>> hours_lacking(0.001, 10_000, 400.0, 3600.0) == 15_000 / 3600, hours_lacking(0.01, 10_000, 400.0, 3600.0)
        (True, 0.0)
    """
    return max(0, windows_wanted(rate, size, effective) - size) / windows_an_hour


def check_rate(rate: float, size: int, effective: float, windows_an_hour: float, what: str = "the plant") -> None:
    """Refuse a false alarm rate that the normal data cannot carry.

    Args:
        rate: share of normal windows, in (0, 1).
        size, effective: as in `least_rate`.
        windows_an_hour: how fast normal data comes in: 3600 / seconds between two windows.
        what: whose data, for the message.

    Raises:
        RateNotSupported: it cannot; says which rate it can, and how many more hours of normal data it takes.

    Example:
        >>> try:
        ...     check_rate(0.001, 10_000, 400.0, 3600.0)
        ... except RateNotSupported as error:
        ...     print(error.cure)
        Hold out about 4.2 hours more of normal operation, or ask for 0.0025 or more.
    """
    hours, least = hours_lacking(rate, size, effective, windows_an_hour), least_rate(size, effective)
    if hours == 0:
        return
    other = f"ask for {_up(least):g} or more" if least < 1 else "use the threshold as a weak one, without a promise"
    raise RateNotSupported(
        f"{what} has {size:,} normal windows, worth {effective:.0f} independent ones: too few for a false alarm rate "
        f"of {rate:g}.",
        f"Hold out about {_hours(hours)} more of normal operation, or {other}.",
    )


def _up(rate: float) -> float:
    """Rounded up to two digits, so that what is recommended is carried."""
    step = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return math.ceil(rate / step - _ROUNDING) * step


def _hours(hours: float) -> str:
    return f"{hours:,.0f} hours" if hours >= 10 else f"{max(hours, 0.1):.1f} hours"


def doubts(size: int, effective: float, rate: float | None, fit_on: str) -> list[str]:
    """Why a threshold is weak, in sentences; none when it is not. `rate`: as asked, None if the rule cannot be."""
    found = []
    wanted = max(EFFECTIVE_WANTED, 1 / rate if rate else 0)
    if effective < wanted * (1 - _ROUNDING):
        found.append(f"The {size} windows are worth {effective:.0f} independent ones; {wanted:.0f} are wanted.")
    if fit_on == "train":
        found.append("It was fitted on training data, whose scores are lower than those of new normal data.")
    return found
